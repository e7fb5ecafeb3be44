"""Fit the kernel regression that stands beside an adapter's network, and mix the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rankclip.collection.features import FeatureTable
from rankclip.evaluation import ranking as metrics
from rankclip.heads.kernel import FACTS, Kernel, Scale, fact_columns, rows, similarity
from rankclip.training.tasks import TRAIN, VAL, TaskData

CENTRES = (256, 1_024)  # training photos at most that others are compared with: the few, where they do as well
AS_WELL = 0.005  # of the labels' variance
ROWS = 20_000  # training photos at most that are fitted to: 160 MB for their similarities
FACT_WEIGHTS = (0.0, 0.5, 1.0, 3.0)  # size of the pixel facts beside the embedding, which has size one
STAGE_WEIGHTS = (0.0, 1.0, 2.0)  # the same of the inner stages
GAMMAS = (0.05, 0.25, 0.5, 1.0)  # the first is nearly linear
LINEAR = 0.1
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5
SHARES = np.linspace(0, 1, 11)  # of the network
ROUNDS = 200  # of the bootstrap
SHARED = 0.5  # of a counting task's answer that all things counted in the same photos have in common
HELD = 5.0  # weight of a photo that holds what is counted; one without weighs one


@dataclass(frozen=True, slots=True)
class Fit:
    """A kernel and its mean squared error in cross-validation."""

    kernel: Kernel
    error: float


@dataclass(frozen=True, slots=True)
class Taught:
    """Rows to explain: labels, then differences. phi: float64 [n, R]. wanted: float64 [n]. folds: int64 [n]. labels: how many of them are labels."""

    phi: np.ndarray
    wanted: np.ndarray
    folds: np.ndarray
    labels: int


def fit(one: TaskData, pooled: np.ndarray, measured: np.ndarray, *, seed: int = 0, stages: Sequence[float] = STAGE_WEIGHTS) -> Kernel:
    """Fit on training photos; width, strength and the weights of facts and stages are those with the least squared error in five folds by group.

    Validation photos are left for measuring. pooled: float32 [n, D], measured: float32 [n, 7 + S], facts and stages of all rows of the task; either is
    left out where a training photo lacks it. stages: the weights of the stages to choose from, rising.
    """
    used = np.unique(taught_rows(one, one.of(TRAIN)))
    whole = np.isfinite(measured[used]).all(axis=0)  # bool [7 + S]
    weights = [(fact, stage) for fact in FACT_WEIGHTS[: None if whole[:FACTS].all() else 1]
               for stage in (stages if len(whole) > FACTS and whole[FACTS:].all() else (0.0,))]  # fmt: skip
    counts = CENTRES if len(used) > CENTRES[0] else CENTRES[:1]
    few, *many = (
        min((found for weight in weights for found in fits(one, pooled, measured, weight, count, seed)), key=lambda found: found.error) for count in counts
    )
    spare = AS_WELL * float(np.var(one.task.standardised(one.values)[one.of(TRAIN)]))
    return next((found.kernel for found in many if found.error < few.error - spare), few.kernel)


def taught_rows(one: TaskData, train: np.ndarray) -> np.ndarray:
    """Labelled photos, then those of the differences: int64."""
    return train if one.drops is None else np.concatenate([train, one.drops.better, one.drops.worse])


def fits(one: TaskData, pooled: np.ndarray, measured: np.ndarray, weight: tuple[float, float], count: int, seed: int) -> Iterator[Fit]:
    """All widths and strengths at one weight of the facts and one of the stages, with at most `count` centres."""
    rng = np.random.default_rng(seed)
    train, wanted = rng.permutation(one.of(TRAIN))[:ROWS], one.task.standardised(one.values).astype(np.float64)
    used = taught_rows(one, train)
    known = measured[np.unique(used)]
    facts, stages = scale_of(fact_columns(known[:, :FACTS]), weight[0]), scale_of(known[:, FACTS:], weight[1])
    x = rows(pooled, measured, facts, stages)
    chosen = x[central(train, used, count, rng)]
    steps = np.maximum(np.abs(chosen).max(axis=0) / 127, 1e-8).astype(np.float32)
    centres = np.rint(chosen / steps).astype(np.int8)
    bias = float(wanted[train].mean())
    near = (centres * steps).astype(np.float64)  # [M, D], as they will be read
    place, folds = np.unique(used, return_inverse=True), folds_by_group(one, seed)
    for gamma in GAMMAS if one.drops is None else GAMMAS[1:]:  # a nearly linear one gives up differences for labels
        whitened = whitening(similarity(near, near, gamma, LINEAR))  # [M, R]
        phi = (similarity(x[place[0]].astype(np.float64), near, gamma, LINEAR) @ whitened)[place[1]]  # [u, R]
        for solution, error in solutions(taught(one, phi, train, wanted - bias, folds)):
            yield Fit(Kernel(centres, steps, (whitened @ solution).astype(np.float32), bias, gamma, LINEAR, *facts, *stages), error)


def scale_of(columns: np.ndarray, weight: float) -> Scale:
    """What some columns of the training photos are standardised by.    columns: float32 [u, C]."""
    return Scale(weight, np.nan_to_num(columns.mean(axis=0)), np.nan_to_num(columns.std(axis=0)) + np.float32(1e-4))


def central(train: np.ndarray, used: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Photos that others are compared with, int64 [at most count], rising: labelled ones first, but half of the places for the others where there are any."""
    others = rng.permutation(np.setdiff1d(used, train))
    labelled = train[: max(count - len(others), count // 2)]
    return np.sort(np.concatenate([labelled, others[: count - len(labelled)]]))


def folds_by_group(one: TaskData, seed: int) -> np.ndarray:
    """A fold for each row of the task, whole groups together: int64 [n]."""
    _, number = np.unique(np.arange(len(one.values)) if one.groups is None else one.groups, return_inverse=True)
    place: np.ndarray = np.random.default_rng([seed, 11]).permutation(number.max() + 1)[number] % FOLDS
    return place


def taught(one: TaskData, phi: np.ndarray, train: np.ndarray, wanted: np.ndarray, folds: np.ndarray) -> Taught:
    """Join labels and differences.    phi: float64 [t + 2 p, R], in the order of `taught_rows`. wanted, folds: of all rows of the task."""
    count = len(train)
    if one.drops is None:
        return Taught(phi, wanted[train], folds[train], count)
    pairs, size = len(one.drops.gap), one.drops.weight**0.5  # [p]
    less = size[:, None] * (phi[count : count + pairs] - phi[count + pairs :])  # [p, R]
    return Taught(np.concatenate([phi[:count], less]), np.r_[wanted[train], size * one.drops.gap], np.r_[folds[train], folds[one.drops.better]], count)


def whitening(gram: np.ndarray) -> np.ndarray:
    """Map similarities with the centres to coordinates, float64 [M, R]; directions that rounding would swamp are dropped."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-7 * values[-1]
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def solutions(given: Taught) -> Iterator[tuple[np.ndarray, float]]:
    """Ridge regression at each strength: coefficients float64 [R] on all rows, and the squared error of rows left out, per label."""
    parts = [given.folds == fold for fold in range(FOLDS)]
    grams, along = [given.phi[part].T @ given.phi[part] for part in parts], [given.phi[part].T @ given.wanted[part] for part in parts]
    gram, total = sum(grams), sum(along)
    for strength in STRENGTHS:
        ridge = strength * np.eye(given.phi.shape[1])
        error = 0.0
        for part, less, short in zip(parts, grams, along, strict=True):
            error += float(((given.phi[part] @ np.linalg.solve(gram - less + ridge, total - short) - given.wanted[part]) ** 2).sum())
        yield np.linalg.solve(gram + ridge, total), error / given.labels


# ---------------------------------------------------------------- counting: several things in the same photos


def fit_counts(tasks: Sequence[TaskData], features: FeatureTable, *, seed: int = 0) -> dict[str, Kernel]:
    """Fit tasks that count different things in the same photos as one: a part that they share, and one of each.

    Photos that hold a thing are few, and how crowded a photo is can be learnt from all things. Width and strength are those with the least squared error
    on photos that hold the thing, in five folds by group. Source: multi-task Gaussian processes (Bonilla et al. 2008), the tasks' covariance fixed.
    """
    parts = [Counted(one, one.of(TRAIN), number) for number, one in enumerate(tasks)]
    photos = np.unique(np.concatenate([part.photos for part in parts]))  # int64 [M], rows of the features
    x = features.pooled[photos]
    steps = np.maximum(np.abs(x).max(axis=0) / 127, 1e-8).astype(np.float32)
    centres = np.rint(x / steps).astype(np.int8)
    near = (centres * steps).astype(np.float64)
    at, task = np.concatenate([np.searchsorted(photos, part.photos) for part in parts]), np.concatenate([part.numbers for part in parts])  # [n]
    weight, rest = np.concatenate([part.weights for part in parts]), np.concatenate([part.wanted - part.bias for part in parts])  # [n]
    folds = np.concatenate([folds_by_group(part.one, seed)[part.train] for part in parts])
    common = SHARED + (1 - SHARED) * np.eye(len(parts))  # [T, T]
    best, gamma, solution = np.inf, GAMMAS[0], np.zeros(len(at))
    for width in GAMMAS:
        gram = similarity(near, near, width, LINEAR)[at[:, None], at[None]] * common[task[:, None], task[None]]  # [n, n]
        for strength in STRENGTHS:
            error = held_out_error(gram + strength * np.diag(1 / weight), gram, rest, folds, weight > 1)
            if error < best:
                best, gamma, solution = error, width, np.linalg.solve(gram + strength * np.diag(1 / weight), rest)
    spread = np.zeros((len(photos), len(parts)))  # each label's pull, at its photo and for its task
    np.add.at(spread, (at, task), solution)
    shared = (spread @ common).astype(np.float32)  # [M, T]
    plain = np.zeros(fact_columns(features.facts[:1]).shape[1], np.float32)
    return {part.one.task.name: Kernel(centres, steps, np.ascontiguousarray(shared[:, number]), part.bias, gamma, LINEAR, 0.0, plain, plain)
            for number, part in enumerate(parts)}  # fmt: skip


class Counted:
    """Training photos of one thing that is counted. photos: rows of the features; wanted: standardised; weights: of their squared errors. All [n]."""

    def __init__(self, one: TaskData, train: np.ndarray, number: int) -> None:
        self.one, self.train = one, train
        self.photos, self.numbers = one.rows[train], np.full(len(train), number)
        self.wanted = one.task.standardised(one.values[train]).astype(np.float64)
        self.weights = np.where(one.values[train] > 0, HELD, 1.0)
        self.bias = float(np.average(self.wanted, weights=self.weights))


def held_out_error(loaded: np.ndarray, gram: np.ndarray, rest: np.ndarray, folds: np.ndarray, some: np.ndarray) -> float:
    """Mean squared error of some rows, each predicted without its fold.    loaded, gram: float64 [n, n], with and without the ridge. some: bool [n]."""
    errors = []
    for fold in range(FOLDS):
        kept, left = np.flatnonzero(folds != fold), np.flatnonzero((folds == fold) & some)
        errors.append(gram[np.ix_(left, kept)] @ np.linalg.solve(loaded[np.ix_(kept, kept)], rest[kept]) - rest[left])
    return float(np.mean(np.concatenate(errors) ** 2))


# ---------------------------------------------------------------- the mix


def share_of_network(one: TaskData, scores: np.ndarray, beside: np.ndarray) -> float:
    """The network's share in the mix with the kernel regression: the smallest whose SRCC on validation is within one standard error of the best.

    A network whose part cannot be told from chance need not run. scores, beside: float32 [n]. Source of the rule: Breiman et al. 1984, section 3.4.3; the
    standard error is that of the best, over resampled photos.
    """
    y, s, b = (values[one.of(VAL)] for values in (one.values, scores, beside))
    reached = np.nan_to_num([metrics.srcc(y, share * s + (1 - share) * b) for share in SHARES], nan=-1)
    best = SHARES[int(reached.argmax())]
    rng = np.random.default_rng(0)
    drawn = [metrics.srcc(y[some], (best * s + (1 - best) * b)[some]) for some in (rng.integers(len(y), size=len(y)) for _ in range(ROUNDS))]
    return round(float(SHARES[reached >= reached.max() - np.nan_to_num(np.std(drawn))].min()), 2)
