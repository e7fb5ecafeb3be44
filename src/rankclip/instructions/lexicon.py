"""Words with an opposite: the antonym pairs of `antonyms.tsv` and every form they take ("old", "older", "oldest", "most colourful").

The same table serves the parser of instructions and the vocabulary of `diff`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from rankclip.errors import InputError, reason

IRREGULAR = {"good": ("better", "best"), "bad": ("worse", "worst"), "far away": ("farther", "farthest"),
             "high-quality": ("higher in quality", "highest in quality"), "low-quality": ("lower in quality", "lowest in quality")}  # fmt: skip
DOUBLED = frozenset(("big red hot fat thin sad wet slim dim ").split())  # the last letter doubles: bigger
SHORT = frozenset(  # two syllables or a cluster, and yet -er
    ["simple", "narrow", "gentle", "shallow", "clean", "clear", "plain", "bright", "white", "light", "tired", "cosy", "pretty", "tasty", "hollow", "humble"]
)  # fmt: skip
SPELLINGS = {"color": "colour", "colors": "colours", "colored": "coloured", "colorful": "colourful", "gray": "grey", "cozy": "cosy", "centered": "centred",
             "multicolored": "multicoloured", "savory": "savoury", "gloomier": "gloomier"}  # fmt: skip
PHOTOS = r"(?:photos?|pictures?|images?|pics|shots|snaps|ones)"  # words for what is ordered, not for what it shows
FORMS = ("adj", "noun", "either")


@dataclass(frozen=True, slots=True)
class Antonyms:
    """One pair of opposites and the axis between them."""

    group: str
    form: str  # adj: gradable; noun: more or fewer of it; either: one or the other
    positive: str
    negative: str
    axis: str


@dataclass(frozen=True, slots=True)
class Form:
    """A word form found in the lexicon: which pair, which of its ends, and how strong."""

    pair: Antonyms
    positive: bool
    degree: str  # base | comparative | superlative

    @property
    def word(self) -> str:
        return self.pair.positive if self.positive else self.pair.negative

    @property
    def opposite(self) -> str:
        return self.pair.negative if self.positive else self.pair.positive


def read_pairs(text: str, origin: str) -> tuple[Antonyms, ...]:
    """Read a table of antonyms: five columns by tabs, or two (positive, negative).

    Raises InputError naming the line.
    """
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == 2:
            cells = ["own", "adj", *cells, cells[0]]
        if len(cells) != 5 or cells[1] not in FORMS or not all(cells):
            raise InputError(f"{origin}, line {number}: expected group, form ({', '.join(FORMS)}), positive, negative, axis, or just two opposites, by tabs")
        pairs.append(Antonyms(*cells))
    return tuple(pairs)


@cache
def pairs() -> tuple[Antonyms, ...]:
    """Return the pairs that ship with rankclip."""
    return read_pairs(resources.files(__package__).joinpath("antonyms.tsv").read_text(encoding="utf-8"), "antonyms.tsv")


def user_pairs(path: Path) -> tuple[Antonyms, ...]:
    """Read a user's own pairs. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})", hint="UTF-8 text, two opposites a line with a tab between") from error
    return read_pairs(text, str(path))


def comparative(adjective: str) -> str:
    """Return "older", "more colourful".

    >>> comparative("big"), comparative("happy"), comparative("crowded")
    ('bigger', 'happier', 'more crowded')
    """
    return IRREGULAR[adjective][0] if adjective in IRREGULAR else _graded(adjective, "er", "more")


def superlative(adjective: str) -> str:
    """Return "oldest", "most colourful"."""
    return IRREGULAR[adjective][1] if adjective in IRREGULAR else _graded(adjective, "est", "most")


def _graded(adjective: str, ending: str, word: str) -> str:
    if " " in adjective or "-" in adjective or not _takes_ending(adjective):
        return f"{word} {adjective}"
    if adjective in DOUBLED:
        return adjective + adjective[-1] + ending
    if adjective.endswith("e"):
        return adjective + ending[1:]
    return adjective[:-1] + "i" + ending if re.search(r"[aeiou].*[^aeiou]y$", adjective) else adjective + ending


def _takes_ending(adjective: str) -> bool:
    syllables = len(re.findall(r"[aeiouy]+", adjective.removesuffix("e")))
    return syllables <= 1 or adjective in SHORT or (syllables == 2 and adjective.endswith("y"))


@cache
def forms() -> dict[str, Form]:
    """Map every single-word form to its pair: the first that has the word as its positive end, else the first that has it at all."""
    found: dict[str, Form] = {}
    gradable = [pair for pair in pairs() if pair.form == "adj"]
    for positive in (True, False):
        for pair in gradable:
            word = pair.positive if positive else pair.negative
            for text, degree in ((word, "base"), (comparative(word), "comparative"), (superlative(word), "superlative")):
                if " " not in text:
                    found.setdefault(text, Form(pair, positive, degree))
    return found


@cache
def axes() -> dict[str, Antonyms]:
    """Map the name of each axis ("sharpness", "age") to its pair."""
    found: dict[str, Antonyms] = {}
    for pair in pairs():
        found.setdefault(pair.axis, pair)
    return found


@cache
def opposites() -> dict[str, str]:
    """Map each end of an either-or pair to the other."""
    found: dict[str, str] = {}
    for pair in pairs():
        if pair.form != "either":
            continue
        found.setdefault(pair.positive, pair.negative)
        found.setdefault(pair.negative, pair.positive)
    return found


def spelled(word: str) -> str:
    """Return the lexicon's spelling of a word."""
    return SPELLINGS.get(word, word)
