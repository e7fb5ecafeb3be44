"""What a composer is trained on, as tables of features, and what it has to beat: the composers without training.

Shape letters: N photos, M instructions, C captions, n triplets, G photos of a gallery, P patches, T tokens, W and V their widths, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankclip import composing
from rankclip.composing import Composition, Material
from rankclip.evaluation import composition as metrics
from rankclip.evaluation.composition import Values
from rankclip.instructions.roles import read_roles
from rankclip.registry import COMPOSERS, resolve
from rankclip.scoring import Embed, phrase_embedding
from rankclip.training.models.composer import Shapes

STRENGTHS = (0.05, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)  # tried for the untrained composers, chosen on training triplets
TUNED_ON = 240  # training triplets that choose a strength
BLOCK = 512  # queries scored at once
HEADLINE = "R@10"


@dataclass(frozen=True, slots=True)
class Photos:
    """Features of N photos.    pooled: float32 [N, D].    tokens: float16 [N, P, W], or None where the backbone gives none."""

    pooled: np.ndarray
    tokens: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Texts:
    """M texts.    pooled: float32 [M, D].    states: float16 [M, T, V].    real: bool [M, T]."""

    names: tuple[str, ...]
    pooled: np.ndarray
    states: np.ndarray
    real: np.ndarray


@dataclass(frozen=True, slots=True)
class Triplets:
    """n rows, as numbers into the tables; -1 where there is none.

    reference, target: photos. instruction: rows of `instructions`. caption, original: rows of `captions`, what target and reference show.
    label: rows with the same number have equally right targets. right: for each row all right photos (for figures).
    """

    reference: np.ndarray
    instruction: np.ndarray
    target: np.ndarray
    caption: np.ndarray
    original: np.ndarray
    label: np.ndarray
    right: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.reference)

    def some(self, rows: np.ndarray) -> Triplets:
        parts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        right = tuple(self.right[i] for i in rows.tolist())
        return Triplets(**{name: part[rows] for name, part in parts.items() if name != "right"}, right=right)


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from. captions: pooled [C, D] of captions. described: pairs (photo, caption row) for stage 1, int64 [m, 2].
    gallery: photos that validation searches, int64 [G]. train_gallery: those that strengths and hard negatives come from."""

    photos: Photos
    instructions: Texts
    captions: np.ndarray
    train: Triplets
    val: Triplets
    gallery: np.ndarray
    train_gallery: np.ndarray
    described: np.ndarray
    embed: Embed
    wordings: dict[str, int] = field(default_factory=dict)  # instruction text -> row

    @property
    def shapes(self) -> Shapes:
        token = 0 if self.photos.tokens is None else self.photos.tokens.shape[-1]
        return Shapes(self.photos.pooled.shape[1], token, self.instructions.states.shape[-1])


# ---------------------------------------------------------------- baselines


def baselines(data: Data) -> dict[str, Any]:
    """The composers without training, each at the strength that is best on training triplets: name -> (strength, per-query values)."""
    rng = np.random.default_rng(0)
    with_photos = np.flatnonzero([bool(right) for right in data.train.right])
    some = data.train.some(np.sort(rng.permutation(with_photos)[:TUNED_ON]))
    memo = Memo(data.embed)
    found: dict[str, Any] = {
        "photo only": (0.0, untrained(data, data.val, data.gallery, "sum", 0.0, memo)),
        "text only": (1.0, whole_text(data, data.val, data.gallery)),
    }
    for name in [name for name in COMPOSERS if name != "head"]:
        tried = (
            {strength: untrained(data, some, data.train_gallery, name, strength, memo)[HEADLINE].mean() for strength in STRENGTHS} if len(some) else {0.5: 0.0}
        )
        best = max(tried, key=lambda strength: tried[strength])
        found[name] = (best, untrained(data, data.val, data.gallery, name, best, memo))
    return found


class Memo:
    """Embeds a text once."""

    def __init__(self, embed: Embed) -> None:
        self.embed = embed
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known.update(zip(new, self.embed(new), strict=True))
        return np.stack([self.known[text] for text in texts])


def untrained(data: Data, triplets: Triplets, gallery: np.ndarray, name: str, strength: float, memo: Memo) -> Values:
    """Measure an untrained composer just as `compose-search` runs it."""
    make = resolve(COMPOSERS, name, what="composer")
    roles = {int(row): read_roles(data.instructions.names[row]) for row in np.unique(triplets.instruction)}

    def compose(row: int) -> Composition:
        asked = roles[int(triplets.instruction[row])]
        text = phrase_embedding(asked.wanted, memo) if asked.wanted else None
        composition: Composition = make(Material(data.photos.pooled[triplets.reference[row]], text, (asked,), strength), memo)
        return composition

    return composed(data, triplets, gallery, compose)


def composed(data: Data, triplets: Triplets, gallery: np.ndarray, compose: Callable[[int], Composition]) -> Values:
    """Per-query figures of the composition of each row of some triplets."""
    vectors = data.photos.pooled[gallery]  # [G, D]
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), composing.SAMPLE)).astype(np.int64)]  # [S, D]

    def score(row: int) -> np.ndarray:
        composition = compose(row)
        values = list((vectors @ np.stack([term.vector for term in composition.terms], axis=1)).T)  # J x [G]
        return values[0] if composition.linear else composing.combine(composition, values, composing.calibrate(composition, sample))

    return measured(data, triplets, gallery, lambda rows: np.stack([score(row) for row in rows.tolist()]))


def as_told(data: Data, rows: np.ndarray) -> np.ndarray:
    """The texts that a head is given in a search, which leaves out what is forbidden or compared.    rows: of `instructions`, int64 [B]; returned, too."""
    found = {row: read_roles(data.instructions.names[row]) for row in np.unique(rows).tolist()}
    told = {row: data.wordings.get(roles.for_head, row) for row, roles in found.items()}
    return np.array([told[row] for row in rows.tolist()], np.int64)


def whole_text(data: Data, triplets: Triplets, gallery: np.ndarray) -> Values:
    """The instruction's own embedding, the photo left aside."""
    vectors, texts = data.photos.pooled[gallery], data.instructions.pooled
    return measured(data, triplets, gallery, lambda rows: texts[triplets.instruction[rows]] @ vectors.T)


def measured(data: Data, triplets: Triplets, gallery: np.ndarray, scores: Callable[[np.ndarray], np.ndarray]) -> Values:
    """Per-query figures of any scores.    scores: rows int64 [B] -> float [B, G]."""
    column = np.full(len(data.photos.pooled), -1)
    column[gallery] = np.arange(len(gallery))
    rows = np.flatnonzero([bool(right) for right in triplets.right])
    blocks = (scores(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
    return metrics.triplets(blocks, column[triplets.reference[rows]].tolist(), [[int(column[one]) for one in triplets.right[i]] for i in rows.tolist()])
