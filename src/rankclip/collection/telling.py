"""What is told of a difference: which end of an attribute a photo visibly has, in words.

An axis gives a number for any two photos, a difference in age for two teapots, too. So an end is told of a photo only where the photo shows
it, and an attribute of a person only of two photos with a person in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankclip.contrast import strongest
from rankclip.instructions.vocabulary import Contrast

SEEN = 2.5  # standard deviations above what is usual, from which a photo shows a phrase
SEEN_OF_MANY = 2.0  # the same for folders, where no single photo has to be right
THERE = 0.3  # the same for the subject of an attribute, which only has to be there
OFTEN = 0.05  # share of its photos by which one folder must show a phrase more often than the other
OWN = "own"  # group of the user's own attributes, which are told whatever the photos show
COMMON = frozenset("a an the of in on at by is was taken shows more somebody and with without".split())


@dataclass(frozen=True, slots=True)
class Attribute:
    """One difference of two photos. z: in spreads of the library, positive where A is nearer the first end; more: "A" or "B"."""

    name: str
    group: str
    text: str
    more: str
    z: float
    value: float | None = None  # in the unit of the head that read it
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Looks:
    """How visibly photos A and B show each phrase: float32 [P] each, in standard deviations above what is usual. places: phrase -> position."""

    places: Mapping[str, int]
    a: np.ndarray
    b: np.ndarray

    def of(self, photo: str, phrase: str) -> float:
        """Return how visibly photo "A" or "B" shows a phrase; 0 for one that is not known."""
        place = self.places.get(phrase, -1)
        return float((self.a if photo == "A" else self.b)[place]) if place >= 0 else 0.0


@dataclass(frozen=True, slots=True)
class Statement:
    """What may be told of an axis. strength: how visible the end is plus half of |z|, 0 where nothing may be told. last: only of the last end."""

    text: str = ""
    strength: float = 0.0
    last: bool = False


def statement(one: Contrast, z: float, looks: Looks) -> Statement:
    """Say the end, or the ends, that the photos visibly have; nothing where neither does or the subject is missing.

    >>> one = Contrast("indoors", "place", "indoors", "outdoors", "is indoors", "is outdoors", False)
    >>> places, a, b = {"indoors": 0, "outdoors": 1}, np.array([3.0, 0.0]), np.array([0.0, 1.0])
    >>> statement(one, 2.0, Looks(places, a, b)).text, statement(one, 2.0, Looks(places, a, b + 2)).text, statement(one, 2.0, Looks(places, b, b)).text
    ('A is indoors', 'A is indoors, B is outdoors', '')
    """
    more, less = ("A", "B") if z > 0 else ("B", "A")
    if one.group == OWN:
        return Statement(plainly(one, z), abs(z))
    if one.subject and min(looks.of("A", one.subject), looks.of("B", one.subject)) < THERE:
        return Statement()
    ends = [(looks.of(more, one.first), f"{more} {one.more}"), (looks.of(less, one.last), f"{less} {one.less}")]
    shown = [end for end in ends if end[0] >= SEEN]
    if not shown:
        return Statement()
    clearest = max(shown)
    text = clearest[1] if one.graded else ", ".join(sorted(text for _, text in shown))
    return Statement(text, abs(z) / 2 + clearest[0], text == ends[1][1])


def plainly(one: Contrast, z: float) -> str:
    """Say a difference by its sign alone."""
    more, less = ("A", "B") if z > 0 else ("B", "A")
    return f"{more} {one.more}" if one.graded else ", ".join(sorted((f"{more} {one.more}", f"{less} {one.less}")))


def attributes(contrasts: Sequence[Contrast], z: np.ndarray, looks: Looks, *, least: float, count: int) -> list[Attribute]:
    """Tell the strongest differences, at most one a group and none twice in other words.

    z: float32 [V], in spreads of the library. least: |z| below which nothing is told.
    """
    said = [statement(one, float(value), looks) if abs(value) >= least else Statement() for one, value in zip(contrasts, z, strict=True)]
    groups = [f"{OWN}:{one.name}" if one.group == OWN else one.group for one in contrasts]
    strengths = np.array([one.strength for one in said], np.float32)
    found: list[Attribute] = []
    words: set[str] = set()
    for place in strongest(strengths, groups, least, len(contrasts)):
        one, value, mine = contrasts[place], float(z[place]), content(said[place].text)
        if len(found) < count and (one.group == OWN or not mine & words):
            words |= mine
            turned = said[place].last and one.two_things  # "A shows more cats" is no matter of dogs
            name, value = (one.last, -value) if turned else (one.name, value)
            found.append(Attribute(name, one.group, said[place].text, "A" if value > 0 else "B", round(value, 3)))
    return found


def content(text: str) -> set[str]:
    """The words of a text that say something, in the singular.

    >>> sorted(content("A shows a boat, B is on the street"))
    ['boat', 'street']
    """
    return {word.removesuffix("s") for word in re.findall(r"[a-z-]+", text) if word not in COMMON}


@dataclass(frozen=True, slots=True)
class FolderStatement:
    """What may be told of two folders. phrase: what photos of `side` show more often; strength: by how much, as a share of the photos, 0 for nothing."""

    text: str = ""
    strength: float = 0.0
    phrase: str = ""
    side: str = ""


def folder_statement(one: Contrast, effect: float, shares: Looks) -> FolderStatement:
    """Say what more photos of one folder show than of the other. shares: what share of each folder's photos shows each phrase.

    >>> one = Contrast("indoors", "place", "indoors", "outdoors", "is indoors", "is outdoors", False)
    >>> folder_statement(one, 1.0, Looks({"indoors": 0, "outdoors": 1}, np.array([0.5, 0.01]), np.array([0.1, 0.0]))).text
    'A more often is indoors'
    """
    more, less = ("A", "B") if effect > 0 else ("B", "A")
    ends = [(shares.of(side, phrase) - shares.of(other, phrase), side, phrase, text)
            for side, other, phrase, text in ((more, less, one.first, one.more), (less, more, one.last, one.less))]  # fmt: skip
    if one.group == OWN:
        return FolderStatement(plainly(one, effect), 1.0 + abs(effect), one.first, more)  # first of all
    shown = [end for end in ends if end[0] >= OFTEN]
    if not shown:
        return FolderStatement()
    strength, side, phrase, text = max(shown)
    if one.graded:
        return FolderStatement(f"{side} {text}", strength, phrase, side)
    return FolderStatement(", ".join(sorted(f"{end[1]} more often {end[3]}" for end in shown)), strength, phrase, side)
