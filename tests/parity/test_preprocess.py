"""One preprocessing: our pixels equal open_clip's transform bit for bit on RGB input."""

import numpy as np
import pytest
from PIL import Image

from rankclip.backbones.preprocess import to_float
from rankclip.backbones.specs import CLIP_MEAN, CLIP_STD
from rankclip.photos.fit import fit
from rankclip.types import InputSpec

SIZES = [(640, 480), (480, 640), (224, 224), (1000, 333), (31, 500), (256, 255), (7, 7), (1, 9)]


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ours", "theirs"), [("crop", "shortest"), ("squash", "squash")])
@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [224, 256])
def test_bit_equal_to_open_clip(size: tuple[int, int], ours: str, theirs: str, filter: str, side: int) -> None:
    transform_module = pytest.importorskip("open_clip.transform")
    transform = transform_module.image_transform(side, is_train=False, mean=CLIP_MEAN, std=CLIP_STD, resize_mode=theirs, interpolation=filter)
    picture = photo(size)
    mine = to_float(fit(picture, InputSpec(side, ours, filter))[None], CLIP_MEAN, CLIP_STD)[0]
    assert np.array_equal(mine, transform(picture).numpy())


def test_the_spec_reads_back() -> None:
    for spec in (InputSpec(224), InputSpec(336, "squash", "bilinear")):
        assert InputSpec.parse(str(spec)) == spec
