"""What an adapter must beat: ridge on the embedding, the axis between extremes, antonym prompts, numbered prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankclip import scoring
from rankclip.evaluation import ranking as metrics
from rankclip.heads.adapter import Task
from rankclip.instructions import parse
from rankclip.training.tasks import TRAIN, VAL, Data, TaskData

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge, chosen on validation


def baselines(data: Data, one: TaskData) -> dict[str, dict[str, float]]:
    """Measure on validation what needs no adapter: {name: {"SRCC": ..., "MAE": ...}}; fitted on training rows only."""
    x, y = data.features.pooled[one.rows], one.values
    train, valid = one.of(TRAIN), one.of(VAL)
    axes = {"ridge": ridge_axis(x, one, train, valid), "two extremes": extremes_axis(x[train], y[train])}
    if (antonyms := antonym_axis(one.task, data)) is not None:
        axes["antonym prompts"] = (antonyms, 0.0)
    axes_scores = {name: x @ weights + bias for name, (weights, bias) in axes.items()}
    axes_scores["numbered prompts"] = numbered(x, y, train, one.task, data)
    return {name: figures(one, scores, train, valid, fit=name != "ridge") for name, scores in axes_scores.items()}


def ridge_axis(x: np.ndarray, one: TaskData, train: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, float]:
    """Ridge regression to standardised labels; its strength is chosen on validation."""
    wanted = one.task.standardised(one.values)
    fits = [metrics.ridge(x[train], wanted[train], strength) for strength in STRENGTHS]
    return max(fits, key=lambda fit: np.nan_to_num(metrics.srcc(wanted[valid], x[valid] @ fit[0] + fit[1]), nan=-1))


def extremes_axis(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """From the mean of the lowest twentieth to the mean of the highest. Source: Sonthalia et al. 2025."""
    order, count = np.argsort(y, kind="stable"), max(1, len(y) // 20)
    return x[order[-count:]].mean(axis=0) - x[order[:count]].mean(axis=0), 0.0


def antonym_axis(task: Task, data: Data) -> np.ndarray | None:
    """The direction between the two ends of a task's instruction, towards higher labels: float32 [D]; None where it names one end."""
    instruction = parse(task.instruction)
    if not instruction.two_ended:
        return None
    axis: np.ndarray = (-1.0 if instruction.ascending else 1.0) * scoring.direction_query(instruction, data.embed).vector
    return axis


def numbered(x: np.ndarray, y: np.ndarray, train: np.ndarray, task: Task, data: Data) -> np.ndarray:
    """Expectation of the number over the numbered prompts."""
    prompts = numbered_prompts(y[train], task)
    return expectation(100 * x @ data.embed(list(prompts.texts)).T, prompts.numbers)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts that each name a number. numbers: float64 [C], rising."""

    numbers: np.ndarray
    texts: tuple[str, ...]


def numbered_prompts(y: np.ndarray, task: Task) -> Prompts:
    """Write "a photo, {attribute} {n}" for ten quantiles of the training labels.    y: float64 [n]."""
    numbers = np.unique(np.round(np.quantile(y, np.linspace(0, 1, 10)), 2))
    noun = parse(task.instruction).attribute or task.name
    texts = [
        f"a photo of {n:g} {noun.removeprefix('number of ')}" if noun.startswith("number of ") else f"a photo, {noun} {n:g} {task.unit}".strip()
        for n in numbers
    ]
    return Prompts(numbers, tuple(texts))


def expectation(logits: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mean of the numbers, weighted by the softmax of the logits: float64 [n].    logits: [n, C]."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected: np.ndarray = (shares / shares.sum(axis=1, keepdims=True)) @ numbers
    return expected


def figures(one: TaskData, scores: np.ndarray, train: np.ndarray, valid: np.ndarray, *, fit: bool) -> dict[str, float]:
    """SRCC and MAE on validation; fit: map scores to labels by a line through the training rows first."""
    wanted = one.task.standardised(one.values)
    if fit and np.ptp(scores[train]) > 0:
        slope, shift = np.polyfit(scores[train], wanted[train], 1)
        predicted = slope * scores[valid] + shift
    else:
        predicted = scores[valid]
    return {"SRCC": metrics.srcc(one.values[valid], scores[valid]), "MAE": metrics.mae(one.values[valid], one.task.values(predicted))}
