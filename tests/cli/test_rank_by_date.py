"""`rank` by when photos were taken: what the cameras wrote decides, and no model is asked."""

import json
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from tests.conftest import COLOURS, Run, square

from rankclip.engines.toy import ToyEngine

TAKEN = {"red": "2019:07:03 10:00:00", "green": "2021:01:01 00:00:00", "blue": "2003:05:06 07:08:09", "white": "0000:00:00 00:00:00"}
NEWEST = ["photos/green.jpg", "photos/red.jpg", "photos/blue.jpg", "photos/black.jpg", "photos/white.jpg"]
OLDEST = [*NEWEST[2::-1], *NEWEST[3:]]


@pytest.fixture
def dated(tmp_path: Path) -> Path:
    """Coloured pictures: three say when they were taken, one has nonsense for a date, one nothing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in COLOURS.items():
        exif = Image.Exif()
        if name in TAKEN:
            exif[ExifTags.Base.DateTime] = TAKEN[name]
        Image.new("RGB", (48, 32), colour).save(folder / f"{name}.jpg", exif=exif)
    return folder


@pytest.mark.parametrize(("instruction", "expected"), [("newest photos first", NEWEST), ("oldest photos first", OLDEST), ("by date", NEWEST),
                                                       ("sort by date taken, oldest first", OLDEST), ("in chronological order", OLDEST)])  # fmt: skip
def test_both_ways_and_without_a_date_last(run: Run, dated: Path, instruction: str, expected: list[str]) -> None:
    found = run("rank", "photos", instruction)
    assert (found.code, found.lines) == (0, expected)
    assert "2 of 5 photos do not say when they were taken and come last" in found.err


def test_what_is_printed(run: Run, dated: Path) -> None:
    objects = [json.loads(line) for line in run("rank", "photos", "oldest photos first", "--json").lines]
    assert [one.get("taken_at") for one in objects] == ["2003-05-06T07:08:09", "2019-07-03T10:00:00", "2021-01-01T00:00:00", None, None]
    assert [one["applies"] for one in objects] == [True] * 3 + [False] * 2 and {one["method"] for one in objects} == {"date"}
    assert [one["score"] for one in objects] == sorted((one["score"] for one in objects), reverse=True)
    shown = run("rank", "photos", "newest photos first", "--format", "table", "--explain")
    assert "2021-01-01 00:00:00   photos/green.jpg" in shown.text and "does not apply   photos/black.jpg" in shown.text
    assert "method:     date, because it asks when photos were taken" in shown.err and "compared" not in shown.err
    assert run("rank", "photos", "by date", "--format", "csv").lines[1].split(",")[3] == "2021-01-01T00:00:00"


def test_top_and_bottom(run: Run, dated: Path) -> None:
    assert run("rank", "photos", "newest photos", "--top", 2).lines == NEWEST[:2]
    assert run("rank", "photos", "newest photos", "--bottom", 2).lines == NEWEST[-2:]


def test_the_oldest_photo_of_a_contact_sheet_shows_its_date(run: Run, dated: Path, tmp_path: Path) -> None:
    assert run("rank", "photos", "oldest photos first", "--html", "sheet.html").code == 0
    assert "<b>1</b> · 2003-05-06 07:08:09<br>" in (tmp_path / "sheet.html").read_text()


def test_no_model_is_asked(run: Run, dated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    monkeypatch.setattr(ToyEngine, "encode_texts", lambda *_: pytest.fail("a text was embedded"))
    assert run("rank", "photos", "newest photos first").lines == NEWEST


def test_a_subject_is_set_apart(run: Run, dated: Path) -> None:
    objects = [json.loads(line) for line in run("rank", "photos", "newest photos of red first", "--json").lines]
    assert (objects[0]["path"], objects[0]["applies"]) == ("photos/red.jpg", True)
    assert not any(one["applies"] for one in objects[1:])


def test_without_any_date_looks_decide_and_that_is_said(run: Run, squares: Path) -> None:
    found = run("rank", "photos", "newest photos first", "--json")
    assert "no photo here says when it was taken: ordered by how new they look" in found.err
    assert {json.loads(line)["method"] for line in found.lines} == {"direction"}


def test_the_method_by_name(run: Run, dated: Path) -> None:
    assert run("rank", "photos", "by date", "--method", "date").lines == NEWEST
    assert json.loads(run("rank", "photos", "newest photos first", "--method", "direction", "--json").lines[0])["method"] == "direction"
    refused = run("rank", "photos", "red first", "--method", "date")
    assert (refused.code, refused.out) == (2, b"") and "'red first' does not ask when photos were taken" in refused.err


def test_a_date_that_is_new_is_seen(run: Run, dated: Path) -> None:
    """The catalogue follows the file: a photo that got a date is sorted by it."""
    run("rank", "photos", "by date")
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime] = "2022:02:02 02:02:02"
    Image.open(square(dated / "black.jpg", COLOURS["black"])).save(dated / "black.jpg", exif=exif)
    assert run("rank", "photos", "by date").lines[0] == "photos/black.jpg"
