"""Slips of the pen in the words that an order hangs on: "oldst faces first" would be a plain sentence, and nobody would be told.

Two letters in the wrong order tell a slip whatever the word; a letter too many or too few, where the word would then compare ("brighter"); a wrong
letter, where it would be a superlative or another word of the grammar: "cower" and "longed" are words, and "olfest" is none.
Source: the four slips are Damerau's (1964); which of them count for which words is from the captions of 8,000 photos, where all others are mostly words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from string import ascii_lowercase

from rankclip.instructions.lexicon import SPELLINGS, axes, forms

ORDER = frozenset("first last newest oldest highest lowest fewest least order ascending descending instead without opposite".split())  # no pair has them
SHORTEST = 5  # letters: a shorter word has too many neighbours


def slips(text: str) -> dict[str, str]:
    """Words that are one slip away from a word that orders, compares or describes, with that word; it is not known here whether they are words.

    >>> slips("oldst faces frist"), slips("older faces first, cowering dogs last")
    ({'oldst': 'oldest', 'frist': 'first'}, {})
    """
    strange = dict.fromkeys(word for word in re.findall(r"[a-z]+", text.lower()) if len(word) >= SHORTEST and word not in known(""))
    return {word: right for word in strange if (right := next(meant(word), ""))}


def meant(word: str) -> Iterator[str]:
    """What somebody may have meant to write, likely slips first."""
    parts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    swapped = (before + after[1] + after[0] + after[2:] for before, after in parts if len(after) > 1)
    yield from (one for one in swapped if one in known(""))
    added = (before + letter + after for before, after in parts for letter in ascii_lowercase)
    left_out = (before + after[1:] for before, after in parts if len(after) > 1 or after == before[-1:] != "")  # other ends make other words
    yield from (one for found in (added, left_out) for one in found if one in known("comparative") or one in known("superlative"))
    changed = (before + letter + after[1:] for before, after in parts if after for letter in ascii_lowercase)
    yield from (one for one in changed if one in known("superlative"))


@cache
def known(degree: str) -> frozenset[str]:
    """The forms of all pairs of opposites in one degree; "": in all, in either spelling. Other words that order are with superlatives."""
    found = {word for word, form in forms().items() if degree in ("", form.degree)}
    found |= {*ORDER, *(axis for axis in axes() if axis.endswith("ness"))} if degree != "comparative" else set()
    found |= set() if degree else {*SPELLINGS, *SPELLINGS.values()}
    return frozenset(word for word in found if len(word) >= SHORTEST)
