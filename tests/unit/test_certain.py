"""What is certain about two photos: time, camera, place, size, shape, and what was measured on the pixels; each is told of the right photo."""

from dataclasses import replace

import numpy as np
import pytest

from rankclip.collection import certain
from rankclip.types import PhotoFacts, PixelFacts

GREY = PixelFacts(luminance=0.5, contrast=0.2, saturation=0.3, colourfulness=0.2, clipped=0.0, sharpness=3.0, noise=0.01)
PLAIN = PhotoFacts(400, 300, "JPEG", "2020-05-01T12:00:00", "ACME One", 48.0, 11.0, GREY)
SWAPPED = str.maketrans("AB", "BA")


def told(a: PhotoFacts | None, b: PhotoFacts | None) -> list[str]:
    return [one.text for one in certain.facts(a, b, certain.GAPS)]


@pytest.mark.parametrize(("changes", "text", "more", "value"), [
    ({"taken_at": "2022-05-01T12:00:00"}, "A was taken 2 years later", "A", 730 * 86_400), ({"taken_at": "2020-05-01T11:59:58"}, "B was taken 2 seconds later", "B", -2),
    ({"latitude": 49.0}, "taken 111 km apart", "", 111.195), ({"longitude": 11.01}, "taken 0.7 km apart", "", 0.744),
    ({"width": 800, "height": 600}, "A has 800 x 600 pixels, B 400 x 300", "A", 4.0),
    ({"pixels": replace(GREY, luminance=0.7)}, "A is brighter", "A", 0.2), ({"pixels": replace(GREY, sharpness=2.0)}, "B is sharper", "B", -1.0),
    ({"pixels": replace(GREY, contrast=0.4)}, "A is higher in contrast", "A", 0.2), ({"pixels": replace(GREY, noise=0.05)}, "A is noisier", "A", 0.04),
])  # fmt: skip
def test_a_fact_is_told_of_the_right_photo(changes: dict[str, object], text: str, more: str, value: float) -> None:
    other = replace(PLAIN, **changes)  # type: ignore[arg-type]
    (fact,) = certain.facts(other, PLAIN, certain.GAPS)
    assert (fact.text, fact.more) == (text, more) and fact.value == pytest.approx(value, abs=1e-3)
    (back,) = certain.facts(PLAIN, other, certain.GAPS)
    assert back.more == more.translate(SWAPPED), "the other way round it is told of the other one"


def test_camera_and_shape_are_told_of_both() -> None:
    assert told(replace(PLAIN, camera="Other"), PLAIN) == ["camera of A: Other, of B: ACME One"]
    assert told(replace(PLAIN, width=300, height=400), PLAIN) == ["A is upright, B is wide"]
    assert told(replace(PLAIN, width=340, height=340), PLAIN) == ["A is square, B is wide"]


def test_nothing_is_told_without_a_difference_or_where_it_is_not_known() -> None:
    assert told(PLAIN, PLAIN) == told(None, PLAIN) == told(PLAIN, None) == []
    small = replace(PLAIN, width=410, longitude=11.001, pixels=replace(GREY, luminance=0.6, sharpness=3.5))
    assert told(small, PLAIN) == [], "steps that any two photos have"
    assert told(replace(PLAIN, taken_at="", camera="", latitude=None, pixels=None), PLAIN) == []


def test_a_library_says_which_steps_count() -> None:
    library = [replace(PLAIN, pixels=replace(GREY, luminance=float(value))) for value in np.linspace(0, 1, 101)]
    assert certain.gaps(library, 60)["luminance"] == pytest.approx(0.4), "the distance of the 30th and 70th percentile"
    assert certain.gaps(library[:59], 60) == certain.GAPS, "too few to say"
