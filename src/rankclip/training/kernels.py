"""Fit the kernel regression that stands beside an adapter's network, and mix the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rankclip.evaluation import ranking as metrics
from rankclip.heads.kernel import Kernel, fact_columns, rows, similarity
from rankclip.training.tasks import TRAIN, VAL, TaskData

CENTRES = (256, 1_024)  # training photos at most that others are compared with: the few, where they do as well
AS_WELL = 0.005  # of the labels' variance
ROWS = 20_000  # training photos at most that are fitted to: 160 MB for their similarities
FACT_WEIGHTS = (0.0, 1.0, 3.0)  # size of the pixel facts beside the embedding, which has size one
GAMMAS = (0.25, 0.5, 1.0)
LINEAR = 0.1
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
SHARES = np.linspace(0, 1, 11)  # of the network
AS_GOOD = 1e-3  # SRCC


@dataclass(frozen=True, slots=True)
class Fit:
    """A kernel and its mean squared error on validation."""

    kernel: Kernel
    error: float


def fit(one: TaskData, pooled: np.ndarray, facts: np.ndarray, *, seed: int = 0) -> Kernel:
    """Fit on training photos; widths, strengths and the weight of the facts are those with the least squared error on validation.

    pooled: float32 [n, D], facts: float32 [n, 7] of all rows of the task; facts are left out where a training photo lacks them.
    """
    weights = FACT_WEIGHTS if np.isfinite(facts[one.of(TRAIN)]).all() else FACT_WEIGHTS[:1]
    counts = CENTRES if len(one.of(TRAIN)) > CENTRES[0] else CENTRES[:1]
    few, *many = (
        min((found for weight in weights for found in fits(one, pooled, facts, weight, count, seed)), key=lambda found: found.error) for count in counts
    )
    spare = AS_WELL * float(np.var(one.task.standardised(one.values)))
    return next((found.kernel for found in many if found.error < few.error - spare), few.kernel)


def fits(one: TaskData, pooled: np.ndarray, facts: np.ndarray, weight: float, count: int, seed: int) -> Iterator[Fit]:
    """All widths and strengths at one weight of the facts, with at most `count` centres."""
    train = np.random.default_rng(seed).permutation(one.of(TRAIN))[:ROWS]
    valid, wanted = one.of(VAL), one.task.standardised(one.values).astype(np.float64)
    columns = fact_columns(facts[train])
    mean, std = np.nan_to_num(columns.mean(axis=0)), np.nan_to_num(columns.std(axis=0)) + np.float32(1e-4)
    x = rows(pooled, facts, weight, mean, std)
    chosen = x[np.sort(train[:count])]
    steps = np.maximum(np.abs(chosen).max(axis=0) / 127, 1e-8).astype(np.float32)
    centres = np.rint(chosen / steps).astype(np.int8)
    bias = float(wanted[train].mean())
    near = (centres * steps).astype(np.float64)  # [M, D], as they will be read
    for gamma in GAMMAS:
        whitened = whitening(similarity(near, near, gamma, LINEAR))  # [M, R]
        to_centres = similarity(x[np.r_[train, valid]].astype(np.float64), near, gamma, LINEAR)  # [t + v, M]
        for solution in solutions(to_centres[: len(train)] @ whitened, wanted[train] - bias):
            weights = whitened @ solution
            error = float(np.mean((to_centres[len(train) :] @ weights + bias - wanted[valid]) ** 2))
            yield Fit(Kernel(centres, steps, weights.astype(np.float32), bias, gamma, LINEAR, weight, mean, std), error)


def whitening(gram: np.ndarray) -> np.ndarray:
    """Map similarities with the centres to coordinates, float64 [M, R]; directions that rounding would swamp are dropped."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-7 * values[-1]
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def solutions(phi: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Ridge regression at each strength, float64 [R]. phi: [n, R]."""
    values, vectors = np.linalg.eigh(phi.T @ phi)
    along = vectors.T @ (phi.T @ wanted)
    return [vectors @ (along / (np.maximum(values, 0) + strength)) for strength in STRENGTHS]


def share_of_network(one: TaskData, scores: np.ndarray, beside: np.ndarray) -> float:
    """The network's share in the mix that validation prefers; of those as good as the best, the smallest: a network without a share need
    not run. scores, beside: float32 [n]."""
    valid = one.of(VAL)
    reached = np.nan_to_num([metrics.srcc(one.values[valid], share * scores[valid] + (1 - share) * beside[valid]) for share in SHARES], nan=-1)
    return round(float(SHARES[reached >= reached.max() - AS_GOOD].min()), 2)
