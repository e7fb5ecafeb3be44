"""Metrics of predicted against true values, with bootstrap intervals over photos.

Every metric takes y (true) and p (predicted), float [N]. A group with one distinct true value has no correlation: NaN, and it is counted, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rankclip.evaluation.figure import Figure

ROUNDS = 1_000  # bootstrap rounds
BLOCK = 512  # rows of the pair matrix at once

Metric = Callable[[np.ndarray, np.ndarray], float]


def plcc(y: np.ndarray, p: np.ndarray) -> float:
    """Pearson's linear correlation.

    >>> round(plcc(np.array([1.0, 2, 3]), np.array([1.0, 2, 4])), 3)
    0.982
    """
    if len(y) < 2 or np.ptp(y) == 0 or np.ptp(p) == 0:
        return float("nan")
    return float(np.corrcoef(y, p)[0, 1])


def srcc(y: np.ndarray, p: np.ndarray) -> float:
    """Spearman's rank correlation, ties by their average rank."""
    return plcc(average_ranks(y), average_ranks(p))


def mae(y: np.ndarray, p: np.ndarray) -> float:
    """Mean absolute error, in the unit of the labels."""
    return float(np.abs(y - p).mean())


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of predictions that, rounded and clipped to the labels' range, hit the label: for ordinal classes."""
    return float((np.clip(np.rint(p), y.min(), y.max()) == y).mean())


def kendall(y: np.ndarray, p: np.ndarray) -> float:
    """Kendall's tau-b."""
    agree, ties_y, ties_p, pairs = 0.0, 0, 0, len(y) * (len(y) - 1)
    for a, b in _pair_signs(y, p):
        agree += float((a * b).sum())
        ties_y += int((a == 0).sum())
        ties_p += int((b == 0).sum())
    scale = np.sqrt(float(pairs - (ties_y - len(y))) * float(pairs - (ties_p - len(y))))
    return float(agree / scale) if scale else float("nan")


def pair_accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of pairs with different labels that are in the right order; a predicted tie counts as half."""
    right, counted = 0.0, 0
    for a, b in _pair_signs(y, p):
        different = a != 0
        right += float(((a * b + 1) / 2)[different].sum())
        counted += int(different.sum())
    return right / counted if counted else float("nan")


def released_accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """The pair accuracy of the authors' code, inflated: it counts each photo against itself and neighbours in the list twice.

    Source: learn_to_compare/utils.py as described in the spec, section 8: index set tril(k=1), (u >= 0) == (v >= 0). Reported for comparison only.
    """
    rows, columns = np.tril_indices(len(y), k=1)
    return float(((y[columns] - y[rows] >= 0) == (p[columns] - p[rows] >= 0)).mean())


def _pair_signs(y: np.ndarray, p: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield signs of all ordered differences in blocks, int8 [B, N] twice."""
    for start in range(0, len(y), BLOCK):
        yield tuple(np.sign(v[start : start + BLOCK, None] - v[None]).astype(np.int8) for v in (y, p))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values share their mean rank.

    >>> average_ranks(np.array([10.0, 20, 10])).tolist()
    [1.5, 3.0, 1.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[inverse]


METRICS: dict[str, Metric] = {"SRCC": srcc, "PLCC": plcc, "MAE": mae, "accuracy": accuracy, "kendall": kendall, "pair accuracy": pair_accuracy,
                              "pair accuracy (released)": released_accuracy}  # fmt: skip


def with_interval(metric: Metric, y: np.ndarray, p: np.ndarray, *, rounds: int = ROUNDS, seed: int = 0) -> Figure:
    """Measure, with a 95 % percentile interval over resampled photos."""
    rng = np.random.default_rng(seed)
    draws = [metric(y[some], p[some]) for some in (rng.integers(len(y), size=len(y)) for _ in range(rounds))]
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (float("nan"), float("nan"))
    return Figure(metric(y, p), float(low), float(high))


def paired_difference(metric: Metric, y: np.ndarray, a: np.ndarray, b: np.ndarray, *, rounds: int = ROUNDS, seed: int = 0) -> Figure:
    """Measure metric(a) - metric(b) on the same resampled photos."""
    return with_interval(lambda y_, p: metric(y_, p[:, 0]) - metric(y_, p[:, 1]), y, np.stack([a, b], axis=1), rounds=rounds, seed=seed)


def macro(metric: Metric, y: np.ndarray, p: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, int]:
    """Mean of a metric over groups (row numbers each), and how many groups had none (one distinct value)."""
    values = [metric(y[rows], p[rows]) for rows in groups]
    known = [value for value in values if np.isfinite(value)]
    return (float(np.mean(known)) if known else float("nan")), len(values) - len(known)


def coverage(y: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of labels inside their interval."""
    return float(((low <= y) & (y <= high)).mean())


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Fit y ~ x w + b. x: [N, D], y: [N]; strength is multiplied by N times the mean variance. Returns w float32 [D], b."""
    centre, mean = x.mean(axis=0), float(y.mean())
    z = (x - centre).astype(np.float64)
    gram = z.T @ z
    gram[np.diag_indices_from(gram)] += strength * np.trace(gram) / len(gram)
    weights = np.linalg.solve(gram, z.T @ (y - mean))
    return weights.astype(np.float32), float(mean - centre @ weights)
