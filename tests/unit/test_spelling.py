"""Slips in words that order are told; words are not."""

import pytest

from rankclip.backbones.specs import find
from rankclip.collection.ranking import doubts
from rankclip.instructions.spelling import slips


@pytest.mark.parametrize(("text", "expected"), [
    ("oldst faces first", {"oldst": "oldest"}), ("frist the newset", {"frist": "first", "newset": "newest"}), ("brigther photos first", {"brigther": "brighter"}),
    ("from brigth to dark", {"brigth": "bright"}), ("sort by sharpnes, wrost last", {"sharpnes": "sharpness", "wrost": "worst"}),
    ("olfest people first", {"olfest": "oldest"}), ("by colurfulness", {"colurfulness": "colourfulness"}), ("most coloful", {}),
    ("longed and cowering dogs", {}), ("older faces first", {}), ("colorful photos, greyest last", {}), ("a sombrero", {}), ("", {}), ("OLDST", {"oldst": "oldest"}),
])  # fmt: skip
def test_slips(text: str, expected: dict[str, str]) -> None:
    assert slips(text) == expected


def test_what_the_tokenizer_knows_is_a_word() -> None:
    mini = find("rankclip-mini")
    assert set(slips("a folder in the closet, with a holder")) == {"folder", "closet", "holder"}  # one letter from "older", "closest"
    assert doubts("a folder in the closet, with a holder", mini) == []
    assert doubts("oldst faces first", mini) == ["'oldst' is taken as it stands; if you mean 'oldest', say so"]


def test_another_language_is_not_misspelt_english() -> None:
    assert len(doubts("von alt nach jung, älteste zuerst", find("rankclip-mini"))) == 1
