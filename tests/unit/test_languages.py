"""Other languages are told, English is not."""

import pytest

from rankclip.instructions.languages import language


@pytest.mark.parametrize(("text", "expected"), [
    ("der gleiche Hund am Strand", "German"), ("von alt nach jung", "German"), ("älteste Gesichter zuerst", "German"),
    ("la même chose avec un chien", "French"), ("du plus vieux au plus jeune", "French"), ("el mismo perro en la playa", "Spanish"),
    ("dezelfde hond met een bal", "Dutch"), ("夜の写真", "Japanese"), ("то же самое ночью", "Cyrillic"), ("按年龄排序", "Chinese"),
    ("the same dog on the beach", ""), ("is de facto red", ""), ("red", ""), ("café in Paris at night", ""), ("older faces first", ""),
    ("le", ""), ("", ""), ("piñata party, most colourful first", ""), ("El Capitan at sunset", ""),
])  # fmt: skip
def test_the_language_of_an_instruction(text: str, expected: str) -> None:
    assert language(text) == expected


def test_common_names_are_no_language() -> None:
    for name in (
        "La Paz",
        "Las Vegas at night",
        "Los Angeles",
        "Rio de Janeiro beach",
        "a crème brûlée",
        "San Francisco de Asis",
        "chili con carne",
        "coq au vin",
    ):
        assert language(name) == ""
