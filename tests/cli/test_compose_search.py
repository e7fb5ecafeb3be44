"""`compose-search` as a session at the prompt; the toy's answers are exact."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import ROOT, Run, noise_photo, rankclip_command, square, subprocess_environment

from rankclip import Collection
from rankclip.registry import COMPOSERS

SHADES = {"red": (220, 30, 30), "darkred": (110, 15, 15), "green": (40, 160, 50), "darkgreen": (20, 80, 25), "blue": (30, 60, 210), "darkblue": (15, 30, 105),
          "black": (8, 8, 8), "white": (248, 248, 248)}  # fmt: skip
UNTRAINED = [name for name in COMPOSERS if name != "head"]


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, colour in SHADES.items():
        square(folder / f"{name}.png", colour)
    return folder


def cut_photo(path: Path) -> Path:
    """A JPEG of which only the first part is there."""
    noise_photo(path.with_name("whole.png"), 7, (400, 300))
    with Image.open(path.with_name("whole.png")) as whole:
        whole.save(path, "JPEG")
    path.with_name("whole.png").unlink()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def names(lines: list[str]) -> list[str]:
    return [Path(line).stem for line in lines]


def test_the_promise(run: Run, shades: Path) -> None:
    found = run("compose-search", "photos", "photos/red.png", "darker")
    assert (found.code, names(found.lines)[0]) == (0, "darkred")
    assert found.err.startswith("rankclip: 8 new, 0 unchanged; ")
    again = run("compose-search", "photos", "photos/red.png", "darker")
    assert (again.code, again.out, again.err) == (0, found.out, "")


def test_a_photo_that_is_cut_short_is_marked(run: Run, shades: Path) -> None:
    cut_photo(shades / "cut.jpg")
    assert run("embed", "photos", "--allow-truncated").code == 0
    records = list(map(json.loads, run("compose-search", "photos", "photos/red.png", "darker", "--json").lines))
    assert len(records) == 8 and [record["path"] for record in records if record.get("truncated")] == ["photos/cut.jpg"]


def test_a_reference_that_is_cut_short_is_read_where_that_is_allowed(run: Run, shades: Path, tmp_path: Path) -> None:
    cut_photo(tmp_path / "cut.jpg")
    refused = run("compose-search", "photos", "cut.jpg", "darker")
    assert refused.code == 2 and "cut.jpg: JPEG: the file is cut short (--allow-truncated reads what is there)" in refused.err
    allowed = run("compose-search", "photos", "cut.jpg", "darker", "--allow-truncated")
    assert (allowed.code, len(allowed.lines)) == (0, 8), allowed.err


@pytest.mark.parametrize("command", [("rank", "photos", "red"), ("compose-search", "photos", "photos/red.png", "darker")])
def test_a_search_reads_again_what_could_not_be_read(run: Run, shades: Path, command: tuple[str, ...]) -> None:
    cut_photo(shades / "cut.jpg")
    assert run(*command).code == 3, "known as a failure from now on"
    assert "photos/cut.jpg" not in run(*command, "--allow-truncated").lines, "a failure is remembered"
    assert "photos/cut.jpg" in run(*command, "--allow-truncated", "--retry-failed").lines


@pytest.mark.parametrize("composer", UNTRAINED)
def test_every_composer_finds_the_colour_that_is_asked_for(run: Run, shades: Path, composer: str) -> None:
    found = names(run("compose-search", "photos", "photos/darkred.png", "blue instead of red", "--composer", composer).lines)
    assert found[0] in ("blue", "darkblue") and found[-1] in ("red", "white", "black", "green") and len(found) == 7


@pytest.mark.parametrize("text", ["", "the same", "no change"])
def test_no_change_gives_the_references_own_neighbours(run: Run, shades: Path, text: str) -> None:
    found = run("compose-search", "photos", "photos/red.png", text, "--json")
    objects = [json.loads(line) for line in found.lines]
    assert Path(objects[0]["path"]).stem == "darkred"
    assert [one["score"] for one in objects] == [one["photo_cosine"] for one in objects] and "text_cosine" not in objects[0]


def test_the_reference_and_its_copies_are_left_out_unless_asked_for(run: Run, shades: Path) -> None:
    shutil.copy(shades / "red.png", shades / "copy.png")
    Image.new("RGB", (90, 90), (219, 31, 30)).save(shades / "almost.png")
    assert not {"red", "copy", "almost"} & set(names(run("compose-search", "photos", "photos/red.png", "the same").lines))
    assert set(names(run("compose-search", "photos", "photos/red.png", "the same", "--with-reference").lines)[:3]) == {"red", "copy", "almost"}


def test_a_burst_is_left_out(run: Run, shades: Path) -> None:
    def shot(name: str, blue: int, time: str) -> None:
        picture, exif = Image.new("RGB", (100, 100), (220, 30, 30)), Image.Exif()
        picture.paste((30, 60, 210), (0, 0, blue, 100))
        exif[0x010F], exif[0x0110], exif[0x0132] = "Maker", "Camera", time
        exif.get_ifd(0x8769)[0x9003] = time
        picture.save(shades / name, exif=exif)

    shot("one.jpg", 0, "2024:05:01 10:00:00")
    shot("two.jpg", 30, "2024:05:01 10:00:02")
    shot("later.jpg", 31, "2024:05:01 11:00:00")
    store = Collection("photos", engine="toy", store="store")
    cosine = store.compose_search("photos/one.jpg", "", with_reference=True)
    near = {Path(hit.path).stem: hit.photo_cosine for hit in cosine}
    assert 0.90 < near["two"] < 0.97, "the test needs a pair between the two limits"
    found = names(run("compose-search", "photos", "photos/one.jpg", "").lines)
    assert "two" not in found and "later" in found


def test_a_reference_from_elsewhere(run: Run, shades: Path, tmp_path: Path) -> None:
    other = square(tmp_path / "other" / "wine.png", (180, 25, 25))
    found = run("compose-search", "photos", other, "the same")
    assert names(found.lines)[0] in ("red", "darkred") and found.code == 0
    assert "wine" not in names(run("compose-search", "photos", other, "the same", "--with-reference").lines)
    with Collection("photos", engine="toy", store="store").opened(scan=False) as (store, _, _):
        assert not store.catalogue.files_in(str(tmp_path / "other")), "a reference does not enter the store"


@pytest.mark.parametrize("kind", ["turned", "upright"])
def test_a_heic_reference_is_upright(run: Run, shades: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.heic"
    path.write_bytes(bytes.fromhex((ROOT / f"tests/data/{kind}.heic.hex").read_text()))
    found = run("compose-search", "photos", path, "the same", "--json", "--top", 3)
    (tmp_path / "folder").mkdir()
    shutil.copy(path, tmp_path / "folder")
    expected = run("compose-search", "photos", tmp_path / "folder" / path.name, "the same", "--json", "--top", 3)
    facts = Collection(tmp_path / "folder", engine="toy", store="other")
    facts.embed()
    assert found.code == 0 and [json.loads(line)["path"] for line in found.lines] == [json.loads(line)["path"] for line in expected.lines]
    stored = facts.compose_search(path, "", with_reference=True)
    assert stored.scores[0] > 0.9999, "decoded on the fly or from the store: the same upright picture"


def test_several_references_and_changes_with_weights(run: Run, shades: Path) -> None:
    assert names(run("compose-search", "photos", "photos/red.png", "the same", "--ref", "3:photos/blue.png").lines)[0] == "darkblue"
    assert names(run("compose-search", "photos", "photos/red.png", "the same", "--ref", "0.05:photos/blue.png").lines)[0] == "darkred"
    more = run("compose-search", "photos", "photos/red.png", "green", "--and", "5:blue", "--strength", 0.9)
    assert names(more.lines)[0] in ("blue", "darkblue")
    less = run("compose-search", "photos", "photos/red.png", "green", "--and", "0.2:blue", "--strength", 0.9)
    assert names(less.lines)[0] in ("green", "darkgreen")


def test_strength(run: Run, shades: Path) -> None:
    words = ("compose-search", "photos", "photos/darkred.png", "blue", "--composer", "sum")
    assert run(*words, "--strength", 0).lines == run("compose-search", "photos", "photos/darkred.png", "the same").lines
    assert names(run(*words, "--strength", 1).lines)[0] == "blue"


def test_explain(run: Run, shades: Path) -> None:
    found = run("compose-search", "photos", "photos/red.png", "a blue dress, darker and without green, in the same style", "--explain")
    lines = found.err.splitlines()
    assert lines[0] == ("understood: 'a blue dress, darker and without green, in the same style': desired: a blue dress; without: green; "
                        "more of: a dark photo rather than a bright photo; kept: style")  # fmt: skip
    assert lines[1].startswith("method:     slerp, because no trained composer fits this model; the query's cosine with the photo is 0.")
    assert lines[2] == "compared:   photo photos/red.png | text 'a blue dress' | -0.7 x forbidden 'green' | +0.7 x changed 'a dark photo'"
    assert lines[3] == "like photo  text" and len(lines) == 4 + 7 + 1 and lines[4].endswith(found.lines[0])


def test_filters_and_formats_are_those_of_rank(run: Run, shades: Path, tmp_path: Path) -> None:
    words = ("compose-search", "photos", "photos/red.png", "blue")
    everything = run(*words).lines
    assert run(*words, "--top", 2).lines == everything[:2] and run(*words, "--bottom", 2).lines == everything[-2:]
    assert run(*words, "--min-percentile", 50).lines == everything[:4]
    assert run(*words, "-0").out.split(b"\0")[:-1] == [line.encode() for line in everything]
    assert run(*words, "--format", "csv").lines[0] == "rank,score,percentile,value,unit,path"
    assert run(*words, "--check", "--min-score", 0.99).code == 10 and run(*words, "--check").code == 0
    assert run(*words, "--html", "sheet.html", "--link-to", "best", "--top", 3).code == 0
    assert (tmp_path / "sheet.html").read_text().count("<li>") == 3 and len(list((tmp_path / "best").iterdir())) == 3
    assert run(*words, "--exact").lines == everything and run(*words, "--no-scan").lines == everything


def test_many_instructions(run: Run, shades: Path, tmp_path: Path) -> None:
    (tmp_path / "changes.txt").write_text("darker\nblue\n")
    objects = [json.loads(line) for line in run("compose-search", "photos", "photos/red.png", "--instructions", "changes.txt", "--top", 1).lines]
    assert [(one["instruction"], one["rank"], one["references"]) for one in objects] == [("darker", 1, ["photos/red.png"]), ("blue", 1, ["photos/red.png"])]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "photos/red.png"], "'photos/red.png' is a path: the instruction is missing"),
        (["darker"], "a reference photo is missing"),
        ([], "a reference photo and an instruction are missing"),
        (["photos", "nowhere.png", "darker"], "nowhere.png: no such photo"),
        (["photos", "photos", "darker"], "photos: a folder cannot be the reference"),
        (["nowhere", "photos/red.png", "darker"], "nowhere: no such file or folder"),
        (["photos", "photos/red.png", "darker", "--composer", "slurp"], "unknown composer 'slurp'"),
        (["photos", "photos/red.png", "darker", "--strength", "1.5"], "--strength must be from 0"),
        (["photos", "photos/red.png", "darker", "--ref", "nowhere.png"], "nowhere.png: no such photo"),
        (["photos", "photos/red.png", "darker", "--ref", "-1:photos/red.png"], "the weight must be a positive number"),
        (["photos", "photos/red.png", "darker", "--top", "0"], "--top must be at least 1"),
    ],
)
def test_usage_errors_write_nothing(run: Run, shades: Path, tmp_path: Path, words: list[str], message: str) -> None:
    found = run("compose-search", *words)
    assert (found.code, found.out) == (2, b"") and message in found.err
    assert not (tmp_path / "store").exists()


def test_an_unreadable_reference(run: Run, shades: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"nonsense" * 20)
    found = run("compose-search", "photos", "broken.jpg", "darker")
    assert found.code == 2 and found.out == b"" and "broken.jpg: JPEG: " in found.err and "the reference must be a photo that can be read" in found.err
    (tmp_path / "words.jpg").write_text("not a photo at all, only words")
    assert "not a picture that rankclip knows" in run("compose-search", "photos", "words.jpg", "darker").err


def test_galleries_of_none_and_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    reference = square(tmp_path / "red.png", SHADES["red"])
    assert run("compose-search", "photos", reference, "darker").code == 4
    run("embed", square(tmp_path / "other" / "blue.png", SHADES["blue"]))
    empty = run("compose-search", "photos", reference, "darker")
    assert empty.code == 4 and "no photos found in photos" in empty.err, "there is a store now, and still nothing in that folder"
    square(tmp_path / "photos" / "blue.png", SHADES["blue"])
    for composer in UNTRAINED:
        found = run("compose-search", "photos", reference, "darker and without people", "--composer", composer)
        assert (found.code, found.lines) == (0, ["photos/blue.png"]), composer
    only = run("compose-search", "photos", "photos/blue.png", "darker")
    assert only.code == 4 and "no photo is left to search besides photos/blue.png" in only.err


def test_notes_about_language_and_length(run: Run, shades: Path) -> None:
    found = run("compose-search", "photos", "photos/red.png", "der gleiche Hund am Strand, aber in blau")
    assert found.code == 0 and len(found.lines) == 7 and "reads English only" in found.err
    found = run("compose-search", "photos", "photos/red.png", "blue " * 100)
    assert found.code == 0 and "longer than the 75 tokens that toy reads" in found.err and names(found.lines)[0] in ("blue", "darkblue")


def test_head_that_is_not_there(run: Run, shades: Path) -> None:
    found = run("compose-search", "photos", "photos/red.png", "darker", "--composer", "head")
    assert found.code == 6 and "no trained composer fits toy" in found.err
    assert run("compose-search", "photos", "photos/red.png", "darker", "--head", "nothing").code == 6


def test_larger_galleries_are_proven(run: Run, tmp_path: Path) -> None:
    for seed in range(40):
        noise_photo(tmp_path / "photos" / f"{seed:02}.png", seed)
    words = ("compose-search", "photos", "photos/00.png", "more red, without blue", "--json", "--with-reference")
    for composer in UNTRAINED:
        exact = [json.loads(line) for line in run(*words, "--exact", "--composer", composer).lines]
        assert [json.loads(line) for line in run(*words, "--composer", composer, "--top", 5).lines] == exact[:5]
        assert [one["score"] for one in exact] == sorted((one["score"] for one in exact), reverse=True) and len(exact) == 40


def test_python_does_the_same(run: Run, shades: Path) -> None:
    found = Collection("photos", engine="toy", store="store").compose_search("photos/red.png", "darker", top=3)
    assert found.paths == run("compose-search", "photos", "photos/red.png", "darker", "--top", 3).lines
    assert found[0].photo_cosine is not None and found.references == ("photos/red.png",)


def test_no_torch_is_imported(run: Run, shades: Path) -> None:
    import subprocess
    import sys

    run("embed", "photos")
    assert rankclip_command("x")[:3] == [sys.executable, "-m", "rankclip"]
    code = ("import sys, runpy; sys.argv = ['rankclip', 'compose-search', 'photos', 'photos/red.png', 'darker and without green']\n"
            "try:\n    runpy.run_module('rankclip', run_name='__main__')\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            "found = {'torch', 'open_clip', 'transformers', 'PIL', 'scipy'} & set(sys.modules)\nassert not found, found\n")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment(), timeout=60)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0].endswith("darkred.png")
