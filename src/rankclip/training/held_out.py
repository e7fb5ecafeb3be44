"""What needs no adapter, measured on the same labels: every baseline, out of fold, beside the method that `evaluate ranking` measures."""

from __future__ import annotations

import numpy as np

from rankclip.collection import Collection, features
from rankclip.evaluation.orders import LabelSet, Report, measured_by
from rankclip.instructions import parse
from rankclip.training import tuned_clip
from rankclip.training.baselines import antonym_axis, extremes_axis, numbered, numbered_prompts, ridge_axis
from rankclip.training.labelled import slug
from rankclip.training.tasks import Data, TaskData, content_groups, make_task

FOLDS = 5


def reports(collection: Collection, one: LabelSet) -> list[Report]:
    """Measure the baselines on the photos of a label set, each photo by a fit that did not see it or its copies.

    Five folds by content: three to fit, one to choose by, one to predict. Raises InputError for fewer than 20 photos, or labels that are all the same.
    """
    with collection.opened(scan=False) as (store, view, gallery):
        there = np.flatnonzero(view.rows_of(gallery.contents) >= 0)
        content = dict(zip(gallery.paths(there), gallery.contents[there].tolist(), strict=True))
        rows = [row for row in one.rows if row.path in content]
        table = features.read(store, view, np.array([content[row.path] for row in rows], np.int64))
    values = np.array([row.value for row in rows])
    task = make_task(slug(one.instruction), one.instruction, values, unit=one.unit, log2=parse(one.instruction).attribute.startswith("number of "))
    data = Data(table, [TaskData(task, np.arange(len(rows)), values, np.zeros(len(rows), np.int8))], {}, {}, collection.embed_texts)
    groups = content_groups(table.pooled, table.contents)
    fold = np.random.default_rng(0).permutation(int(groups.max()) + 1)[groups] % FOLDS
    predicted = out_of_fold(data, fold)
    return [measured_by(f"baseline: {name}", one, len(one.rows) - len(rows), values, found, in_unit=True) for name, found in predicted.items()]


def out_of_fold(data: Data, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Predict every photo by baselines that were fitted without its fold: {name: float64 [N]}, in the labels' unit.    fold: int64 [N]."""
    found: dict[str, np.ndarray] = {}
    for number in range(FOLDS):
        test, valid = np.flatnonzero(fold == number), np.flatnonzero(fold == (number + 1) % FOLDS)
        train = np.flatnonzero((fold != number) & (fold != (number + 1) % FOLDS))
        for name, predictions in fitted(data, train, valid).items():
            found.setdefault(name, np.full(len(fold), np.nan))[test] = predictions[test]
    return found


def fitted(data: Data, train: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Fit every baseline on some photos and predict all: {name: float64 [N]}."""
    one = data.tasks[0]
    x, y = data.features.pooled[one.rows], one.values
    axes = {"ridge": ridge_axis(x, one, train, valid), "two extremes": extremes_axis(x[train], y[train])}
    if (antonyms := antonym_axis(one.task, data)) is not None:
        axes["antonym prompts"] = (antonyms, 0.0)
    found = {name: in_unit(one, x @ weights + bias, train) for name, (weights, bias) in axes.items()}
    prompts = numbered_prompts(y[train], one.task)
    found["numbered prompts"] = numbered(x, y, train, one.task, data)
    texts = data.embed(list(prompts.texts))
    found["tuned CLIP"] = tuned_clip.predictions(x, y, train, valid, texts, prompts.numbers, tuned_clip.Config())
    return found


def in_unit(one: TaskData, scores: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Map scores to the labels' unit by a line through the training photos, float64 [N]."""
    if np.ptp(scores[train]) == 0:
        return np.full(len(scores), float(np.median(one.values[train])))
    slope, shift = np.polyfit(scores[train], one.task.standardised(one.values[train]), 1)
    return one.task.values(slope * scores + shift).astype(np.float64)
