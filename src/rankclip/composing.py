"""Composing: a reference photo and a change asked for in words -> scores. The sibling of `scoring`, NumPy only, no files.

Reading order is calling order: a composer (`sum_composition`, `slerp_composition`, `product_composition`, `head_composition`) turns a
`Material` into a `Composition`: linear terms (a vector each, so that every term is one scan of the store) and the rule that joins them.
`calibrate` reads from a sample of the gallery what is usual for each term, `combine` joins the terms of each photo to its score. Every rule is
monotone in every term, so that bounds on the terms are bounds on the score and the first places of a ranking can be proven.

Shape letters: G photos of a gallery, S of a sample, J terms, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankclip.instructions.roles import Roles
from rankclip.scoring import Embed, phrase_embedding, unit

SUM_SHARE = 0.8  # weight of the text at the middle strength: what FashionIQ and CIRCO ask for, and near the best on fashion edits (0.85)
SLERP_SHARE = 0.8
KEEP_SHIFT, SCENE_SHIFT = 0.15, 0.05  # product: "same" keeps more of the photo, another place or time less
DESIRED, FORBIDDEN, CHANGED = 0.5, 0.7, 0.7  # weights of the roles beside the base, in spreads of the gallery
BESIDE_HEAD = 0.3  # share of these weights beside a head's query; with all of them one right photo in six is lost (docs/composition.md)
LEAN = 0.05  # product: so much of the plain mean is added, so that photos below the gallery's mean keep an order
ENOUGH = 2.0  # spreads; a comparative that is met by so much is met
MIDDLE = 0.5  # strength at which a composer has its tuned balance
SAMPLE = 2_000  # photos of the gallery that calibrate a query
PARALLEL = 0.9995  # |cosine| above which an arc is taken as a line
NEUTRAL_TEXTS = ("a photo", "a picture", "an image", "a photo of something", "a thing", "a scene", "a place", "something")

UP, DOWN = 1.0, -1.0


@dataclass(frozen=True, slots=True)
class Material:
    """What every composer starts from.

    photo: float32 [D], unit, the references' weighted mean. text: float32 [D], unit, what the result should show, or None where the instruction
    names nothing (it only forbids or compares). said: float32 [D], unit, the instruction as a whole, what similarities are reported with, or None.
    learnt: float32 [D], unit, what a trained head made of both, or None. beside: what the head was not told.
    strength: 0 (photo only) ... 1 (text only), None: the tuned balance.
    """

    photo: np.ndarray
    text: np.ndarray | None
    roles: tuple[Roles, ...]
    strength: float | None = None
    learnt: np.ndarray | None = None
    said: np.ndarray | None = None
    beside: tuple[Roles, ...] = ()

    @property
    def share(self) -> float:
        return MIDDLE if self.strength is None else self.strength

    @property
    def neutral(self) -> bool:
        return all(roles.neutral for roles in self.roles)


@dataclass(frozen=True, slots=True)
class Term:
    """One linear part of a score.    vector: float32 [D].    sign: whether more of it is better (UP) or worse (DOWN).    start: for a comparative, the
    reference's own projection; photos are measured from there."""

    role: str  # photo | text | query | desired | forbidden | changed
    name: str
    vector: np.ndarray
    weight: float = 1.0
    sign: float = UP
    start: float | None = None


@dataclass(frozen=True, slots=True)
class Composition:
    """How a photo's score comes about. photo, text: what the two reported similarities are taken with, float32 [D]."""

    terms: tuple[Term, ...]
    rule: str  # linear | product
    photo: np.ndarray
    text: np.ndarray | None
    gamma: float = MIDDLE  # product: the photo's share
    balance: str = ""  # what came from the photo and what from the text, in words

    @property
    def linear(self) -> bool:
        """Whether the score is one plain cosine."""
        return len(self.terms) == 1 and self.rule == "linear"

    @property
    def meaning(self) -> str:
        return "cosine" if self.linear else "match"


Compose = Callable[[Material, Embed], Composition]  # what a composer is


# ---------------------------------------------------------------- composers


def sum_composition(material: Material, embed: Embed) -> Composition:
    """The weighted mean of photo and text, normalised.    Source: the common baseline, e.g. Vo et al. 2019, section 4."""
    if material.text is None or material.neutral:
        return _photo_alone(material, embed)
    share = leaning(material.share, SUM_SHARE)
    query = unit((1 - share) * material.photo + share * material.text)  # [D]
    return _linear(material, query, embed)


def slerp_composition(material: Material, embed: Embed) -> Composition:
    """The point on the arc from photo to text.    Source: Jang et al. 2024 (spherical linear interpolation for composed retrieval)."""
    if material.text is None or material.neutral:
        return _photo_alone(material, embed)
    query = slerp(material.photo, material.text, leaning(material.share, SLERP_SHARE))  # [D]
    return _linear(material, query, embed)


def product_composition(material: Material, embed: Embed) -> Composition:
    """Likeness to the photo times fit to the text, both centred, so that only photos that have both come first.

    Source: the centred products of BASIC (Psomas et al. 2025); ours measures both in spreads of the user's own gallery instead of fixed
    minima, weighs them by a geometric mean, and leans on the plain mean where one of the two is missing, instead of the Harris term.
    """
    if material.text is None or material.neutral:
        return _photo_alone(material, embed)
    neutral = embed(list(NEUTRAL_TEXTS)).mean(axis=0)  # [8, D] -> [D], what every text has in common
    photo = Term("photo", "the photo", material.photo)
    text = Term("text", "the text", (material.text - neutral).astype(np.float32))  # [D]
    gamma = 1 - material.share
    if material.strength is None:
        gamma += KEEP_SHIFT * any(roles.kept for roles in material.roles) - SCENE_SHIFT * any(roles.new_scene for roles in material.roles)
    balance = f"{gamma:.0%} of the weight on the photo, {1 - gamma:.0%} on the text"
    return Composition((photo, text, *role_terms(material, embed, desired=True)), "product", material.photo, material.said, gamma, balance)


def head_composition(material: Material, embed: Embed) -> Composition:
    """The query that a trained head predicts; a strength moves it along the arcs to the photo (0) and to the text (1).

    What is left out or compared ("without people", "darker") is no matter for a head: it counts by its roles, as without one, but more gently.
    """
    query = material.learnt  # [D]
    if material.neutral or query is None:
        return _photo_alone(material, embed)
    if material.share < MIDDLE:
        query = slerp(material.photo, query, material.share / MIDDLE)  # [D]
    elif material.share > MIDDLE and material.text is not None:
        query = slerp(query, material.text, (material.share - MIDDLE) / MIDDLE)  # [D]
    beside = role_terms(replace(material, roles=material.beside), embed, share=BESIDE_HEAD)
    terms = (Term("query", "the head's query", query), *beside)
    return Composition(terms, "linear", material.photo, material.said, balance=balance_of(query, material))


def _photo_alone(material: Material, embed: Embed) -> Composition:
    return _linear(replace(material, text=None), material.photo, embed)


def _linear(material: Material, query: np.ndarray, embed: Embed) -> Composition:
    terms = (Term("query", "photo and text", query), *role_terms(material, embed))
    return Composition(terms, "linear", material.photo, material.said, balance=balance_of(query, material))


def balance_of(query: np.ndarray, material: Material) -> str:
    """Say how near the query is to the photo and to the text."""
    photo = f"the query's cosine with the photo is {float(query @ material.photo):.2f}"
    return photo if material.text is None else f"{photo}, with the text {float(query @ material.text):.2f}"


def role_terms(material: Material, embed: Embed, *, desired: bool = False, share: float = 1.0) -> list[Term]:
    """Terms for what the instruction forbids and compares (and, if asked, for each thing that it wants), with a share of their weights."""
    terms: list[Term] = []
    for roles in material.roles:
        if desired and len(roles.desired) > 1:  # one thing alone is the text itself
            terms += [Term("desired", phrase, phrase_embedding(phrase, embed), DESIRED / len(roles.desired)) for phrase in roles.desired]
        terms += [Term("forbidden", phrase, phrase_embedding(phrase, embed), share * FORBIDDEN, DOWN) for phrase in roles.forbidden]
        for change in roles.changes:
            axis = unit(phrase_embedding(change.first, embed) - phrase_embedding(change.last, embed))  # [D]
            terms.append(Term("changed", change.first, axis, share * CHANGED, UP, float(axis @ material.photo)))
    return terms


def slerp(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """Walk a share of the arc between two unit vectors.    first, last: float32 [D].    Returns float32 [D], unit.

    >>> slerp(np.array([1, 0], "f4"), np.array([0, 1], "f4"), 0.5).round(3).tolist()
    [0.7070000171661377, 0.7070000171661377]
    """
    cosine = float(np.clip(first.astype(np.float64) @ last.astype(np.float64), -1, 1))
    if abs(cosine) > PARALLEL:
        return unit((1 - share) * first + share * last)  # [D]
    angle = math.acos(cosine)
    return unit(math.sin((1 - share) * angle) * first + math.sin(share * angle) * last)  # [D]; `unit` divides by the sine of the angle


def leaning(strength: float, tuned: float) -> float:
    """Bend 0 ... 1 so that the middle strength gives the tuned share.

    >>> leaning(0.5, 0.8), leaning(0, 0.8), leaning(1, 0.8)
    (0.8, 0.0, 1.0)
    """
    return float(round(strength ** (math.log(tuned) / math.log(MIDDLE)), 6))


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for each term in a gallery.    middle, spread: float64 [J]."""

    middle: np.ndarray
    spread: np.ndarray


def calibrate(composition: Composition, sample: np.ndarray) -> Usual:
    """Take middle and spread of each term from some photos: medians, so that a few perfect matches do not count.

    sample: float [S, D].
    """
    vectors = np.stack([term.vector for term in composition.terms], axis=1)  # [D, J]
    values = sample.astype(np.float64) @ vectors.astype(np.float64)  # [S, J]
    middle = np.median(values, axis=0)  # [J]
    robust = 1.4826 * np.median(np.abs(values - middle), axis=0)  # [J], what the deviation of a normal distribution would be
    spread = np.maximum(robust, np.maximum(0.25 * values.std(axis=0), 1e-3))  # [J]
    starts = [term.start for term in composition.terms]
    middle = np.array([middle[j] if start is None else start for j, start in enumerate(starts)])  # [J]
    return Usual(middle, spread)


def combine(composition: Composition, values: Sequence[np.ndarray], usual: Usual) -> np.ndarray:
    """Join the terms of each photo: float64 [G].    values: J arrays, float [G], each term's projection."""
    if composition.linear:
        return values[0].astype(np.float64)  # [G]
    size = 2 if composition.rule == "product" else 1  # terms of the base
    measured = [(value.astype(np.float64) - usual.middle[j]) / usual.spread[j] for j, value in enumerate(values)]  # J x [G]
    score = product(measured[0], measured[1], composition.gamma) if size == 2 else measured[0].copy()  # [G]
    worst = np.zeros_like(score)  # [G], the likeness to whatever is forbidden and most there
    for term, value in zip(composition.terms[size:], measured[size:], strict=True):
        if term.role == "forbidden":
            worst = np.maximum(worst, term.weight * value)  # [G]
        else:
            score += term.weight * (np.clip(value, -ENOUGH, ENOUGH) if term.role == "changed" else value)  # [G]
    return score - worst


def product(photo: np.ndarray, text: np.ndarray, gamma: float) -> np.ndarray:
    """Weighted geometric mean of two measured similarities, 0 where either is below the gallery's middle, plus a little of their mean: float64 [G]."""
    both = np.maximum(photo, 0.0) ** gamma * np.maximum(text, 0.0) ** (1 - gamma)  # [G]
    return both + LEAN * (gamma * photo + (1 - gamma) * text)


def bounded(composition: Composition, values: Sequence[np.ndarray], errors: Sequence[np.ndarray], usual: Usual) -> tuple[np.ndarray, np.ndarray]:
    """Scores from approximate terms and how far they can be off: float32 [G] twice. Every rule is monotone in every term."""
    shifts = [term.sign * error for term, error in zip(composition.terms, errors, strict=True)]  # J x [G]
    score = combine(composition, values, usual)  # [G]
    high = combine(composition, [value + shift for value, shift in zip(values, shifts, strict=True)], usual)  # [G]
    low = combine(composition, [value - shift for value, shift in zip(values, shifts, strict=True)], usual)  # [G]
    return score.astype(np.float32), (np.maximum(high - score, score - low) + 1e-6).astype(np.float32)
