"""The whole scoring path: an instruction's texts -> a query -> scores -> an order. NumPy only, no files.

Reading order is calling order: a method (`similarity_query`, `direction_query`) makes a `Query` from text embeddings; `scan` scores every
row of the store from its int8 form; `order` makes the first rows exact from the float16 master and sorts.

Shape letters: N rows in the store, G photos of the gallery, K results, D embedding width, Q texts.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from rankclip.instructions import Instruction, prompts

EXACT_ROWS = 1_000  # at least so many first rows get the master's score
EXACT_BLOCK = 1_024  # rows turned to float64 at once
BLOCK = 512  # rows turned to float32 at once: they stay in the cache
HIGH, LOW = 255, 128  # a query is split into two integer parts, so that the scan is exact whatever the order of its sums
DIGITS = 9  # scores are rounded here: far above the noise of a float64 sum, far below any meaning

Embed = Callable[[list[str]], np.ndarray]  # Q texts -> float32 [Q, D], unit rows


@dataclass(frozen=True, slots=True)
class Query:
    """A linear score: photo · vector.    vector: float32 [D].    cosine: float32 [D], what the reported cosine is taken with."""

    vector: np.ndarray
    cosine: np.ndarray
    meaning: str
    texts: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the scores in caches: method, texts and the vector itself, since a photo that a term names may change."""
        return f"{self.meaning}|{'|'.join(self.texts)}|{blake2b(self.vector.tobytes(), digest_size=8).hexdigest()}"


# ---------------------------------------------------------------- queries


def phrase_embedding(phrase: str, embed: Embed) -> np.ndarray:
    """Mean over the phrase's prompts, normalised again: float32 [D].    Source: Radford et al. 2021, section 3.1.4 (prompt ensembling)."""
    return unit(embed(prompts(phrase)).mean(axis=0))  # [Q, D] -> [D]


def similarity_query(instruction: Instruction, embed: Embed) -> Query:
    """Plain CLIP: the cosine with what should come first. With only a last end, what resembles it least comes first."""
    phrase = instruction.first or instruction.last
    vector = phrase_embedding(phrase, embed)  # [D]
    sign = 1.0 if instruction.first else -1.0
    return Query((sign * vector).astype(np.float32), vector, "cosine" if instruction.first else "minus cosine", (phrase,))


def direction_query(instruction: Instruction, embed: Embed) -> Query:
    """The instruction against its opposite: the projection on the direction from the last end to the first.

    The sign of photo a's score minus photo b's says which is nearer the first end, so the order is transitive and costs one product a photo.
    Source: rank axes (Sonthalia et al. 2025), antonym prompts (Wang et al. 2023, CLIP-IQA); ours is the linear form of the latter.
    """
    first, last = phrase_embedding(instruction.first, embed), phrase_embedding(instruction.last, embed)  # [D], [D]
    return Query(unit(first - last), first, "projection", (instruction.first, instruction.last))


def shifted(query: Query, terms: Sequence[tuple[float, np.ndarray, str]]) -> Query:
    """Add weighted unit vectors (negative weights subtract) to a query: `--plus`, `--minus`."""
    if not terms:
        return query
    vector = query.vector.astype(np.float64) + sum(weight * term for weight, term, _ in terms)  # [D]
    names = tuple(f"{weight:+g}:{name}" for weight, _, name in terms)
    return replace(query, vector=unit(vector), texts=query.texts + names)


def unit(vector: np.ndarray) -> np.ndarray:
    """Scale to unit length, float32; a zero vector stays zero."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 1e-12 else vector).astype(np.float32)


# ---------------------------------------------------------------- scores


def scan(small: np.ndarray, scales: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Score rows from their int8 form.

    small: int8 [N, D].    scales: float32 [N].    query: float32 [D].    Returns float32 [N], within `error_bound` of the master's score.
    The query is split into two integer vectors whose products with int8 rows stay below 2^24: float32 sums of integers are exact there, so
    the result does not depend on how BLAS orders them, nor on where a row lies.
    """
    pair, step = _split(query)  # float32 [D, 2]
    scores = np.empty(len(small), np.float32)
    for start in range(0, len(small), BLOCK):
        block = small[start : start + BLOCK].astype(np.float32)  # [B, D]
        high, low = (block @ pair).T.astype(np.float64)  # [B], [B]
        scores[start : start + BLOCK] = (high * (2 * LOW) + low) * step * scales[start : start + BLOCK]
    return scores


def _split(query: np.ndarray) -> tuple[np.ndarray, float]:
    """Round a query to 16 bits, as high * 256 + low: float32 [D, 2] of integers, and the size of one step."""
    limit = min(HIGH, (1 << 24) // (127 * max(1, len(query))))
    step = max(float(np.abs(query).max()), 1e-12) / (limit * 2 * LOW)
    whole = np.rint(query.astype(np.float64) / step)
    high = np.rint(whole / (2 * LOW))
    return np.stack([high, whole - high * 2 * LOW], axis=1).astype(np.float32), step


def error_bound(scales: np.ndarray, query: np.ndarray) -> np.ndarray:
    """How far `scan` can be from the master's score, float32 [N]: half a step of every int8 element, and the query's own rounding."""
    _, step = _split(query)
    mass = float(np.abs(query).sum(dtype=np.float64))
    return (scales * (0.5 * mass + 0.5 * step * 127 * len(query)) + 1e-6).astype(np.float32)


def exact(master: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The score itself.    master: float16 [N, D].    rows: int64 [K].    query: float32 [D].    Returns float64 [K]."""
    scores = np.empty(len(rows), np.float64)
    along = np.argsort(rows, kind="stable")  # in the order of the file: each of its pages is needed once
    for start in range(0, len(rows), EXACT_BLOCK):  # a million float64 rows at once would be 3 GB
        some = along[start : start + EXACT_BLOCK]
        scores[some] = master[rows[some]].astype(np.float64) @ query.astype(np.float64)
        _let_go(master)
    return np.round(scores, DIGITS)


def _let_go(rows: np.ndarray) -> None:
    """Take a file's pages out of this process: for each row that is read the system maps 64 KB, which over a large store adds up to all of it."""
    source: object = rows.base
    if isinstance(source, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED)


# ---------------------------------------------------------------- order


@dataclass(frozen=True, slots=True)
class Order:
    """Positions in the gallery, best first, with their scores.    index: int64 [K].    scores: float64 [K].    ranks: int64 [K], from 1."""

    index: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray

    def first(self, count: int) -> Order:
        return Order(self.index[:count], self.scores[:count], self.ranks[:count])


Paths = Callable[[np.ndarray], list[str]]  # positions in the gallery -> their paths (only asked for where scores tie)


def order(
    approximate: np.ndarray, error: np.ndarray, exactly: Callable[[np.ndarray], np.ndarray], paths: Paths, *, top: int | None = None, bottom: int | None = None,
    all_exact: bool = False, backwards: bool = False,
) -> Order:  # fmt: skip
    """Sort a gallery, higher scores first, equal scores by path.

    approximate, error: float32 [G], the true score is within error of the approximate one.    exactly: positions [K] -> float64 [K].
    The first max(top, 1,000) places are proven: a photo left out of the exact candidates has an upper bound below the lower bound of enough
    others. Photos after those keep the approximate score and are never placed above them.

    >>> order(np.array([1, 3], "f4"), np.zeros(2, "f4"), lambda i: np.array([1.0, 3.0])[i], lambda i: ["a"] * len(i)).index.tolist()
    [1, 0]
    """
    size = len(approximate)
    if bottom is not None:
        flipped = order(-approximate, error, lambda some: -exactly(some), paths, top=bottom, all_exact=all_exact, backwards=True)
        return Order(flipped.index[::-1], -flipped.scores[::-1], size + 1 - flipped.ranks[::-1])
    wanted = size if top is None else min(top, size)
    proven = size if all_exact else min(size, max(wanted, EXACT_ROWS) if top is not None else EXACT_ROWS)
    candidates = _candidates(approximate, error, proven)
    scores = exactly(candidates)  # float64 [C]
    first = sort(scores, candidates, paths, backwards=backwards)[:proven]  # positions within candidates
    index, scores = candidates[first], scores[first]
    if wanted > proven:
        rest = np.setdiff1d(np.arange(size), index, assume_unique=True)
        rest = rest[sort(approximate[rest], rest, paths, backwards=backwards)]
        index = np.concatenate([index, rest])
        scores = np.concatenate([scores, np.minimum(approximate[rest].astype(np.float64), scores[-1])])
    return Order(index[:wanted], scores[:wanted], np.arange(1, wanted + 1))


def _candidates(approximate: np.ndarray, error: np.ndarray, proven: int) -> np.ndarray:
    """Positions that could be among the first `proven`, int64 [C]."""
    size = len(approximate)
    if proven >= size:
        return np.arange(size)
    least = np.partition(approximate - error, size - proven)[size - proven]  # so many are surely at least this good
    return np.flatnonzero(approximate + error >= least)


def sort(scores: np.ndarray, positions: np.ndarray, paths: Paths, *, backwards: bool = False) -> np.ndarray:
    """Order by score, higher first; equal scores by path bytes (backwards for the bottom of a ranking). Returns positions within `scores`, int64 [K]."""
    found = np.argsort(-scores, kind="stable")
    ordered = scores[found]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(equal):
        return found
    breaks = np.flatnonzero(np.diff(equal) > 1)
    for run in np.split(equal, breaks + 1):
        start, end = int(run[0]), int(run[-1]) + 2
        names = paths(positions[found[start:end]])
        found[start:end] = found[start:end][sorted(range(len(names)), key=lambda i: path_bytes(names[i]), reverse=backwards)]
    return found


def path_bytes(path: str) -> bytes:
    """The bytes of a path as the system has them."""
    return path.encode("utf-8", "surrogateescape")


def percentiles(ranks: np.ndarray, gallery: int) -> np.ndarray:
    """Share of the gallery that is not better, 100 for the first and 0 for the last: float32 [K]."""
    return (100.0 * (gallery - ranks) / max(1, gallery - 1)).astype(np.float32)
