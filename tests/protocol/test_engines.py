"""One test body for every engine that runs without weights of its own."""

from collections.abc import Callable

import numpy as np
import pytest

from rankclip.backbones.specs import TOY
from rankclip.engines.base import Engine
from rankclip.engines.toy import COLOURS, ToyEngine
from rankclip.settings import Settings

BUILDERS: list[Callable[[], Engine]] = [lambda: ToyEngine(TOY, Settings())]


@pytest.fixture(params=BUILDERS, ids=["toy"])
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.param()
    return made


def pixels(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, size, size, 3), dtype=np.uint8)


def test_images_have_the_spaces_shape(engine: Engine) -> None:
    backbone = engine.backbone
    found = engine.encode_images(pixels(3, backbone.input.size))
    assert found.pooled.shape == (3, backbone.width) and found.pooled.dtype == np.float32
    assert np.allclose(np.linalg.norm(found.pooled, axis=1), 1, atol=1e-5)
    if backbone.patches:
        assert found.tokens is not None and found.tokens.shape == (3, backbone.patches, backbone.token_width)


def test_texts_have_the_spaces_width(engine: Engine) -> None:
    found = engine.encode_texts(["red", "a photo of a cat", ""])
    assert found.shape == (3, engine.backbone.width) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_photo_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    size = engine.backbone.input.size
    one, others = pixels(1, size, 1), pixels(7, size, 2)
    for place in (0, 3, 7):
        batch = np.insert(others, place, one[0], axis=0)
        assert np.array_equal(
            engine.encode_images(batch).pooled[place], engine.encode_images(np.insert(pixels(7, size, 3), place, one[0], axis=0)).pooled[place]
        )


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.describe().count(",") == 2


@pytest.mark.parametrize("colour", COLOURS)
def test_the_toy_knows_its_colours(colour: str) -> None:
    engine = ToyEngine(TOY, Settings())
    pictures = np.stack([np.full((32, 32, 3), rgb, np.uint8) for rgb in COLOURS.values()])
    scores = engine.encode_images(pictures).pooled @ engine.encode_texts([f"a photo of something {colour}"])[0]
    assert list(COLOURS)[int(scores.argmax())] == colour
