"""Large JPEGs are decoded at a reduced size: what the tower is given stays that of the whole picture, to less than one level of 255.

Compared before the tower, since a tower in int8 answers to a single level with more than this test allows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankclip.backbones.specs import find
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.photos.samples import sample_files
from rankclip.settings import DEFAULT_MODEL

FRAME = (2400, 1800)  # px: large enough to be reduced by 2 while decoding and still like a camera's


@dataclass(frozen=True, slots=True)
class Whole(DecodeOptions):
    """Decodes every pixel."""

    @property
    def working_side(self) -> int:
        return 1 << 20


def camera_photo(path: Path, sources: list[Image.Image], rng: np.random.Generator) -> None:
    """A part of a real picture in a camera's frame, with a sensor's noise, as JPEG."""
    source = sources[rng.integers(len(sources))]
    share = rng.uniform(0.5, 0.95)
    width, height = int(source.width * share), int(source.height * share)
    left, top = int(rng.integers(source.width - width + 1)), int(rng.integers(source.height - height + 1))
    pixels = np.asarray(source.crop((left, top, left + width, top + height)).resize(FRAME, Image.Resampling.BICUBIC), np.float32)
    noise = rng.normal(0, 6, (FRAME[1], FRAME[0], 1)).astype(np.float32)
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def worst(tmp_path: Path, count: int) -> tuple[float, float]:
    """Over some photos, what the tower is given: the largest root mean square difference, in levels of 255, and the least cosine about the mean."""
    spec = find(DEFAULT_MODEL).input
    sources = [Image.open(file).convert("RGB") for file in sample_files().values()]
    rng, differences, cosines = np.random.default_rng(0), [], []
    for _ in range(count):
        camera_photo(tmp_path / "photo.jpg", sources, rng)
        reduced, whole = (decode(str(tmp_path / "photo.jpg"), options(spec)).pixels for options in (DecodeOptions, Whole))
        assert reduced is not None and whole is not None and not np.array_equal(reduced, whole), "it is reduced"
        one, other = (pixels.astype(np.float64) for pixels in (reduced, whole))
        differences.append(np.sqrt(np.mean((one - other) ** 2)))
        one, other = one - one.mean(), other - other.mean()
        cosines.append((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    return max(differences), min(cosines)


def check(tmp_path: Path, count: int) -> None:
    difference, cosine = worst(tmp_path, count)
    assert difference < 1 and cosine >= 0.999, (difference, cosine)


def test_a_reduced_photo_is_that_of_the_whole(tmp_path: Path) -> None:
    check(tmp_path, 8)


@pytest.mark.torture
def test_a_hundred_reduced_photos_are_those_of_the_whole(tmp_path: Path) -> None:
    check(tmp_path, 100)
