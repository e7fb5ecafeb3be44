"""The vocabulary of `diff`: pairs of opposites as two phrases to compare by, the words that tell the answer, and what must be seen for it.

Made from the parser's lexicon without the axes that a photo does not show (`untold.txt`), and from kinds of things, places and doings that
exclude each other (`kinds.tsv`). A user's own pairs come from a file of the lexicon's form (`--attributes FILE`).
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
DRESSED = ("in a suit", "in casual clothes", "in a uniform", "in swimwear", "alone")  # as running: of somebody
WHEN = ("by day", "at night", "at sunset", "at midday", "in summer", "in winter", "in autumn", "in spring")


@dataclass(frozen=True, slots=True)
class Contrast:
    """One attribute with two ends. first, last: phrases. more, less: what is told of the photo nearer the first or the last end.

    subject: what both photos must show for the attribute to mean anything, "" for photos of anything.
    """

    name: str
    group: str
    first: str
    last: str
    more: str
    less: str
    graded: bool  # "A is brighter"; else one or the other: "A is indoors, B is outdoors"
    subject: str = ""

    @property
    def two_things(self) -> bool:
        """Tell whether the ends are two things, dogs and cats, rather than more and less of one, brightness."""
        return not self.graded or self.more.startswith("shows ")


def contrast(pair: Antonyms) -> Contrast:
    """Turn a pair of opposites into phrases.

    >>> one = contrast(Antonyms("light", "adj", "bright", "dark", "brightness"))
    >>> one.first, one.more, one.less
    ('a bright photo', 'is brighter', 'is darker')
    """
    if pair.form == "adj":
        subject = "person" if pair.positive in OF_PEOPLE else SUBJECTS.get(pair.group, "photo")
        ends = [f"{'an' if word[0] in 'aeiou' else 'a'} {word} {subject}" for word in (pair.positive, pair.negative)]
        needed = f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}" if subject in ("person", "animal") else ""
        return Contrast(pair.axis, pair.group, ends[0], ends[1], f"is {comparative(pair.positive)}", f"is {comparative(pair.negative)}", True, needed)
    if pair.form == "noun":
        return Contrast(pair.axis, pair.group, pair.positive, pair.negative, f"shows more {pair.positive}", f"shows more {pair.negative}", True)
    first, last = pair.positive.removeprefix("of "), pair.negative.removeprefix("of ")
    return Contrast(pair.axis, pair.group, first, last, stated(pair.positive), stated(pair.negative), False)


def stated(phrase: str) -> str:
    """Say of a photo what a phrase means.

    >>> stated("of a dog"), stated("indoors"), stated("running"), stated("at night"), stated("with a hat"), stated("without a hat"), stated("in a suit")
    ('shows a dog', 'is indoors', 'shows somebody running', 'was taken at night', 'shows a hat', 'shows no hat', 'shows somebody in a suit')
    """
    if phrase.startswith(("of ", "with ")):
        return f"shows {phrase.partition(' ')[2]}"
    if phrase.startswith("without "):
        return f"shows no {phrase.removeprefix('without ').removeprefix('a ')}"
    if phrase == "together":
        return "shows people together"
    if phrase.split()[0].endswith("ing") or phrase in DRESSED:
        return f"shows somebody {phrase}"
    return f"{'was taken' if phrase in WHEN else 'is'} {phrase}"


@cache
def vocabulary() -> tuple[Contrast, ...]:
    """Return the contrasts that ship with rankclip."""
    untold = frozenset(lines_of("untold.txt"))
    kinds = (line.split("\t") for line in lines_of("kinds.tsv"))
    others = (contrast(Antonyms(group, "either", one, other, one.removeprefix("of "))) for group, one, other in kinds)
    return (*(contrast(pair) for pair in pairs() if pair.axis not in untold), *others)


@cache
def scenes() -> tuple[str, ...]:
    """Return short captions, of which those nearest to some photo are proposed for what sets two folders apart."""
    return tuple(lines_of("scenes.txt"))


def sights(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    """Return every phrase that a photo must show for one of the contrasts to be told of it."""
    return tuple(dict.fromkeys(phrase for one in contrasts for phrase in (one.first, one.last, one.subject) if phrase))


def lines_of(name: str) -> list[str]:
    """Read a list that ships with the package: its lines without comments."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def digest(contrasts: Sequence[Contrast]) -> str:
    """Name a vocabulary: a head's stored axes hold for exactly these phrases."""
    text = "\n".join(f"{one.group}\t{one.first}\t{one.last}\t{one.subject}" for one in contrasts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def group_of(attribute: str) -> str:
    """Return the group of the lexicon's first pair with this axis, or an empty text."""
    return next((pair.group for pair in pairs() if pair.axis == attribute), "")


@cache
def nouns() -> tuple[str, ...]:
    """Return everyday things, places and occasions that a folder may show more of than another."""
    return tuple(lines_of("nouns.txt"))
