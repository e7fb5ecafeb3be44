"""`diff` and `classify` as a session at the prompt; the toy's answers can be checked by eye."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_contact_sheet import opened
from tests.conftest import ROOT, Run, noise_photo, rankclip_command, square, subprocess_environment

from rankclip.collection.ranking import choose
from rankclip.evaluation.ranking import srcc
from rankclip.heads import difference, packs
from rankclip.instructions import parse
from rankclip.instructions.vocabulary import digest, sights, vocabulary


@pytest.fixture
def library(run: Run, tmp_path: Path) -> Path:
    """Ninety greyish pictures in the store, so that spreads come from a library in which a pure colour is far out."""
    rng = np.random.default_rng(0)
    for i in range(90):
        colour = tuple(int(value) for value in rng.integers(60, 190, 3))
        square(tmp_path / "library" / f"{i:02d}.png", colour, (40 + i % 9, 30 + i % 5))  # type: ignore[arg-type]
    assert run("embed", "library", "-q").code == 0
    return tmp_path / "library"


def test_a_difference_is_told_with_its_sign(run: Run, squares: Path, library: Path) -> None:
    found = run("diff", "photos/white.png", "photos/black.png")
    assert found.code == 0 and found.err == ""
    assert "  A is brighter" in found.lines[4:] and found.lines[0] == "A photos/white.png" and found.lines[-1].startswith("overall similarity 0.")
    forth, back = (json.loads(run("diff", *pair, "--json").text) for pair in (("photos/red.png", "photos/blue.png"), ("photos/blue.png", "photos/red.png")))
    assert forth["attributes"] and {one["name"]: one["z"] for one in forth["attributes"]} == {one["name"]: -one["z"] for one in back["attributes"]}
    assert len({one["group"] for one in forth["attributes"]}) == len(forth["attributes"]) <= 5


def test_a_question_is_answered_by_text_and_exit_code(run: Run, squares: Path, library: Path) -> None:
    asked = ("diff", "photos/white.png", "photos/black.png", "--ask", "which is brighter?")
    assert run(*asked).lines[3].startswith("which is brighter?  A (")
    assert run(*asked, "--exit-code").code == 10
    assert run("diff", "photos/black.png", "photos/white.png", "--ask", "which is brighter?", "--exit-code").code == 11
    one = json.loads(run(*asked, "--json").text)
    other = json.loads(run("diff", "photos/black.png", "photos/white.png", "--ask", "which is brighter?", "--json").text)
    assert (one["answer"], other["answer"]) == ("A", "B") and one["probability"] + other["probability"] == pytest.approx(1.0)
    assert (
        set(one) == {"schema", "a", "b", "ask", "answer", "probability", "attributes", "facts", "cosine", "near_duplicate"}
        and one["schema"] == "rankclip.diff/1"
    )


def test_the_same_file_twice_is_unclear(run: Run, squares: Path) -> None:
    found = run("diff", "photos/red.png", "photos/red.png", "--ask", "which is redder?", "--exit-code")
    assert found.code == 0 and "unclear" in found.text and "no clear difference" in found.text and "both are the same photo" in found.err
    assert json.loads(run("diff", "photos/red.png", "photos/red.png", "--json").text)["answer"] == "unclear"


def test_near_duplicates_show_no_clear_difference(run: Run, library: Path, tmp_path: Path) -> None:
    told = 0
    for seed in range(20):
        one = noise_photo(tmp_path / "near" / f"{seed}a.png", seed, (128, 96))
        with Image.open(one) as picture:
            picture.resize((120, 90)).save(tmp_path / "near" / f"{seed}b.jpg", quality=82)
        found = json.loads(run("diff", one, tmp_path / "near" / f"{seed}b.jpg", "--json").text)
        told += bool(found["attributes"])
        assert found["near_duplicate"]
    assert told <= 1, "at most 5 % false differences"


def test_own_opposites_are_compared_too(run: Run, squares: Path, library: Path, tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("red\tblue\n")
    found = json.loads(run("diff", "photos/red.png", "photos/blue.png", "--attributes", "own.tsv", "--top", 9, "--json").text)
    assert [one["more"] for one in found["attributes"] if one["group"] == "own"] == ["A"]
    (tmp_path / "own.tsv").write_text("red\n")
    wrong = run("diff", "photos/red.png", "photos/blue.png", "--attributes", "own.tsv")
    assert wrong.code == 2 and "own.tsv, line 1" in wrong.err


def test_many_pairs_in_order_with_errors_between(run: Run, squares: Path, library: Path) -> None:
    (squares / "broken.png").write_bytes(b"\x89PNG nothing")
    rows = [{"a": "photos/red.png", "b": "photos/blue.png", "ask": "which is redder?"}, {"a": "photos/gone.png", "b": "photos/red.png"},
            {"a": "photos/broken.png", "b": "photos/red.png"}, {"a": "photos/blue.png", "b": "photos/red.png", "ask": "which is redder?"},
            {"a": "photos/red.png", "b": "photos/blue.png", "ask": "a dog"}]  # fmt: skip
    found = run("diff", "--pairs", "-", stdin="".join(json.dumps(row) + "\n" for row in rows).encode())
    answers = [json.loads(line) for line in found.lines]
    assert found.code == 0 and [one["a"] for one in answers] == [row["a"] for row in rows]
    assert [one.get("answer") for one in answers] == ["A", None, None, "B", None]
    assert "no such photo" in answers[1]["error"] and "broken.png" in answers[2]["error"] and "does not say what to compare by" in answers[4]["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_of_pairs_ends_at_the_first_signal(run: Run, squares: Path, number: signal.Signals) -> None:
    heard = partial(signal.signal, number, signal.SIG_DFL)  # who runs the tests may ignore it, as a shell does for what it starts with &
    with subprocess.Popen(rankclip_command("diff", "--pairs", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          cwd=squares.parent, env=subprocess_environment(), preexec_fn=heard) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b'{"a": "photos/red.png", "b": "photos/blue.png"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["attributes"] is not None, "an answer comes before the next line is read"
        process.send_signal(number)
        assert process.wait(timeout=30) in (128 + number, -number)


@pytest.mark.parametrize("line", ["{", "[]", '{"a": "x"}', "7", '{"a": 1, "b": null}', '{"a": "x", "b": "y", "ask": 3}', '{"a": "\\ud800'])
def test_a_malformed_pair_is_named_by_its_line(run: Run, squares: Path, line: str) -> None:
    found = run("diff", "--pairs", "-", stdin=f'{{"a": "photos/red.png", "b": "photos/blue.png"}}\n{line}\n'.encode())
    assert found.code == 2 and "stdin, line 2: needs a JSON object" in found.err
    assert len(found.lines) == 1, "what came before is answered"


@pytest.mark.parametrize(("words", "said"), [
    (("photos/red.png",), "two photos or two folders"), (("photos", "photos/red.png"), "cannot be compared with a folder"),
    (("photos/red.png", "gone.png"), "gone.png: no such"), (("photos/red.png", "photos/blue.png", "--exit-code"), "--exit-code needs a question"),
    (("photos/red.png", "photos/blue.png", "--ask", "a dog"), "does not say what to compare by"), (("photos", "photos"), "one folder holds the other"),
    (("photos/red.png", "photos/blue.png", "--attributes", "none.tsv"), "no such file"), (("photos/red.png", "photos/blue.png", "--top", "0"), "--top"),
    (("photos/red.png", "photos/blue.png", "--phrases", "x"), "for two folders"), (("photos", "other", "--phrases", "none.txt"), "no such file"),
    (("photos", "other", "--ask", "which is older?", "--exit-code"), "--ask is for two photos"), (("--pairs", "x", "photos"), "give no others"),
    (("--pairs", "x", "--html", "page.html"), "--html is not for --pairs"), (("--pairs", "x", "--phrases", "y"), "--phrases is not for --pairs"),
    (("--pairs", "x", "--ask", "which is older?", "--exit-code"), "--exit-code is not for --pairs"), (("--pairs", "none.jsonl"), "none.jsonl: no such file"),
    (("photos/red.png", "photos/blue.png", "--attributes", "photos/red.png"), "photos/red.png: cannot be read"),
])  # fmt: skip
def test_wrong_words(run: Run, squares: Path, words: tuple[str, ...], said: str) -> None:
    square(squares.parent / "other/a.png", (1, 2, 3))
    found = run("diff", *words)
    assert found.code == 2 and said in found.err and found.text == ""


def test_an_unreadable_photo_and_an_empty_folder(run: Run, squares: Path, tmp_path: Path) -> None:
    (squares / "broken.png").write_bytes(b"\x89PNG nothing")
    found = run("diff", "photos/red.png", "photos/broken.png")
    assert found.code == 2 and "broken.png" in found.err and "each of the two must be a photo that can be read" in found.err
    (tmp_path / "empty").mkdir()
    found = run("diff", "photos", "empty")
    assert found.code == 4 and "empty: no photos found" in found.err


def test_photos_outside_the_store_are_read_on_the_spot(run: Run, tmp_path: Path) -> None:
    one, other = square(tmp_path / "x" / "a.png", (220, 30, 30)), square(tmp_path / "x" / "b.png", (30, 60, 210))
    assert json.loads(run("diff", one, other, "--ask", "which is redder?", "--json").text)["answer"] == "A"


def test_what_sets_two_folders_apart(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(30):
        for name, base in (("warm", (225, 40, 30)), ("cold", (30, 60, 205))):
            square(tmp_path / name / f"{i}.png", tuple(int(value) for value in np.clip(np.array(base) + rng.integers(-25, 25, 3), 0, 255)), (40 + i, 30))  # type: ignore[arg-type]
    found = json.loads(run("diff", "warm", "cold", "--json", "-q").text)
    traits = {one["name"]: one for one in found["attributes"]}
    assert traits and all(one["q"] <= 0.05 for one in traits.values())
    assert {one["more"] for one in traits.values() if one["name"] in ("redness", "blueness")} <= {"A", "B"}
    (tmp_path / "phrases.txt").write_text("red\nsomething green\n")
    asked = json.loads(run("diff", "warm", "cold", "--json", "-q", "--phrases", "phrases.txt").text)
    assert found["tested"] < asked["tested"] <= found["tested"] + 2, "those that are nearest to a photo"
    assert all(one["share_a" if one["text"].startswith("A") else "share_b"] >= 0.05 for one in traits.values())
    assert found["photos_a"] == found["photos_b"] == 30 and all(path.startswith(("warm/", "cold/")) for one in traits.values() for path in one["examples"])
    text = run("diff", "warm", "cold", "-q").text
    assert text.startswith("A warm (30 photos)\nB cold (30 photos)\n")


def test_two_halves_of_one_folder_do_not_differ(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for i in range(80):
        square(tmp_path / ("a" if i % 2 else "b") / f"{i}.png", tuple(int(value) for value in rng.integers(0, 255, 3)), (40 + i, 30))  # type: ignore[arg-type]
    assert "no clear difference" in run("diff", "a", "b", "-q").text


def test_the_page_shows_both_photos(run: Run, squares: Path, tmp_path: Path) -> None:
    assert run("diff", "photos/red.png", "photos/blue.png", "--html", "page.html").code == 0
    text = (tmp_path / "page.html").read_text()
    assert text.count("<img alt=") == 2 and "data:image/jpeg;base64," in text and "http" not in text.replace("https://", "http")
    assert "overall similarity" in text and "<b>A</b> photos/red.png" in text


def test_the_page_in_a_browser(run: Run, squares: Path, tmp_path: Path) -> None:
    odd = square(squares / '<b>odd & "quoted".png', (200, 60, 60))
    assert run("diff", odd, "photos/blue.png", "--html", "page.html").code == 0
    page = opened(tmp_path / "page.html")
    assert page["heading"] == "What differs" and page["widths"] == [48, 48] and len(page["captions"]) == 2
    assert '<b>odd & "quoted".png' in page["captions"][0] and page["items"] >= 2
    assert page["asked"] == [f"file://{tmp_path}/page.html"] and page["problems"] == []


def test_classify(run: Run, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    rows = {Path(line.split("\t")[2]).stem: line.split("\t")[0] for line in run("classify", "photos", "-q").lines}
    assert [rows[name] for name in ("red", "green", "blue")] == ["red", "green", "blue"]
    (tmp_path / "differences.jsonl").write_text('{"a": "red", "b": "blue", "text": "The first is red, while the second is blue."}\n')
    plain = [json.loads(line) for line in run("classify", "photos", "--json", "-q").lines]
    same = [json.loads(line) for line in run("classify", "photos", "--json", "-q", "--comparative", "differences.jsonl", "--alpha", 1).lines]
    assert plain == same, "alpha 1 is zero-shot exactly"
    chosen = json.loads(run("classify", "photos", "--json", "-q", "--comparative", "differences.jsonl", "--alpha", "auto").lines[0])
    assert (
        chosen["schema"] == "rankclip.classify/1"
        and 0.8 <= chosen["alpha"] <= 1.0
        and sum(one["probability"] for one in chosen["classes"]) == pytest.approx(1, abs=1e-3)
    )
    assert "easily confused" in run("classify", "photos").err


@pytest.mark.parametrize(("classes", "compared", "words", "said"), [
    ("red\n", "", (), "at least two classes"), (None, "", (), "cannot be read"), ("red\nblue\n", "x\n", ("--comparative", "d.jsonl"), "d.jsonl, line 1"),
    ("red\nblue\n", '{"a": "red", "b": "pink", "text": "x"}\n', ("--comparative", "d.jsonl"), "'pink' is not one of the classes"),
    ("red\nblue\n", "", ("--alpha", "2"), "--alpha must be from 0 to 1"), ("red\nblue\n", "", ("--alpha", "x"), "neither a number nor auto"),
])  # fmt: skip
def test_wrong_classes(run: Run, squares: Path, tmp_path: Path, classes: str | None, compared: str, words: tuple[str, ...], said: str) -> None:
    if classes is not None:
        (tmp_path / "classes.txt").write_text(classes)
    (tmp_path / "d.jsonl").write_text(compared)
    found = run("classify", "photos", *words)
    assert found.code == 2 and said in found.err


def test_two_examples_turn_the_order(run: Run, squares: Path) -> None:
    plain = run("rank", "photos", "from dark to bright").lines
    turned = run("rank", "photos", "from dark to bright", "--low", "photos/black.png", "--high", "photos/white.png").lines
    assert plain[0] == "photos/black.png" and turned.index("photos/white.png") < turned.index("photos/black.png"), "examples outweigh words"
    assert run("rank", "photos", "red first", "--low", "photos/red.png").code == 2
    assert "gone.png: no such photo" in run("rank", "photos", "red first", "--low", "photos/red.png", "--high", "gone.png").err
    assert "the same photo" in run("rank", "photos", "red first", "--low", "photos/red.png", "--high", squares / "red.png").err


def test_difference_needs_a_head_and_two_ends(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "from dark to bright", "--method", "difference")
    assert found.code == 6 and "finetune difference" in found.err


def test_diff_loads_no_model_runtime_and_is_quick(run: Run, squares: Path, library: Path) -> None:
    script = ("import sys; from rankclip.cli.app import app\ntry: app(['diff', 'photos/red.png', 'photos/blue.png'])\nexcept SystemExit: pass\n"
              "print(sorted({'torch', 'onnxruntime', 'PIL', 'open_clip'} & set(sys.modules)), file=sys.stderr)")  # fmt: skip
    run("embed", "photos", "-q")
    run("diff", "photos/red.png", "photos/blue.png")
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=squares.parent, env=subprocess_environment(), timeout=60)
    assert found.returncode == 0 and found.stderr.strip() == "[]", found.stderr
    best = 99.0
    for _ in range(3):
        began = os.times()
        subprocess.run(
            rankclip_command("diff", "photos/red.png", "photos/blue.png"),
            capture_output=True,
            cwd=squares.parent,
            env=subprocess_environment(),
            timeout=60,
            check=True,
        )
        ended = os.times()
        best = min(best, ended.children_user - began.children_user + ended.children_system - began.children_system)
    assert best < 2.0, "processor time; the target of 0.4 s is measured on an idle machine by the benchmarks"


# ---------------------------------------------------------------- the bundled model and its head


def test_what_the_demo_photos_show_is_told(run: Run, pictures: Path, tmp_path: Path) -> None:
    found = json.loads(run("diff", "photos/cat.jpg", "photos/coffee.jpg", "--json").text)
    said = {text for one in found["attributes"] for text in one["text"].split(", ")}
    assert said and any("cat" in text for text in said if text.startswith("A ")) and not any("cat" in text for text in said if text.startswith("B "))
    for pair in (("cat.jpg", "cat_darker.jpg"), ("motorcycle.jpg", "motorcycle_cropped.jpg"), ("astronaut.jpg", "astronaut_darker.jpg")):
        copy = json.loads(run("diff", *(f"photos/{name}" for name in pair), "--json").text)
        assert not [one for one in copy["attributes"] if "z" in one], (pair, "the quality of a darker copy is lower, but it shows the same")
    assert run("diff", "photos/astronaut.jpg", "photos/grace_hopper.jpg", "--ask", "which is older?", "--exit-code").code == 11
    run("embed", "photos", "-q")
    blurred = [run("diff", "photos/cat.jpg", "photos/cat_blurred.jpg").text for _ in range(2)]
    assert "A is higher in quality by about " in blurred[0] and blurred[0] == blurred[1], "read once by the head, then from the scores that are kept"
    assert list((tmp_path / "store").rglob("scores/*/*.f32"))


@pytest.mark.parametrize(("text", "method"), [("most crowded first", "difference"), ("from indoors to outdoors", "difference"),
                                              ("oldest buildings first", "direction"), ("a cat", "similarity")])  # fmt: skip
def test_the_head_orders_where_validation_says_that_it_is_better(text: str, method: str) -> None:
    head = packs.opened(packs.find("difference"))
    assert head is not None and "age" in head.config.plain_groups and choose(parse(text), "auto", head).method == method
    assert choose(parse(text), "auto", None).method in ("direction", "similarity")


def test_synthetic_photos_are_ordered_by_brightness(run: Run, pictures: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    light = {}
    (tmp_path / "made").mkdir()
    for i in range(200):
        patches = (rng.normal(rng.uniform(0.08, 0.92), 0.12, (6, 8, 3)).clip(0, 1) * 255).astype(np.uint8)
        picture = Image.fromarray(patches).resize((128, 96), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "made" / f"{i}.png")
        light[i] = float(np.asarray(picture.convert("L")).mean())
    order = [int(Path(line).stem) for line in run("rank", "made", "from bright to dark", "--method", "difference", "-q").lines]
    assert len(order) == 200 and srcc(np.array([light[i] for i in order]), -np.arange(200.0)) >= 0.8


def test_a_seen_instruction_needs_neither_the_weights_nor_the_rules_of_the_head(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["rank", "photos", "from bright to dark", "--method", "difference", "-q"]
    first = run(*words).lines
    read = []
    monkeypatch.setattr(difference, "sided", lambda texts, *more, real=difference.sided: [read.append(texts), real(texts, *more)][1])
    assert run(*words).lines == first and not read
    monkeypatch.setattr(difference, "READING", difference.READING + 1)
    assert run(*words).lines == first and read, "other rules are not answered for by what the old ones said"


def test_what_is_added_to_a_query_is_read_by_the_head(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ranked(*words: str) -> list[str]:
        return run("rank", "photos", "a photo", *words, "-n", "20", "--json").lines

    added, taken = ranked("--plus", "a cat"), ranked("--minus", "a cat")
    assert all("cat" in line for line in added[:4])
    monkeypatch.setattr(packs, "installed", tuple)
    assert ranked("--plus", "a cat") != added and ranked("--minus", "a cat") == taken, "what is taken away stays plain"


def test_the_documentation_shows_what_the_program_says(run: Run, pictures: Path) -> None:
    page = (ROOT / "docs/difference.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- compared -->\n```console\n(.*?)```", page, re.S)
    shown = [part.split("\n", 1) for part in re.split(r"^\$ rankclip ", block, flags=re.M)[1:]]
    assert len(shown) >= 5
    for command, printed in shown:
        assert statements(run(*shlex.split(command)).text) == statements(printed), command


def statements(printed: str) -> list[str]:
    """Lines without numbers and stars, which differ a little from machine to machine, and without what the adapter reads ("by about 32 of 100")."""
    lines = [line for line in printed.strip().splitlines() if line.strip() and " by about " not in line]
    return [" ".join(re.sub(r"[\d.,%*]+", "#", line.replace("*", "")).split()) for line in lines]


def test_the_shipped_head_knows_the_vocabulary_and_fits_its_size(run: Run) -> None:
    pack = packs.find("difference")
    head = packs.opened(pack)
    assert head is not None and head.config.vocabulary == digest(vocabulary()), "the axes were made for another vocabulary: train again"
    assert head.axes is not None and head.axes.vectors.shape == (len(vocabulary()), 384) and len(head.axes.sights) == len(sights(vocabulary()))
    assert sum(path.stat().st_size for path in pack.folder.iterdir()) <= 8_000_000
    figures = pack.card.figures
    assert figures["one_sentence"] >= 0.80 and figures["one_sentence"] - figures["untuned_one_sentence"] >= 0.12
    assert figures["reversed_pair"] >= figures["untuned_reversed_pair"] and max(figures["calibration_error"].values()) <= 0.05
