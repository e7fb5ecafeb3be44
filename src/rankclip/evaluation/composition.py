"""Metrics of composed retrieval, as the official code of each benchmark defines them.

Every metric takes blocks of scores, so that a hundred thousand photos times hundreds of queries never lie in memory at once, and gives one
value a query, so that intervals and paired comparisons follow. Order: higher score first, equal scores by position in the gallery.

Shape letters: Q queries, B queries of a block, G photos of the gallery, K places.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rankclip.errors import InputError
from rankclip.evaluation.figure import Figure

FASHIONIQ_AT = (10, 50)
CIRR_AT, SUBSET_AT = (1, 5, 10, 50), (1, 2, 3)
CIRCO_AT = (5, 10, 25, 50)
GENECIS_AT = (1, 2, 3)
TRIPLET_AT = (1, 5, 10, 50)
SERVER_PLACES, SUBSET_PLACES = 50, 3
LARGEST_SUBMISSION = 5_000_000  # bytes that CIRR's server takes
DRAWS = 2_000  # bootstrap samples
LEVEL = 0.95

Blocks = Iterable[np.ndarray]  # float [B, G]
Values = dict[str, np.ndarray]  # metric -> float64 [Q]


# ---------------------------------------------------------------- places


def places(scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The place of one photo in each row, from 1.    scores: float [B, G].    columns: int [B].    Returns int64 [B].

    >>> places(np.array([[0.1, 0.9, 0.9]]), np.array([2])).tolist()
    [2]
    """
    own = np.take_along_axis(scores, columns[:, None], axis=1)  # [B, 1]
    before = np.arange(scores.shape[1])[None] < columns[:, None]  # [B, G]
    return 1 + ((scores > own) | ((scores == own) & before)).sum(axis=1)


def first(scores: np.ndarray, count: int) -> np.ndarray:
    """The columns of the best scores of each row, in order: int64 [B, K]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def hits(found: np.ndarray, at: Sequence[int], name: str = "R") -> Values:
    """Whether a place is among the first k, for each k.    found: int [Q], places from 1."""
    return {f"{name}@{k}": (found <= k).astype(np.float64) for k in at}


def without(scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A copy with one photo of each row behind all others.    columns: int [B], -1 for none."""
    left = scores.astype(np.float64)  # a copy
    there = np.flatnonzero(columns >= 0)
    left[there, columns[there]] = -np.inf
    return left


def joined(parts: Iterable[Values]) -> Values:
    """Put the values of blocks or of several sets of queries behind each other."""
    rows = list(parts)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else {}


def taken(blocks: Blocks, *columns: Sequence[object]) -> Iterator[tuple[np.ndarray, list[Sequence[object]]]]:
    """Walk through blocks together with what belongs to their queries."""
    start = 0
    for block in blocks:
        yield block, [column[start : start + len(block)] for column in columns]
        start += len(block)
    assert all(len(column) == start for column in columns), "one row of scores a query"


# ---------------------------------------------------------------- the benchmarks


def fashioniq(blocks: Blocks, names: Sequence[str], targets: Sequence[str]) -> Values:
    """R@10 and R@50 of one category; the reference stays in the gallery.    Source: the evaluation code of Guo et al. 2019 as SEARLE runs it."""
    column = {name: i for i, name in enumerate(names)}
    return joined(hits(places(block, np.array([column[str(target)] for target in some])), FASHIONIQ_AT) for block, (some,) in taken(blocks, targets))


def cirr(blocks: Blocks, names: Sequence[str], references: Sequence[str], targets: Sequence[str], groups: Sequence[Sequence[str]]) -> Values:
    """R@K over all photos and R_subset@K within each query's group, the reference deleted from both.    Source: Liu et al. 2021 (CIRR), test server.

    groups: the members of each query's set, with the reference and the target among them.
    """
    column = {name: i for i, name in enumerate(names)}
    parts = []
    for block, (refs, goals, sets) in taken(blocks, references, targets, groups):
        left = without(block, np.array([column[str(name)] for name in refs]))
        goal = np.array([column[str(name)] for name in goals])
        inside = np.full(left.shape, -np.inf)
        for i, members in enumerate(sets):
            some = [column[str(name)] for name in members if name != refs[i]]  # type: ignore[attr-defined]
            inside[i, some] = left[i, some]
        parts.append({**hits(places(left, goal), CIRR_AT), **hits(places(inside, goal), SUBSET_AT, "Rs")})
    return joined(parts)


def circo(blocks: Blocks, ids: Sequence[int], truths: Sequence[Sequence[int]], targets: Sequence[int]) -> Values:
    """mAP@K over several right photos and R@K of the first of them; the reference stays.    Source: Baldrati et al. 2023 (CIRCO), section 5.

    truths: the right photos of each query.    AP@K is divided by min(|truths|, K).
    """
    parts = []
    for block, (some, goals) in taken(blocks, truths, targets):
        best = np.asarray(ids)[first(block, max(CIRCO_AT))]  # [B, 50]
        rows: dict[str, list[float]] = {f"{name}@{k}": [] for name in ("mAP", "R") for k in CIRCO_AT}
        for found, right, goal in zip(best, some, goals, strict=True):
            good = np.isin(found, np.asarray(right))  # [50]
            for k in CIRCO_AT:
                rows[f"mAP@{k}"].append(average_precision(good[:k], min(len(right), k)))  # type: ignore[arg-type]
                rows[f"R@{k}"].append(float(goal in found[:k]))
        parts.append({name: np.array(values) for name, values in rows.items()})
    return joined(parts)


def average_precision(good: np.ndarray, most: int) -> float:
    """Mean precision at the right places.    good: bool [K], in order.    most: how many there can be.

    >>> round(average_precision(np.array([True, False, True, False, False]), 2), 4)
    0.8333
    """
    precision = np.cumsum(good) / np.arange(1, len(good) + 1)  # [K]
    return float((precision * good).sum() / most)


def genecis(rows: Iterable[np.ndarray], target: int = 0) -> Values:
    """R@1, 2, 3 within each query's own small gallery; a tie with the target counts as a failure, so that a constant model scores 0.

    rows: float [G of this query] each, the target in column `target`.    Source: Vaze et al. 2023 (GeneCIS); the tie rule is ours.
    """
    found = np.array([int((row >= row[target]).sum()) for row in rows])  # the target counts itself: 1 is best
    return hits(found, GENECIS_AT)


def triplets(blocks: Blocks, references: Sequence[int], targets: Sequence[Sequence[int]]) -> Values:
    """R@K, any right photo counts, the reference left out; and how often the reference would have come first.

    references: column of each query's reference, -1 where it is not in the gallery.    targets: columns of the right photos.
    """
    parts = []
    for block, (refs, goals) in taken(blocks, references, targets):
        columns = np.array(refs, dtype=np.int64)
        left = without(block, columns)
        found = np.array([min(int(places(left[i : i + 1], np.array([goal]))[0]) for goal in some) for i, some in enumerate(goals)])  # type: ignore[attr-defined]
        itself = np.array([bool(column >= 0 and places(block[i : i + 1], np.array([column]))[0] == 1) for i, column in enumerate(columns.tolist())])
        parts.append({**hits(found, TRIPLET_AT), "reference first": itself.astype(np.float64), "place": found.astype(np.float64)})
    return joined(parts)


# ---------------------------------------------------------------- intervals


def figure(values: np.ndarray, seed: int = 0) -> Figure:
    """The mean of some values over queries, shares or places, and where it would lie with other queries.    values: float [Q]."""
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"))
    means = resampled(values, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(values.mean()), float(low), float(high))


def difference(values: np.ndarray, others: np.ndarray, seed: int = 0) -> Figure:
    """How much better one composer is than another on the same queries (paired bootstrap)."""
    return figure(values - others, seed)


def resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of bootstrap samples, float64 [DRAWS]."""
    rng = np.random.default_rng(seed)
    size = len(values)
    step = max(1, 4_000_000 // size)  # samples drawn at once
    parts = [values[rng.integers(0, size, (min(step, DRAWS - start), size))].mean(axis=1) for start in range(0, DRAWS, step)]
    return np.concatenate(parts)


# ---------------------------------------------------------------- server files


def cirr_submission(pairs: Sequence[int], best: Sequence[Sequence[str]], groups: Sequence[Sequence[str]]) -> tuple[dict[str, object], dict[str, object]]:
    """CIRR's two server files: the first 50 names, and the first 3 of each group, by pair id.

    best: names in order, the reference deleted, at least 50 of them or all.    groups: the group's names in order, the reference deleted.
    """
    head: dict[str, object] = {"version": "rc2"}
    recall = {**head, "metric": "recall", **{str(pair): list(names[:SERVER_PLACES]) for pair, names in zip(pairs, best, strict=True)}}
    subset = {**head, "metric": "recall_subset", **{str(pair): list(names[:SUBSET_PLACES]) for pair, names in zip(pairs, groups, strict=True)}}
    return recall, subset


def circo_submission(queries: Sequence[int], best: Sequence[Sequence[int]]) -> dict[str, object]:
    """CIRCO's server file: query id -> exactly 50 distinct photo ids."""
    found: dict[str, object] = {}
    for query, ids in zip(queries, best, strict=True):
        distinct = list(dict.fromkeys(int(one) for one in ids))[:SERVER_PLACES]
        if len(distinct) != SERVER_PLACES:
            raise InputError(f"CIRCO's server takes exactly {SERVER_PLACES} distinct photos a query; query {query} has {len(distinct)}")
        found[str(query)] = distinct
    return found


def write_submission(path: Path, content: Mapping[str, object]) -> int:
    """Write a server file; returns its size in bytes. Raises InputError when the server would refuse it."""
    data = json.dumps(content, separators=(",", ":")).encode()
    if len(data) > LARGEST_SUBMISSION:
        raise InputError(f"{path}: {len(data):,} bytes, the server takes {LARGEST_SUBMISSION:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)
