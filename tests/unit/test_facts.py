"""Pixel facts: right in direction, comparable between sizes, quick."""

import time

import numpy as np
from PIL import Image, ImageFilter

from rankclip.photos.facts import pixel_facts


def scene(size: tuple[int, int] = (640, 480), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)


def test_flat_pictures() -> None:
    white, black, red = (pixel_facts(Image.new("RGB", (100, 80), colour)) for colour in ("white", "black", "red"))
    assert (white.luminance, black.luminance, white.clipped, black.clipped) == (1.0, 0.0, 1.0, 1.0)
    assert red.saturation == 1.0 and red.colourfulness > 0.2 and white.colourfulness == 0.0
    assert white.sharpness == 0.0 and white.noise == 0.0


def test_each_fact_moves_the_right_way() -> None:
    plain = pixel_facts(scene())
    assert pixel_facts(scene().filter(ImageFilter.GaussianBlur(3))).sharpness < plain.sharpness - 0.5
    assert pixel_facts(scene().point(lambda v: v // 2)).luminance < plain.luminance
    assert pixel_facts(scene().convert("L").convert("RGB")).saturation == 0.0
    noisy = np.clip(np.asarray(scene()).astype(int) + np.random.default_rng(1).normal(0, 25, (480, 640, 3)), 0, 255).astype(np.uint8)
    assert pixel_facts(Image.fromarray(noisy)).noise > plain.noise + 0.01


def test_noise_is_about_what_was_added() -> None:
    grey = np.clip(128 + np.random.default_rng(0).normal(0, 20, (448, 448)), 0, 255).astype(np.uint8)
    facts = pixel_facts(Image.fromarray(grey).convert("RGB"))
    assert abs(facts.noise * 255 - 20) < 2


def test_size_hardly_matters() -> None:
    small, large = pixel_facts(scene((640, 480))), pixel_facts(scene((2560, 1920)))
    assert abs(small.luminance - large.luminance) < 0.01 and abs(small.sharpness - large.sharpness) < 0.4


def test_tiny_pictures() -> None:
    for size in ((1, 1), (1, 9), (2, 2), (3, 3)):
        pixel_facts(Image.new("RGB", size, "red"))


def test_quick() -> None:
    picture = scene((1000, 750))
    pixel_facts(picture)
    best = min(_timed(picture) for _ in range(15))
    assert best < 0.02  # about 4 ms here; the bound only catches a change of kind


def _timed(picture: Image.Image) -> float:
    began = time.perf_counter()
    pixel_facts(picture)
    return time.perf_counter() - began
