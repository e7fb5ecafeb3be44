"""Camera RAW, by files made here: the embedded preview where it will do, else a development; upright; the pixel cap before either."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run, square
from tests.dng import dng
from tests.unit.test_decode import TURNS, close, picture

from rankclip.errors import PhotoError
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.photos.facts import SHORT_SIDE
from rankclip.types import InputSpec

pytestmark = pytest.mark.skipif(importlib.util.find_spec("rawpy") is None, reason="needs rawpy")
OPTIONS = DecodeOptions(InputSpec(32, "squash"))
GREEN = Image.new("RGB", (1000, 960), (30, 160, 30))  # what the sensor saw, so that it cannot be taken for the preview


def preview(short_side: int = SHORT_SIDE) -> Image.Image:
    return picture().resize((short_side * 3 // 2, short_side))


def is_green(pixels: np.ndarray | None) -> bool:
    """pixels: uint8 [H, W, 3] of a development, whose exact colours are LibRaw's matter."""
    return pixels is not None and bool((pixels[..., 1].astype(int) > 2 * pixels[..., [0, 2]].max(-1).astype(int) + 50).all())


def test_the_embedded_preview_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(dng(GREEN, preview()))
    preview().save(tmp_path / "a.png")
    found = decode(str(tmp_path / "a.dng"), OPTIONS)
    assert close(found, decode(str(tmp_path / "a.png"), OPTIONS)) and found.facts is not None
    assert (found.facts.format, found.facts.width, found.facts.height, found.facts.camera) == ("RAW", SHORT_SIDE * 3 // 2, SHORT_SIDE, "ACME One")


@pytest.mark.parametrize("small", [None, preview(SHORT_SIDE - 2)], ids=["no preview", "small preview"])
def test_without_a_large_preview_it_is_developed(tmp_path: Path, small: Image.Image | None) -> None:
    (tmp_path / "a.nef").write_bytes(dng(GREEN, small))
    found = decode(str(tmp_path / "a.nef"), OPTIONS)
    assert is_green(found.pixels) and found.facts is not None and (found.facts.width, found.facts.height) == (500, 480), "half of each side"


def test_it_is_turned_upright(tmp_path: Path) -> None:
    picture().save(tmp_path / "upright.png")
    upright = decode(str(tmp_path / "upright.png"), OPTIONS)
    tried = 0
    for turn in (3, 6, 8):  # those that cameras write
        (tmp_path / f"{turn}.dng").write_bytes(dng(GREEN, preview().transpose(TURNS[turn]), turn))
        assert close(decode(str(tmp_path / f"{turn}.dng"), OPTIONS), upright), turn
        (tmp_path / f"developed{turn}.dng").write_bytes(dng(GREEN, None, turn))
        facts = decode(str(tmp_path / f"developed{turn}.dng"), OPTIONS).facts
        assert facts is not None and (facts.width, facts.height) == ((500, 480) if turn == 3 else (480, 500))
        tried += 1
    assert tried == 3


@pytest.mark.parametrize("small", [None, preview()], ids=["development", "preview"])
def test_the_pixel_cap_comes_before_the_pixels(tmp_path: Path, small: Image.Image | None) -> None:
    (tmp_path / "a.dng").write_bytes(dng(GREEN, small))
    with pytest.raises(PhotoError, match="--max-megapixels") as error:
        decode(str(tmp_path / "a.dng"), DecodeOptions(OPTIONS.spec, max_pixels=100_000))
    assert error.value.kind == "too-large" and ("1000 x 960" in error.value.reason) == (small is None)


def test_a_pair_of_raw_and_jpeg_counts_once_where_that_is_asked(run: Run, tmp_path: Path) -> None:
    square(tmp_path / "photos/one.jpg", (220, 30, 30))
    (tmp_path / "photos/one.dng").write_bytes(dng(GREEN, None))
    (tmp_path / "photos/two.dng").write_bytes(dng(GREEN.resize((960, 1000)), None))
    assert run("rank", "photos", "green first").lines[-1] == "photos/one.jpg" and len(run("rank", "photos", "green first").lines) == 3
    assert run("rank", "photos", "green first", "--unique").lines == ["photos/two.dng", "photos/one.jpg"]


def test_a_folder_of_them_is_embedded_and_a_broken_one_named(run: Run, tmp_path: Path) -> None:
    square(tmp_path / "photos/red.jpg", (220, 30, 30))
    (tmp_path / "photos/green.dng").write_bytes(dng(GREEN, None))
    (tmp_path / "photos/cut.dng").write_bytes(dng(GREEN, None)[:5_000])
    found = run("embed", "photos")
    assert found.code == 3 and "2 new" in found.err and "rankclip: photos/cut.dng: RAW: " in found.err
    assert run("rank", "photos", "green first").lines == ["photos/green.dng", "photos/red.jpg"]


def test_the_reason_is_in_words(tmp_path: Path) -> None:
    data = dng(GREEN, None)
    (tmp_path / "short.dng").write_bytes(data[: len(data) // 3])
    with pytest.raises(PhotoError) as error:
        decode(str(tmp_path / "short.dng"), OPTIONS)
    assert "b'" not in error.value.reason and error.value.reason.startswith("RAW: ")
