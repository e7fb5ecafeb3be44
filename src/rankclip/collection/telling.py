"""What is told of a difference: which end of an attribute a photo visibly has, in words.

An axis gives a number for any two photos, a difference in age for two teapots, too. So an end is told of a photo only where the photo shows
it, and an attribute of a person only of two photos with a person in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rankclip.contrast import strongest
from rankclip.instructions.vocabulary import Contrast

SEEN = 2.5  # standard deviations above what is usual, from which a photo shows a phrase
BESIDE = 0.5  # standard deviations by which a phrase may be less visible than the most visible one that is told of the photo: others are mostly taken for it
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
    """How visibly photos A and B show each phrase: float32 [P] each, in standard deviations above what is usual. places: phrase -> position.

    told: bool [P] for "A" and "B", which phrases may be told of each; empty where nothing is held back.
    """

    places: Mapping[str, int]
    a: np.ndarray
    b: np.ndarray
    told: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, photo: str, phrase: str) -> float:
        """Return how visibly photo "A" or "B" shows a phrase; 0 for one that is not known."""
        place = self.places.get(phrase, -1)
        return float((self.a if photo == "A" else self.b)[place]) if place >= 0 else 0.0

    def shows(self, photo: str, phrase: str) -> bool:
        """Tell whether a photo may be told to show a phrase."""
        return self.of(photo, phrase) >= SEEN and bool(photo not in self.told or self.told[photo][self.places[phrase]])


def tellable(seen: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Tell which phrases may be told of a photo: bool [P]; those that are visible enough, and nearly as visible as any other of these.

    seen: float32 [P], how visibly the photo shows each phrase. needed: float32 [P], what each phrase needs at least.

    >>> tellable(np.array([4.0, 3.6, 3.0, 4.2], "f4"), np.array([2.5, 2.5, 2.5, 4.5], "f4"))
    array([ True,  True, False, False])
    """
    sure = np.where(seen >= np.maximum(needed, SEEN), seen, -np.inf)
    return np.asarray(np.isfinite(sure) & (sure >= sure.max(initial=-np.inf) - BESIDE))


@dataclass(frozen=True, slots=True)
class Statement:
    """What may be told of an axis. z: how far the photos lie apart in it, positive where A has more of it.

    strength: how visible the end is plus half of |z|, 0 where nothing may be told. last: only of the last end.
    """

    text: str = ""
    strength: float = 0.0
    last: bool = False
    z: float = 0.0


def statement(one: Contrast, z: float, looks: Looks, least: float = 0.0) -> Statement:
    """Say the end, or the ends, that the photos visibly have; nothing where neither does or the subject is missing.

    z: on the contrast's axis, in spreads of the library. least: |z| below which nothing is told.

    >>> one = Contrast("indoors", "place", "indoors", "outdoors", "is indoors", "is outdoors", False)
    >>> places, a, b = {"indoors": 0, "outdoors": 1}, np.array([3.0, 0.0]), np.array([0.0, 1.0])
    >>> statement(one, 2.0, Looks(places, a, b)).text, statement(one, 2.0, Looks(places, a, b + 2)).text, statement(one, 2.0, Looks(places, b, b)).text
    ('A is indoors', 'A is indoors, B is outdoors', '')
    """
    if one.group == OWN:
        return Statement(plainly(one, z), abs(z), z=z) if abs(z) >= least else Statement()
    if one.subject and min(looks.of("A", one.subject), looks.of("B", one.subject)) < THERE:
        return Statement()
    return of_two_things(one, looks, least) if one.two_things else of_degree(one, z, looks, least)


def of_degree(one: Contrast, z: float, looks: Looks, least: float) -> Statement:
    """Say which photo is brighter: the axis decides, and one end must be visible where it says."""
    more, less = ("A", "B") if z > 0 else ("B", "A")
    ends = [(looks.of(more, one.first), f"{more} {one.more}", looks.shows(more, one.first)),
            (looks.of(less, one.last), f"{less} {one.less}", looks.shows(less, one.last))]  # fmt: skip
    shown = [end for end in ends if end[2]]
    if not shown or abs(z) < least:
        return Statement()
    clearest = max(shown)
    return Statement(clearest[1], abs(z) / 2 + clearest[0], clearest is ends[1], z)


def of_two_things(one: Contrast, looks: Looks, least: float) -> Statement:
    """Say which photo shows a dog, and which a cat: each for itself, because a photo of neither is no more of the one than of the other."""
    ends = []
    for phrase, text, last in ((one.first, one.more, False), (one.last, one.less, True)):
        side, other = ("A", "B") if looks.of("A", phrase) > looks.of("B", phrase) else ("B", "A")
        apart = (looks.of(side, phrase) - looks.of(other, phrase)) / 2**0.5  # in spreads of the difference of two photos
        if looks.shows(side, phrase) and apart >= least:
            ends.append((looks.of(side, phrase), f"{side} {text}", last, apart if (side == "A") != last else -apart))
    if not ends:
        return Statement()
    seen, text, last, z = max(ends)
    both = ", ".join(sorted(end[1] for end in ends)) if len({end[1][0] for end in ends}) == len(ends) and not one.graded else text
    return Statement(both, abs(z) / 2 + seen, last and both == text, z)


def plainly(one: Contrast, z: float) -> str:
    """Say a difference by its sign alone."""
    more, less = ("A", "B") if z > 0 else ("B", "A")
    return f"{more} {one.more}" if one.graded else ", ".join(sorted((f"{more} {one.more}", f"{less} {one.less}")))


def attributes(contrasts: Sequence[Contrast], z: np.ndarray, looks: Looks, *, least: float, count: int) -> list[Attribute]:
    """Tell the strongest differences, at most one a group and none twice in other words.

    z: float32 [V], in spreads of the library. least: |z| below which nothing is told.
    """
    said = [statement(one, float(value), looks, least) for one, value in zip(contrasts, z, strict=True)]
    groups = [f"{OWN}:{one.name}" if one.group == OWN else one.group for one in contrasts]
    strengths = np.array([one.strength for one in said], np.float32)
    found: list[Attribute] = []
    words: set[str] = set()
    for place in strongest(strengths, groups, least, len(contrasts)):
        one, value, mine = contrasts[place], said[place].z, content(said[place].text)
        if len(found) < count and (one.group == OWN or not mine & words):
            words |= mine
            turned = said[place].last and one.two_things  # "A shows more cats" is no matter of dogs
            name, value = (one.last, -value) if turned else (one.name, value)
            found.append(Attribute(name, one.group, said[place].text, "A" if value > 0 else "B", round(value, 3)))
    return found


def content(text: str) -> set[str]:
    """The words of a text that say something, without -s and -ing.

    >>> sorted(content("A shows boats, B shows somebody drinking"))
    ['boat', 'drink']
    """
    return {word.removesuffix("s").removesuffix("ing") for word in re.findall(r"[a-z-]+", text) if word not in COMMON}


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
