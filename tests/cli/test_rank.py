"""`rank` as a session at the prompt. Asserts whole outputs: the toy's answers are exact."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import Run, noise_photo, square

from rankclip.engines.toy import ToyEngine

RED_FIRST = [b"photos/red.png", b"photos/blue.png", b"photos/white.png", b"photos/black.png", b"photos/green.png"]


def test_the_promise(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "red first")
    assert (found.code, found.out.splitlines()) == (0, RED_FIRST)
    assert found.err == "rankclip: 5 new, 0 unchanged; " + found.err.partition("; ")[2]
    again = run("rank", "photos", "red first")
    assert (again.code, again.out, again.err) == (0, found.out, ""), "the second time nothing is new and nothing is said"


@pytest.mark.parametrize(("instruction", "best"), [("blue", "blue"), ("green photos first", "green"), ("from dark to bright", "black"), ("from bright to dark", "white"),
                                                   ("brightest first", "white"), ("brightest last", "black")])  # fmt: skip
def test_colours_and_directions(run: Run, squares: Path, instruction: str, best: str) -> None:
    assert run("rank", "photos", instruction).lines[0] == f"photos/{best}.png"


def test_json(run: Run, squares: Path) -> None:
    objects = [json.loads(line) for line in run("rank", "photos", "from dark to bright", "--json").lines]
    assert [one["rank"] for one in objects] == [1, 2, 3, 4, 5]
    assert objects[0]["schema"] == "rankclip.rank/1" and objects[0]["method"] == "direction" and objects[0]["percentile"] == 100
    assert [one["score"] for one in objects] == sorted((one["score"] for one in objects), reverse=True)


def test_null_ended_paths(run: Run, squares: Path) -> None:
    square(squares / "new\nline.png", (220, 30, 30))
    assert run("rank", "photos", "red first", "-0").out.split(b"\0")[:2] == [b"photos/new\nline.png", b"photos/red.png"]
    assert "a path holds a newline" in run("rank", "photos", "red first").err


def test_top_bottom_and_percentile(run: Run, squares: Path) -> None:
    everything = run("rank", "photos", "red first").lines
    assert run("rank", "photos", "red first", "--top", 2).lines == everything[:2]
    assert run("rank", "photos", "red first", "--bottom", 2).lines == everything[-2:]
    assert run("rank", "photos", "red first", "--min-percentile", 50).lines == everything[:3]
    assert run("rank", "photos", "red first", "--min-score", 0.5).lines == everything[:1]
    assert [json.loads(line)["rank"] for line in run("rank", "photos", "red first", "--bottom", 2, "--json").lines] == [4, 5]


def test_check_answers_by_exit_code(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "red", "--check", "--min-score", 0.5, "-q")
    assert (found.code, found.out) == (0, b"")
    assert run("rank", "photos", "red", "--check", "--min-score", 0.999).code == 10


def test_one_argument_is_an_instruction_for_here(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(squares)
    assert run("rank", "red first").lines[0] == "./red.png"


def test_a_path_alone_lacks_an_instruction(run: Run, squares: Path) -> None:
    found = run("rank", "photos")
    assert (found.code, found.out) == (2, b"")
    assert found.err == "rankclip: 'photos' is a path: the instruction is missing\n  for example: rankclip rank photos \"older faces first\"\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", ""], "the instruction is empty"),
        (["photos", "from dark to"], "one end of the order is missing"),
        (["nowhere", "red"], "nowhere: no such file or folder"),
        (["photos", "red", "--format", "jsno"], "unknown format 'jsno'"),
        (["photos", "red", "--json", "-0"], "--json cannot be combined"),
        (["photos", "red", "--method", "simlarity"], "unknown method 'simlarity'"),
        (["photos", "red", "--method", "direction"], "method direction needs two ends"),
        (["photos", "red", "--top", "0"], "--top must be at least 1"),
        (["photos", "red", "--bottom", "1", "--top", "1"], "--bottom cannot be combined"),
        (["photos", "red", "--tpo", "1"], "No such option: --tpo"),
        (["photos", "red", "--null"], "--null needs --files-from"),
        (["photos", "red", "--engine", "toyy"], "unknown engine 'toyy'"),
    ],
)
def test_usage_errors_write_nothing(run: Run, squares: Path, tmp_path: Path, words: list[str], message: str) -> None:
    found = run("rank", *words)
    assert (found.code, found.out) == (2, b"")
    assert message in found.err
    assert not (tmp_path / "store").exists()


def test_a_folder_without_photos(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.txt").write_text("no")
    found = run("rank", "empty", "red")
    assert (found.code, found.out) == (4, b"")
    assert found.err == "rankclip: no photos found in empty\n  1 other files were left out (--hidden and --any-extension look at more)\n"
    assert not (tmp_path / "store").exists()


def test_a_broken_photo_is_named_once(run: Run, squares: Path) -> None:
    (squares / "bad.jpg").write_text("not a picture")
    found = run("rank", "photos", "red first")
    assert found.code == 3 and len(found.lines) == 5
    assert found.err.count("bad.jpg") == 1
    again = run("rank", "photos", "red first")
    assert (again.code, again.err) == (0, ""), "remembered until it changes"
    assert run("rank", "photos", "red first", "--strict").code == 3
    os.utime(squares / "bad.jpg", ns=(1, 1))
    assert run("rank", "photos", "red first").code == 3


def test_copies_are_side_by_side_and_unique_prints_one(run: Run, squares: Path) -> None:
    shutil.copy(squares / "red.png", squares / "a_copy_of_red.png")
    assert run("rank", "photos", "red first").lines[:2] == ["photos/a_copy_of_red.png", "photos/red.png"]
    assert run("rank", "photos", "red first", "--unique").lines[:2] == ["photos/a_copy_of_red.png", "photos/blue.png"]


def test_plus_and_minus(run: Run, squares: Path) -> None:
    assert run("rank", "photos", "red", "--plus", "3:blue").lines[0] == "photos/blue.png"
    assert run("rank", "photos", "a photo", "--plus", "photos/green.png").lines[0] == "photos/green.png"
    assert run("rank", "photos", "a photo", "--minus", "5:red").lines[-1] == "photos/red.png"


def test_a_photo_that_turns_the_order_may_change(run: Run, squares: Path, tmp_path: Path) -> None:
    shutil.copy(squares / "green.png", tmp_path / "mine.png")
    assert run("rank", "photos", "a photo", "--plus", "mine.png").lines[0] == "photos/green.png"
    shutil.copy(squares / "red.png", tmp_path / "mine.png")
    assert run("rank", "photos", "a photo", "--plus", "mine.png").lines[0] == "photos/red.png", "another photo under the same name"


@pytest.mark.parametrize("option", ["--plus", "--minus", "--low", "--high"])
def test_a_photo_that_turns_the_order_but_cannot_be_read(run: Run, squares: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no photo")
    other = {"--low": ("--high", "photos/red.png"), "--high": ("--low", "photos/red.png")}.get(option, ())
    found = run("rank", "photos", "from dark to bright", option, "bad.jpg", *other, "-q")
    assert (found.code, found.out) == (2, b"") and found.err.splitlines()[0].startswith(f"rankclip: {option} bad.jpg: "), found.err
    assert f"{option} must be a photo that can be read" in found.err and len(found.err.splitlines()) == 2
    if other:
        gone = run("rank", "photos", "from dark to bright", option, "gone.jpg", *other)
        assert gone.code == 2 and f"{option} gone.jpg: no such photo" in gone.err


def test_a_photo_outside_the_store_runs_through_the_tower_alone(run: Run, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    square(tmp_path / "elsewhere.png", (40, 160, 50))
    sizes, encode = [], ToyEngine.encode_images
    monkeypatch.setattr(ToyEngine, "encode_images", lambda self, pixels: [sizes.append(len(pixels)), encode(self, pixels)][1])
    assert run("rank", "photos", "a photo", "--plus", "elsewhere.png").lines[0] == "photos/green.png"
    assert sizes == [1], "not a batch of padding"


def test_no_scan_takes_the_store_as_it_is(run: Run, squares: Path) -> None:
    assert run("rank", "photos", "red", "--no-scan").code == 4
    run("embed", "photos")
    (squares / "red.png").unlink()
    assert run("rank", "photos", "red first", "--no-scan").lines[0] == "photos/red.png"
    assert "photos/red.png" not in run("rank", "photos", "red first").lines, "a missing path is not printed by default"


def test_many_instructions_in_one_process(run: Run, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("red first\n\nfrom dark to bright\n")
    objects = [json.loads(line) for line in run("rank", "photos", "--instructions", "list.txt", "--top", 1).lines]
    assert [(one["instruction"], one["path"]) for one in objects] == [("red first", "photos/red.png"), ("from dark to bright", "photos/black.png")]
    assert len(run("rank", "photos", "--instructions", "-", stdin=b"blue\n").lines) == 5


def test_an_instruction_that_is_too_long_is_told(run: Run, squares: Path) -> None:
    long = "red first " + "and nothing else " * 40
    found = run("rank", "photos", long)
    assert found.code == 0 and "the instruction is longer than the 75 tokens that toy reads; its end is ignored" in found.err
    assert "longer than" not in run("rank", "photos", "a red square, nothing else, that lies alone on a wide plain").err


def test_files_from(run: Run, squares: Path) -> None:
    listed = b"photos/red.png\0photos/blue.png\0"
    assert run("rank", "red first", "--files-from", "-", "--null", stdin=listed).lines == ["photos/red.png", "photos/blue.png"]
    assert run("rank", "red", "--files-from", "-", stdin=b"").code == 2


def test_explain_goes_to_stderr(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "from dark to bright", "--explain", "--top", 1)
    assert found.lines == ["photos/black.png"]
    assert "understood: first 'a dark photo', last 'a bright photo'; attribute: brightness (low first); rule: from X to Y" in found.err
    assert "method:     direction, because the instruction has two ends (from X to Y)" in found.err
    assert "taken as a plain sentence" in run("rank", "photos", "a red thing on the table", "--explain").err


def test_output_and_links(run: Run, squares: Path, tmp_path: Path) -> None:
    assert run("rank", "photos", "red first", "--output", "list.txt", "--link-to", "links", "--top", 2).out == b""
    assert (tmp_path / "list.txt").read_text().splitlines()[0] == "photos/red.png"
    assert sorted(os.listdir(tmp_path / "links")) == ["0001_red.png", "0002_blue.png"]
    dry = run("rank", "photos", "red first", "--copy-to", "copies", "--dry-run", "--top", 1)
    assert "would put copies/0001_red.png" in dry.err and not (tmp_path / "copies").exists()


def test_quiet_keeps_only_results(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "red first", "-q", "--explain")
    assert (len(found.lines), found.err) == (5, "")


def test_non_utf8_names(run: Run, squares: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    square(squares / "tmp.png", (220, 30, 30)).rename(squares / name)
    assert run("rank", "photos", "red first").out.splitlines()[0] == b"photos/caf\xe9.png"
    assert json.loads(run("rank", "photos", "red first", "--json").lines[0])["path_b64"] == "cGhvdG9zL2NhZukucG5n"


def test_a_gallery_of_one(run: Run, tmp_path: Path) -> None:
    noise_photo(tmp_path / "one/a.png", 1)
    assert run("rank", "one", "from dark to bright").lines == ["one/a.png"]


def test_a_locked_store_still_ranks_what_it_holds(run: Run, squares: Path, tmp_path: Path) -> None:
    from rankclip.store.store import Store

    run("embed", "photos")
    square(squares / "late.png", (1, 2, 3))
    with Store.open(tmp_path / "store", write=True):
        found = run("rank", "photos", "red first")
        assert (found.code, len(found.lines)) == (0, 5)
        assert f"process {os.getpid()} is writing; 1 photos are not in the store yet" in found.err
        locked = run("embed", "photos")
        assert locked.code == 5 and f"process {os.getpid()} is writing" in locked.err
    assert len(run("rank", "photos", "red first").lines) == 6


@pytest.mark.parametrize(("options", "fault"), [
    (["--html", "none/a.html"], "--html none/a.html: cannot be written (there is no folder none)"),
    (["--output", "photos"], "--output photos: cannot be written (is a folder)"),
    (["--copy-to", "photos"], "photos: not empty ("),
    (["--link-to", "photos"], "photos: not empty ("),
    (["--check", "--html", "a.html"], "--check only answers by its exit code and cannot be combined with --html"),
    (["--dry-run"], "--dry-run needs --link-to or --copy-to"),
    (["--plus", "nan:beach"], "'nan:beach': nan is not a weight"),
    (["--plus", "2:"], "'2:': an empty text cannot be added or subtracted"),
])  # fmt: skip
def test_what_cannot_be_written_or_meant_is_refused_first(run: Run, squares: Path, options: list[str], fault: str) -> None:
    found = run("rank", "photos", "red first", *options)
    assert (found.code, found.out) == (2, b"") and found.err.startswith(f"rankclip: {fault}")
    assert options[0] == "--plus" or not os.path.exists("store"), "refused before any work"


def test_a_photo_to_add_that_is_not_there_is_not_a_text(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "red first", "--plus", "2:photos/blu.png")
    assert (found.code, found.err.splitlines()[-2:]) == (2, ["rankclip: --plus photos/blu.png: no such photo", "  did you mean 'photos/blue.png'?"])


@pytest.mark.parametrize("option", ["--html", "--link-to", "--copy-to"])
def test_many_orders_do_not_share_one_sheet_or_folder(run: Run, squares: Path, option: str) -> None:
    found = run("rank", "photos", "--instructions", "-", option, "x", stdin=b"red\nblue\n")
    assert (found.code, found.err.splitlines()[0]) == (2, f"rankclip: {option} takes one order and cannot be combined with --instructions")


def test_messages_about_lists_name_their_option(run: Run, squares: Path) -> None:
    for options, fault in ((["--instructions", "none"], "--instructions none: no such file or directory"), (["--instructions", "-"], "--instructions -: no instructions in it"),
                           (["red", "--files-from", "none"], "--files-from none: no such file or directory"),
                           (["--instructions", "-", "-0"], "--instructions writes JSONL and cannot be combined with -0 or another --format")):  # fmt: skip
        assert run("rank", "photos", *options).err.splitlines()[0] == f"rankclip: {fault}"


def test_a_dash_is_stdout_and_quiet_is_quiet(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "red first", "--output", "-", "--copy-to", "best", "--top", "1", "-q")
    assert (found.code, found.text, found.err) == (0, "photos/red.png\n", "")
    assert not os.path.exists("-") and os.listdir("best") == ["0001_red.png"]


def test_output_into_a_pipe_or_through_a_link(run: Run, squares: Path, tmp_path: Path) -> None:
    wanted = run("rank", "photos", "red").out
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("order")
    with ThreadPoolExecutor(1) as other:
        read = other.submit(pipe.read_bytes)
        assert run("rank", "photos", "red", "--output", pipe).code == 0
        assert read.result(timeout=20) == wanted and pipe.is_fifo()
    assert run("rank", "photos", "red", "--output", link).code == 0
    assert (tmp_path / "order").read_bytes() == wanted and link.is_symlink()
