"""How visible a phrase must be in a photo before `diff` may tell it, from the captions of photos: some phrases look as if they were everywhere.

A phrase whose words captions never say of the photos that seem to show it ("at midday", of every plate of food) needs a stronger sight than
one that captions confirm. Captions leave most things out, so what counts is the share of a phrase beside that of all phrases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rankclip.training.generator.words import lemma

STEPS = (2.5, 2.75, 3.0, 3.25, 3.5, 4.0, 4.5, 5.0)  # standard deviations above what is usual; the first is what every phrase needs
SAID = 0.12  # of the photos that seem to show a phrase, the share whose captions say it; all phrases together have 0.2
DOUBT = 10  # photos that count as if they were as all others: a phrase is innocent until enough photos speak against it
CAPTIONS = 3  # a photo with fewer says too little
EMPTY = frozenset("a an the of in on at by is was taken somebody and with without photo person people thing animal to".split())


def needed(seen: np.ndarray, phrases: Sequence[str], captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the smallest step from which enough captions confirm each phrase, float32 [P]; the last one where none does.

    seen: float32 [N, P], how visibly the photos show the phrases. captions: of the same photos, N lists.

    >>> seen = np.array([[3.0, 3.0]] * 40 + [[0.0, 0.0]] * 40, np.float32)
    >>> needed(seen, ["a dog", "at midday"], [["a dog runs"] * 3] * 40 + [["a cat"] * 3] * 40)
    array([2.5 , 3.25], dtype=float32)
    """
    told = np.array([len(some) >= CAPTIONS for some in captions], bool)
    found = np.full(len(phrases), STEPS[0], np.float32)
    if not (seen[told] >= STEPS[0]).any():
        return found
    said = mentions(phrases, [some for some, enough in zip(captions, told, strict=True) if enough])  # bool [N, P]
    usual = float(said[seen[told] >= STEPS[0]].mean())
    for place, (column, mine) in enumerate(zip(seen[told].T, said.T, strict=True)):
        shares = {step: (mine[column >= step].sum() + usual * DOUBT) / ((column >= step).sum() + DOUBT) for step in STEPS}
        found[place] = next((step for step, share in shares.items() if share >= min(SAID, usual)), STEPS[-1])
    return found


def mentions(phrases: Sequence[str], captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Tell whose captions say every word of a phrase, in any form: bool [N, P]."""
    wanted = [content(phrase) for phrase in phrases]
    words = [frozenset(lemma(word) for text in some for word in spelled(text)) for some in captions]
    return np.array([[one <= mine for one in wanted] for mine in words], bool).reshape(len(captions), len(phrases))


def content(phrase: str) -> frozenset[str]:
    """The words of a phrase that say something; all of them where none does.

    >>> sorted(content("in a bedroom with a bed")), sorted(content("a person"))
    (['bed', 'bedroom'], ['a', 'person'])
    """
    words = [lemma(word) for word in spelled(phrase)]
    return frozenset(word for word in words if word not in EMPTY) or frozenset(words)


def spelled(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text.lower())
