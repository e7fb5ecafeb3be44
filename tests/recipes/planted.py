"""Worlds with a planted truth for the adapter's recipe: features are made, so the right answer is known."""

from types import SimpleNamespace

import numpy as np

from rankclip.collection.features import FeatureTable
from rankclip.heads.adapter import Task
from rankclip.training.tasks import CAL, TRAIN, VAL, Data, TaskData, make_task
from rankclip.types import Space

WIDTH = 16


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def table(tokens: np.ndarray, pooled: np.ndarray) -> FeatureTable:
    """A feature table over arrays instead of a store."""
    size = len(pooled)
    space = Space("planted", "0" * 64, "squash-8/1", pooled.shape[1], tokens.shape[1], tokens.shape[2])
    view = SimpleNamespace(space=space, read_tokens=lambda rows: tokens[rows].astype(np.float32))
    return FeatureTable(view, np.arange(size), pooled, np.arange(size), np.full((size, 7), np.nan, np.float32), (), np.empty((size, 0), np.float32))  # type: ignore[arg-type]


def data(features: FeatureTable, tasks: list[TaskData], texts: dict[str, np.ndarray]) -> Data:
    states = {name: (vector[None].astype(np.float32), np.ones(1, bool)) for name, vector in texts.items()}
    rng = np.random.default_rng(9)
    return Data(features, tasks, states, texts, lambda names: unit(np.stack([texts.get(name, rng.normal(size=features.pooled.shape[1])) for name in names])))


def thirds(size: int) -> np.ndarray:
    """Four in six to train, one to choose, one to calibrate: int8 [n]."""
    return np.array([TRAIN, TRAIN, VAL, TRAIN, TRAIN, CAL], np.int8)[np.arange(size) % 6]


def task(name: str, rows: np.ndarray, values: np.ndarray, split: np.ndarray | None = None) -> TaskData:
    made: Task = make_task(name, name, values)
    return TaskData(made, rows, values, thirds(len(rows)) if split is None else split)


def counting(seed: int = 0, size: int = 1_200, patches: int = 12, texts: int = 12) -> tuple[Data, dict[str, np.ndarray]]:
    """Tokens are random directions; the value is how many lie within 0.3 rad of the instruction's vector. The last text is never trained on."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(texts + 1, WIDTH)))
    tokens = unit(rng.normal(size=(size, patches, WIDTH)))
    counts = np.zeros((size, texts + 1), int)
    for row in range(size):
        for place in range(patches):
            if rng.random() < 0.6:
                which = (row + (0 if rng.random() < 0.75 else rng.integers(texts + 1))) % (texts + 1)
                tokens[row, place] = unit(vectors[which] + 0.04 * rng.normal(size=WIDTH))
        counts[row] = (tokens[row] @ vectors.T > np.cos(0.3)).sum(axis=0)
    names = {f"text {number}": vectors[number] for number in range(texts + 1)}
    every = np.arange(size)
    tasks = [task(f"text {number}", every, counts[:, number].astype(float)) for number in range(texts)]
    world = data(table(tokens, unit(tokens.mean(axis=1))), tasks, names)
    return world, {"unseen": counts[:, texts].astype(float)}


def axes(seed: int = 0, size: int = 900, texts: int = 5) -> Data:
    """Pooled rows are random; the value is the projection on an axis that belongs to the instruction."""
    rng = np.random.default_rng(seed)
    pooled, vectors, directions = unit(rng.normal(size=(size, WIDTH))), unit(rng.normal(size=(texts, WIDTH))), unit(rng.normal(size=(texts, WIDTH)))
    tasks = [task(f"text {number}", np.arange(size), (pooled @ directions[number]).astype(float)) for number in range(texts)]
    return data(table(pooled[:, None], pooled), tasks, {f"text {number}": vectors[number] for number in range(texts)})
