"""What differs between photos, as arithmetic on embeddings: axes with two ends, spreads, thresholds, probabilities, folders. NumPy only.

An axis is a unit vector between two opposites; a photo's place on it is photo · axis, and the sign of photo a's place minus photo b's says
which of the two is nearer the first end. That is exactly the sign of the cosine of the axis and the difference a - b, normalised or not, so
it never contradicts itself: swapping the photos flips it, and a photo compared with itself gives 0.

Shape letters: V axes, D embedding width, N photos, R permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankclip.instructions import Instruction
from rankclip.scoring import Embed, Query, phrase_embedding, unit

LEAST_OF_A_CAMERA = 20  # photos of which a mean tells more of the camera than of what they show
PAIRS = 2_000  # random pairs that the spread of an axis is taken from
SAMPLE = 800  # photos of a library that are looked at
LEAST = 60  # photos in a library below which its spread says nothing, and the head's own is taken
SIMILAR = 0.8  # cosine of pairs that show nearly the same
CLEAR = 1.5  # |z| below which nothing is ever reported
QUANTILE = 0.95  # of the largest |z| among similar pairs: the threshold
UNSURE = 0.6  # probability of the likelier answer below which the answer is "unclear"
SENTENCE = "The first photo {}, while the second {}."
PLACED = ("in ", "on ", "at ", "by ", "under", "above ", "seen ", "lit ", "indoors", "outdoors", "alone", "together", "looking ", "with ", "without ", "of ")


# ---------------------------------------------------------------- axes


def clause(phrase: str) -> str:
    """Say what a photo is or shows: the half of a sentence that compares two.

    >>> clause("an old person"), clause("indoors"), clause("of a dog")
    ('shows an old person', 'is indoors', 'is of a dog')
    """
    return f"is {phrase}" if phrase.startswith(PLACED) else f"shows {phrase}"


def sentences(first: str, last: str) -> list[str]:
    """Return the two sentences that an axis is made of: the photos in one order, and in the other.

    >>> sentences("a bright photo", "a dark photo")[0]
    'The first photo shows a bright photo, while the second shows a dark photo.'
    """
    return [SENTENCE.format(clause(one), clause(other)) for one, other in ((first, last), (last, first))]


def compared_axis(first: str, last: str, embed: Embed) -> np.ndarray:
    """The axis from `last` to `first` as a difference head reads it: float32 [D], unit.

    embed: sentences that compare -> rows in image space (`DifferenceHead.embedder`), not the plain text path.
    Antisymmetric by construction: swapping the ends flips the axis exactly.    Source: specification of the difference head, 11.1.
    """
    forth, back = embed(sentences(first, last))
    return unit(forth - back)


def plain_axis(first: str, last: str, embed: Embed) -> np.ndarray:
    """The same from plain texts, for a text tower that was not tuned: float32 [D], unit."""
    return unit(phrase_embedding(first, embed) - phrase_embedding(last, embed))


def difference_query(instruction: Instruction, embed: Embed, compare: Embed, reader: str) -> Query:
    """Rank by a comparative: the projection on the axis that the difference head reads from the instruction's two ends.

    embed: plain texts, for the reported cosine. compare: sentences that compare. reader: names the head's weights.
    """
    axis = compared_axis(instruction.first, instruction.last, compare)
    return Query(axis, phrase_embedding(instruction.first, embed), "difference", (*sentences(instruction.first, instruction.last), f"read by {reader}"))


def sampled(count: int) -> np.ndarray:
    """Which of so many photos stand for all of them, the same every time: int64 [at most SAMPLE], rising, as a file is read best."""
    found: np.ndarray = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLE])
    return found


def added(text: str, embed: Embed, compare: Embed, photos: np.ndarray) -> np.ndarray:
    """What `--plus TEXT` adds to a query: the direction that a difference head reads from the text, as long as its plain embedding counts among photos.

    embed: plain texts. compare: sentences that compare -> rows in image space. photos: float32 [N, D], some of the store. Returns float32 [D].
    A text tower puts all texts on one side of the photos; the head's direction points from photos without the thing to photos with it.
    """
    plain, direction = phrase_embedding(text, embed), compare([text])[0]
    width = float((photos @ direction).std()) if len(photos) else 0.0
    if width < 1e-6:  # nothing was read from the text, or there is nothing to compare with
        return plain
    return (direction * float((photos @ plain).std()) / width).astype(np.float32)


def nuisances(photos: np.ndarray, cameras: Sequence[str]) -> np.ndarray:
    """Directions that say nothing of what photos show: their mean, and how each camera's photos differ from it; orthonormal rows, float32 [K, D].

    photos: float32 [N, D]. cameras: N names, "" where unknown; only cameras with at least `LEAST_OF_A_CAMERA` photos count.
    Source: specification of the difference head, 11.2.
    """
    mean, names = photos.mean(axis=0), np.array(cameras)
    many = [name for name in np.unique(names[names != ""]).tolist() if (names == name).sum() >= LEAST_OF_A_CAMERA]
    found = np.stack([mean, *(photos[names == name].mean(axis=0) - mean for name in many)])  # [1 + cameras, D]
    _, sizes, rows = np.linalg.svd(found, full_matrices=False)
    return np.asarray(rows[sizes > 1e-6 * sizes[0]], np.float32)


def turned(high: np.ndarray, low: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """What two examples add to an axis: their difference, without what the library's cameras make of it: float32 [D].

    high, low: float32 [D]. nuisance: orthonormal rows, float32 [K, D].
    """
    difference = high - low
    return np.asarray(difference - (difference @ nuisance.T) @ nuisance, np.float32)


# ---------------------------------------------------------------- what photos show


@dataclass(frozen=True, slots=True)
class Sights:
    """Phrases that photos may show. vectors: float32 [P, D], unit, as plain texts. usual, spread: float32 [P], of a library's cosines with them."""

    vectors: np.ndarray
    usual: np.ndarray
    spread: np.ndarray

    def seen(self, photos: np.ndarray) -> np.ndarray:
        """How visibly photos show each phrase: float32 [..., P], in standard deviations above what is usual.    photos: float32 [..., D]."""
        return ((photos @ self.vectors.T - self.usual) / self.spread).astype(np.float32)


def sights(vectors: np.ndarray, photos: np.ndarray) -> Sights:
    """Take what is usual from a library.

    vectors: float32 [P, D]. photos: float32 [N, D], N >= 2.
    """
    cosines = photos @ vectors.T  # [N, P]
    return Sights(vectors, cosines.mean(axis=0).astype(np.float32), np.maximum(cosines.std(axis=0), 1e-6).astype(np.float32))


def nearest(vectors: np.ndarray, photos: np.ndarray, count: int) -> list[int]:
    """Propose phrases for some photos: those that are the nearest of the most photos, in that order.

    vectors: float32 [P, D]. photos: float32 [N, D]. Nothing is known of which photo is in which folder, so a test by permutation stays valid.
    """
    votes = np.bincount((photos @ vectors.T).argmax(axis=1), minlength=len(vectors))
    return [int(place) for place in np.argsort(-votes, kind="stable")[:count] if votes[place]]


# ---------------------------------------------------------------- two photos


def spreads(photos: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Standard deviation of axis · (photo - other) over random pairs of a library: float32 [V].

    photos: float32 [N, D], unit rows, N >= 2. axes: float32 [V, D].
    """
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(photos), (2, PAIRS))
    places = photos @ axes.T  # [N, V]
    return np.maximum((places[one] - places[other]).std(axis=0), 1e-6).astype(np.float32)


def threshold(photos: np.ndarray, axes: np.ndarray, spread: np.ndarray) -> float | None:
    """The largest |z| that pairs of similar photos reach by chance: the 95th percentile over random pairs with a cosine above `SIMILAR`.

    photos: float32 [N, D]. spread: float32 [V]. Returns None where the library has too few similar pairs to tell.
    """
    cosines = photos @ photos.T  # [N, N]
    one, other = np.nonzero(np.triu(cosines > SIMILAR, 1))
    if len(one) < LEAST:
        return None
    chosen = np.random.default_rng(0).permutation(len(one))[:PAIRS]
    largest = np.abs((photos[one[chosen]] - photos[other[chosen]]) @ (axes / spread[:, None]).T).max(axis=1)  # [pairs]
    return quantile(largest, QUANTILE)


def quantile(values: np.ndarray, share: float) -> float:
    """The value below which a share of the others lies, linear between neighbours; NumPy's own loads 60 ms of masked arrays.

    >>> quantile(np.array([4.0, 1.0, 2.0, 3.0]), 0.5)
    2.5
    """
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def z_scores(a: np.ndarray, b: np.ndarray, axes: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """How far apart two photos are on each axis, in spreads of the library: float32 [V], positive where a is nearer the first end.

    >>> z_scores(np.array([1, 0], "f4"), np.array([0, 1], "f4"), np.array([[1, 0]], "f4"), np.array([0.5], "f4"))
    array([2.], dtype=float32)
    """
    return ((axes @ (a - b)) / spread).astype(np.float32)


def strongest(z: np.ndarray, groups: Sequence[str], least: float, count: int) -> list[int]:
    """Positions of the largest |z|, at most one a group and none below `least`, strongest first."""
    found: list[int] = []
    taken: set[str] = set()
    for place in np.argsort(-np.abs(z), kind="stable").tolist():
        if abs(float(z[place])) < least or len(found) == count:
            break
        if groups[place] not in taken:
            taken.add(groups[place])
            found.append(place)
    return found


def probability(z: float, slope: float) -> float:
    """Probability that the first photo is nearer the first end: a logistic in z, whose slope was fitted on validation pairs.

    Symmetric, so that swapping the photos gives one minus the probability.

    >>> probability(0.0, 1.7)
    0.5
    """
    return float(1.0 / (1.0 + np.exp(-np.clip(slope * z, -60, 60))))


def fit_slope(z: np.ndarray, truth: np.ndarray) -> float:
    """Fit the slope of `probability` by maximum likelihood (Newton steps on one number).

    z: float [N]. truth: bool [N], whether the first photo is nearer the first end.
    """
    sign = np.where(truth, 1.0, -1.0)
    slope = 0.5
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(np.clip(slope * z * sign, -60, 60)))  # probability of being wrong, [N]
        gradient = float((p * z * sign).sum()) - 1e-3 * slope
        curvature = float((p * (1 - p) * z * z).sum()) + 1e-3
        slope = float(np.clip(slope + gradient / curvature, 0.0, 20.0))
    return slope


def calibration_error(p: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count: mean distance between what is claimed and what holds.    Source: Naeini et al. 2015."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(p[part].mean() - truth[part].mean()) for part in parts) / max(1, len(p)))


# ---------------------------------------------------------------- two folders


@dataclass(frozen=True, slots=True)
class Apart:
    """What sets two groups of photos apart on each axis.

    effect: float32 [V], difference of the means in standard deviations, positive where the first group has more. q: float32 [V], the false
    discovery rate at which an axis would be reported.
    """

    effect: np.ndarray
    q: np.ndarray


PERMUTATIONS = 200  # each gives a null value for every axis; they are pooled, so that q is as fine as 1 / (200 V)


def apart(a: np.ndarray, b: np.ndarray, axes: np.ndarray, *, permutations: int = PERMUTATIONS) -> Apart:
    """Compare two groups of photos on every axis by a permutation test, with the false discovery rate under control.

    a: float32 [N, D]. b: float32 [M, D]. axes: float32 [V, D].
    Group labels are shuffled; differences are divided by their own standard deviation under shuffling, so that the null values of all axes
    may be pooled (Storey & Tibshirani 2003), and q-values follow Benjamini & Hochberg 1995.
    """
    everything = np.concatenate([a, b])
    places = everything @ axes.T  # [N + M, V]
    places = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-9)
    size, count = len(everything), len(a)
    shares = np.full((permutations + 1, size), -1.0 / max(1, size - count), np.float32)  # [R + 1, N + M]: weights of the difference of two means
    rng = np.random.default_rng(0)
    shares[0, :count] = 1.0 / count
    for row in range(1, permutations + 1):
        shares[row, rng.permutation(size)[:count]] = 1.0 / count
    effects = shares @ places.astype(np.float32)  # [R + 1, V]
    null = np.sort(np.abs(effects[1:]).ravel())
    beyond = len(null) - np.searchsorted(null, np.abs(effects[0]), side="left")
    return Apart(effects[0].astype(np.float32), q_values((beyond + 1) / (len(null) + 1)))


def q_values(p: np.ndarray) -> np.ndarray:
    """Turn p-values into false discovery rates: float32 [V].    Source: Benjamini & Hochberg 1995.

    >>> [round(float(q), 3) for q in q_values(np.array([0.01, 0.5, 0.02]))]
    [0.03, 0.5, 0.03]
    """
    order = np.argsort(p, kind="stable")
    raised = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p), np.float32)
    q[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return q
