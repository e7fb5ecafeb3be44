"""Reading an instruction word by word: does it order by what a task measures, and which end comes first?

A task brings its words (`Wording`): adjectives and nouns for both ends, names of the attribute, and what it may be said of. The words of ordering
("first", "from ... to", "at the bottom", "descending") are the same for all tasks. One word that is neither, and the answer is no: "sharpest knives" is not
about a photo's sharpness. Nothing here is learnt; sentences that hold none of a task's words are the matcher's.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import groupby, pairwise
from typing import Any

from rankclip.instructions.lexicon import axes, comparative, superlative

LONGEST = 5  # words of a phrase in a table
TOKEN = re.compile(r"[a-z0-9&']+|[,;:.!?]")
SPELLINGS = (("color", "colour"), ("gray", "grey"), ("-", " "), ("’", "'"), ("focussed", "focused"))


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one task, part of its record in the card. Adjectives in their base form, hyphens as spaces."""

    more: tuple[str, ...] = ()  # adjectives of the high end
    less: tuple[str, ...] = ()
    vague: tuple[str, ...] = ()  # those of them that, said of a photo, mean something else: an old photo shows nobody old
    more_nouns: tuple[str, ...] = ()  # who or what stands for the high end: "pensioners"
    less_nouns: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the attribute
    against: tuple[str, ...] = ()  # names of its reverse: "noise" for quality
    subjects: tuple[str, ...] = ()  # what, besides photos, it may be said of
    whole: bool = True  # these are all its words: any other one, and the text is not for the grammar either

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Wording:
        """Make it of its record in a card. Raises TypeError for unknown keys."""
        given: dict[str, Any] = {name: value if isinstance(value, bool) else tuple(value) for name, value in record.items()}
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Piece:
    """A word or phrase of an instruction, by the part that it plays. sign: +1 towards the high end, first or descending; -1 the other way."""

    kind: str  # end | noun | name | much | scale | rise | place | start | before | to | order | ask | how | photo | subject | pause | filler | unknown
    sign: int = 1
    graded: bool = False  # a comparative or superlative
    vague: bool = False
    base: int = 0  # the sign of the plain word beneath "most" and "least"


SCALES = ("scale", "rise")
SKIPPED = ("filler", "photo", "subject")


@cache
def ordering() -> dict[str, Piece]:
    """Return the words of ordering that are the same for all tasks: phrase -> what it is."""
    found = {mark: Piece("pause") for mark in ",;:.!?"}
    for line in resources.files(__package__).joinpath("ordering.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            kind, sign, degree, words = line.split("\t")
            found.update({word: Piece(kind, 1 if sign == "+" else -1, degree == "graded") for word in words.split(", ")})
    return found


def order(wording: Wording, text: str) -> int | None:
    """Say how a text orders by a task: +1 for its high end first, -1 for its low end first, 0 for not at all, None when the text holds none of its words.

    >>> ages = Wording(more=("old",), less=("young",), names=("age",), subjects=("people",))
    >>> [order(ages, text) for text in ("people, oldest last", "by age", "old cars first", "at night")]
    [-1, 1, 0, None]
    """
    pieces = list(split(text, table(wording)))
    if not any(piece.kind in ("end", "noun", "name") for piece in pieces):
        return None
    if any(piece.kind == "unknown" for piece in pieces) or of_photos_only(pieces) or of_numbers(pieces):
        return 0
    found = resolved(list(merged(pieces)))
    if any(piece.kind == "unknown" for piece in found):
        return 0
    signs = set(related(found) or placed(found) or scaled(found) or alone(found))
    return signs.pop() if len(signs) == 1 else 0


@cache
def table(wording: Wording) -> dict[str, Piece]:
    """All words of a task with the words of ordering: phrase -> what it is; the task's own words count first."""
    found = dict(ordering())
    found.update({word: Piece("subject") for word in wording.subjects})
    for kind, sign, words in (("noun", 1, wording.more_nouns), ("noun", -1, wording.less_nouns), ("name", 1, wording.names), ("name", -1, wording.against)):
        found.update({word: Piece(kind, sign, base=sign) for word in words})
    for sign, adjectives in ((1, wording.more), (-1, wording.less)):
        for word in adjectives:
            plain = Piece("end", sign, graded=word.endswith("est"), vague=word in wording.vague, base=sign)  # "eldest" has no plain form
            found[word] = plain
            found.update({form: replace(plain, graded=True) for form in (comparative(word), superlative(word)) if " " not in form})
    return found


def split(text: str, known: Mapping[str, Piece]) -> Iterator[Piece]:
    """Cut a text into pieces; a word that is not known is unknown."""
    return (known.get(phrase, Piece("unknown")) for phrase in phrases(text, known))


def phrases(text: str, known: Container[str]) -> Iterator[str]:
    """Cut a text into the longest phrases that are known, and single other words."""
    text = text.lower()
    for one, other in SPELLINGS:
        text = text.replace(one, other)
    words, at = TOKEN.findall(text), 0
    while at < len(words):
        size = next((size for size in range(LONGEST, 1, -1) if at + size <= len(words) and " ".join(words[at : at + size]) in known), 1)
        yield " ".join(words[at : at + size])
        at += size


def words_of(instruction: str) -> Wording:
    """The words that an instruction itself brings: after "by", or else first, the name of the attribute; others are what it is said of.

    Where the lexicon knows the attribute, its two adjectives are the ends.

    >>> words_of("Sort by tidiness").names, words_of("rank the age of the person").more
    (('tidiness',), ('old',))
    """
    known, said = ordering(), list(phrases(instruction, ordering()))
    after = said.index("by") if "by" in said else 0
    names, subjects = strangers(said[after:], known), strangers(said[:after], known)
    pair = axes().get(names[0]) if names else None
    ends = (pair.positive, pair.negative) if pair is not None and pair.form == "adj" else ()
    return Wording(more=ends[:1], less=ends[1:], names=names[:1], subjects=(*names[1:], *subjects), whole=False)


def strangers(said: Sequence[str], known: Container[str]) -> tuple[str, ...]:
    """Runs of words that are not known, each as one phrase."""
    return tuple(" ".join(words) for strange, words in groupby(said, lambda phrase: phrase not in known) if strange)


def of_photos_only(pieces: Sequence[Piece]) -> bool:
    """Whether the ends are said of photos in words that then mean something else, as in "oldest photos first"."""
    said = [piece for piece in pieces if piece.kind in ("end", "noun", "name")]
    return all(piece.vague for piece in said) and any(piece.kind == "photo" for piece in pieces) and not any(piece.kind == "subject" for piece in pieces)


def of_numbers(pieces: Sequence[Piece]) -> bool:
    """Whether it asks for many or few of somebody, as in "most children first"."""
    return any(one.kind == "much" and other.kind == "noun" for one, other in pairwise(pieces))


def merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join "most" and "least" with the word they go with, "high" and "low" with the name, "how" with its adjective; drop what plays no part."""
    at = 0
    while at < len(pieces):
        piece, after = pieces[at], following(pieces, at)
        follows = pieces[after] if after < len(pieces) else Piece("pause")
        if piece.kind == "how" and follows.kind in ("end", "name"):
            yield from (Piece("name", follows.sign), Piece("ask"))
            at = after
        elif (piece.kind == "much" and follows.kind in ("end", "name") and not follows.graded) or (piece.kind in SCALES and follows.kind == "name"):
            yield Piece("end", piece.sign * follows.sign, graded=piece.graded or piece.kind == "much", base=follows.sign)
            at = after
        elif piece.kind not in SKIPPED:
            yield piece
        after = following(pieces, at)
        who = pieces[at].kind == "end" and after < len(pieces) and pieces[after].kind == "noun"  # "oldest children": the children only say who
        at = after + 1 if who else at + 1


def following(pieces: Sequence[Piece], at: int) -> int:
    """Place of the next piece that plays a part."""
    return next((place for place in range(at + 1, len(pieces)) if pieces[place].kind not in SKIPPED), len(pieces))


def resolved(pieces: Sequence[Piece]) -> list[Piece]:
    """Give "highest" and "most" alone the attribute that the text names elsewhere; without one, "the higher" and "the lower" are places."""
    named = [piece.sign for piece in pieces if piece.kind == "name"] or [piece.base for piece in pieces if piece.kind == "end" and piece.base]
    names = any(piece.kind == "name" for piece in pieces)
    found = []
    for piece in pieces:
        if piece.kind in SCALES and not names:
            piece = replace(piece, kind="place" if piece.kind == "rise" else "unknown")
        elif piece.kind in (*SCALES, "much"):
            piece = replace(piece, kind="end", sign=piece.sign * named[0], graded=True) if named else Piece("pause")
        found.append(piece)
    return found


def related(pieces: Sequence[Piece]) -> list[int]:
    """Signs by "X before Y", "from X to Y", "X after Y"."""
    signs = []
    for at, piece in enumerate(pieces):
        if piece.kind in ("before", "to"):
            left = [one.sign for one in pieces[:at] if one.kind in ("end", "noun")][-1:]
            right = [-one.sign for one in pieces[at + 1 :] if one.kind in ("end", "noun")][:1]
            if piece.kind == "before" or (left and right):
                signs += [piece.sign * sign for sign in (*left, *right)]
    return signs


def placed(pieces: Sequence[Piece]) -> list[int]:
    """Signs by places: each goes with the end before it, else with the one after it, in its own clause if that has one; without an end, with the name."""
    signs = []
    for at, piece in enumerate(pieces):
        if piece.kind not in ("place", "start"):
            continue
        before = [one for one in reversed(pieces[:at]) if one.kind in ("end", "noun", "pause")]
        after = [one for one in pieces[at + 1 :] if one.kind in ("end", "noun", "pause")]
        nearest = [*until_pause(before), *until_pause(after)] if piece.kind == "place" else until_pause(after)
        nearest += [one for one in (*before, *after) if one.kind != "pause"] or [one for one in pieces if one.kind == "name"]
        signs += [piece.sign * one.sign for one in nearest[:1]]
    return signs


def until_pause(pieces: Sequence[Piece]) -> list[Piece]:
    end = next((at for at, piece in enumerate(pieces) if piece.kind == "pause"), len(pieces))
    return list(pieces[:end])


def scaled(pieces: Sequence[Piece]) -> list[int]:
    """Signs by "descending" and "ascending" of a name."""
    names = [piece.sign for piece in pieces if piece.kind == "name"]
    return [piece.sign * names[0] for piece in pieces if piece.kind == "order"] if names else []


def alone(pieces: Sequence[Piece]) -> list[int]:
    """Signs without a word of ordering: a comparative or superlative comes first; "by" and a name is from much to little."""
    graded = [piece.sign for piece in pieces if piece.kind == "end" and piece.graded]
    asked = any(piece.kind == "ask" for piece in pieces)
    return graded or [piece.sign for piece in pieces if piece.kind == "name" and asked]
