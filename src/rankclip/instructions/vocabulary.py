"""The vocabulary of `diff`: every pair of opposites as two phrases to compare by, and the words that tell the answer.

Made from the same table as the parser's lexicon; a user's own pairs come from a file of the same form (`--attributes FILE`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rankclip.instructions.lexicon import Antonyms, comparative, pairs

# what an adjective of a group is said of; a photo, where nothing else is said
SUBJECTS = {"people": "person", "animals": "animal", "things": "thing", "size": "thing"}
OF_PEOPLE = frozenset(
    "old elderly adult wrinkled grey-haired happy sad smiling laughing angry tired surprised confident proud lonely loving attractive cheerful".split()
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """One attribute with two ends. first, last: phrases. more, less: what is told of the photo nearer the first or the last end."""

    name: str
    group: str
    first: str
    last: str
    more: str
    less: str
    graded: bool  # "A is brighter"; else one or the other: "A: indoors, B: outdoors"


def contrast(pair: Antonyms) -> Contrast:
    """Turn a pair of opposites into phrases.

    >>> one = contrast(Antonyms("light", "adj", "bright", "dark", "brightness"))
    >>> one.first, one.more, one.less
    ('a bright photo', 'is brighter', 'is darker')
    """
    if pair.form == "adj":
        subject = "person" if pair.positive in OF_PEOPLE else SUBJECTS.get(pair.group, "photo")
        ends = [f"{'an' if word[0] in 'aeiou' else 'a'} {word} {subject}" for word in (pair.positive, pair.negative)]
        return Contrast(pair.axis, pair.group, ends[0], ends[1], f"is {comparative(pair.positive)}", f"is {comparative(pair.negative)}", True)
    if pair.form == "noun":
        return Contrast(pair.axis, pair.group, pair.positive, pair.negative, f"shows more {pair.positive}", f"shows more {pair.negative}", True)
    return Contrast(pair.axis, pair.group, pair.positive, pair.negative, pair.positive, pair.negative, False)


@cache
def vocabulary() -> tuple[Contrast, ...]:
    """Return the contrasts that ship with rankclip."""
    return tuple(contrast(pair) for pair in pairs())


def digest(contrasts: Sequence[Contrast]) -> str:
    """Name a vocabulary: a head's stored axes hold for exactly these phrases."""
    text = "\n".join(f"{one.group}\t{one.first}\t{one.last}" for one in contrasts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def group_of(attribute: str) -> str:
    """Return the group of the first pair with this axis, or an empty text."""
    return next((one.group for one in vocabulary() if one.name == attribute), "")


@cache
def nouns() -> tuple[str, ...]:
    """Return everyday things, places and occasions that a folder may show more of than another."""
    text = resources.files(__package__).joinpath("nouns.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
