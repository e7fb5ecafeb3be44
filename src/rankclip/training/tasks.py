"""What the adapter's recipe learns from: labelled rows of a feature table, one task for each instruction, split by content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rankclip import scoring
from rankclip.collection.features import FeatureTable
from rankclip.errors import InputError
from rankclip.heads.adapter import Task
from rankclip.heads.wording import words_of

TRAIN, VAL, CAL = 0, 1, 2
LEAST = 20  # labelled photos below which nothing can be learnt and measured
SAME_PHOTO = 0.99  # cosine from which two photos are one for the split


class Shares(Protocol):
    """How much is kept from training: shares of the groups, and the seed that chooses them."""

    @property
    def validation(self) -> float: ...

    @property
    def calibration(self) -> float: ...

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Drops:
    """Pairs of photos of which one is known to be worse by so much: a copy with a fault beside its original. They have no value, only a difference.

    better, worse: int64 [p], positions within the task. gap: float64 [p], standardised, > 0. weight: float64 [p], of their squared errors beside those of the
    labels.
    """

    better: np.ndarray
    worse: np.ndarray
    gap: np.ndarray
    weight: np.ndarray


@dataclass(slots=True)
class TaskData:
    """Labels of one instruction: rows of the feature table, values, the split of each, and which photos belong together."""

    task: Task
    rows: np.ndarray  # int64 [n]
    values: np.ndarray  # float64 [n]
    split: np.ndarray  # int8 [n]
    winners: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))  # duels instead of values: rows
    losers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    groups: np.ndarray | None = None  # int64 [n]: photos of one group are never on both sides of a choice; None: each is its own
    drops: Drops | None = None  # beside the labels, for the kernel regression

    def of(self, split: int) -> np.ndarray:
        """Positions of a split, int64."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True, slots=True)
class Data:
    """Everything a run learns from."""

    features: FeatureTable
    tasks: list[TaskData]
    states: dict[str, tuple[np.ndarray, np.ndarray]]  # instruction -> token states float32 [S, V], bool [S]
    texts: dict[str, np.ndarray]  # instruction -> float32 [D]
    embed: scoring.Embed


def content_groups(pooled: np.ndarray, contents: np.ndarray) -> np.ndarray:
    """Number groups of photos that are the same to the eye: equal content, or a cosine of at least 0.99. int64 [N].

    Greedy: a photo joins the group of the first earlier photo that it equals.
    """
    _, groups = np.unique(contents, return_inverse=True)
    groups = groups.astype(np.int64)
    for start in range(0, len(pooled), 1024):
        same = pooled[start : start + 1024] @ pooled[: start + 1024].T >= SAME_PHOTO  # [B, up to here]
        for row in range(len(same)):
            groups[start + row] = min(groups[start + row], groups[int(same[row, : start + row + 1].argmax())])
    return groups


def split_by_group(groups: np.ndarray, shares: Shares) -> np.ndarray:
    """Assign whole groups to training, validation and calibration: int8 [n]."""
    names = np.unique(groups)
    order = np.random.default_rng([shares.seed, 7]).permutation(len(names))
    place = np.empty(len(names))
    place[order] = (np.arange(len(names)) + 0.5) / len(names)
    found = np.where(place < shares.validation, VAL, np.where(place < shares.validation + shares.calibration, CAL, TRAIN)).astype(np.int8)
    return found[np.searchsorted(names, groups)]


def make_task(name: str, instruction: str, values: np.ndarray, *, unit: str = "", log2: bool = False) -> Task:
    """Standardise by median and interquartile range. Raises InputError for too few or constant labels."""
    if len(values) < LEAST:
        raise InputError(f"{instruction!r} has {len(values)} labelled photos, at least {LEAST} are needed")
    if np.ptp(values) == 0:
        raise InputError(f"{instruction!r}: all {len(values)} labels are {values[0]:g}", hint="there is nothing to order by")
    plain = np.log2(1 + values) if log2 else values
    quarter, median, three = np.percentile(plain, [25, 50, 75])
    spread = float(three - quarter) or float(plain.std())
    return Task(name, instruction, unit, log2, float(median), spread, float(values.min()), float(values.max()), wording=words_of(instruction))
