"""From a label file to what the adapter's recipe learns from: features out of the store, tasks, a split by content."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rankclip.collection import Collection, features
from rankclip.engines.base import text_states
from rankclip.errors import InputError
from rankclip.evaluation.labels import Duel, Label, LabelFile
from rankclip.instructions import parse
from rankclip.training.adapter import Config
from rankclip.training.tasks import CAL, LEAST, TRAIN, VAL, Data, TaskData, content_groups, make_task, split_by_group

SPLITS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": VAL, "cal": CAL}


def gather(file: LabelFile, collection: Collection, config: Config) -> Data:
    """Embed what the store lacks, then read features, texts and splits.

    collection: opened on the photos that the file names.
    Raises InputError, with file and line, for photos that are missing or unreadable, constant labels, or too little data.
    """
    file.check_there()
    with collection.opened() as (store, view, gallery):
        contents = dict(zip(gallery.paths(np.arange(len(gallery.contents))), gallery.contents.tolist(), strict=True))
        check_photos(file, contents)
        paths = file.paths
        table = features.read(store, view, np.array([contents[path] for path in paths], np.int64))
        groups = content_groups(table.pooled, table.contents)
        row_of = {path: row for row, path in enumerate(paths)}
        tasks = value_tasks(file.labels, row_of, groups, config) if file.labels else duel_tasks(file.duels, row_of, groups, config)
        texts = [one.task.instruction for one in tasks]
        states, mask = text_states(collection.text_engine, texts)
        return Data(
            table,
            tasks,
            {text: (states[i][mask[i]], mask[i][mask[i]]) for i, text in enumerate(texts)},
            dict(zip(texts, collection.embed_texts(texts), strict=True)),
            collection.embed_texts,
        )


def check_photos(file: LabelFile, contents: dict[str, int]) -> None:
    """Raise InputError, with file and line, for the first photo that could not be read."""
    wrong = [path for path in file.paths if path not in contents]
    if wrong:
        more = f" ({len(wrong):,} photos in all)" if len(wrong) > 1 else ""
        raise InputError(f"{file.places[wrong[0]]}: {wrong[0]} cannot be read{more}", hint="rankclip embed says why; leave the row out")


def value_tasks(labels: Sequence[Label], row_of: dict[str, int], groups: np.ndarray, config: Config) -> list[TaskData]:
    """Group labels by instruction; the same photo twice in one task keeps its mean."""
    found: dict[str, dict[int, list[Label]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        found[label.instruction][row_of[label.path]].append(label)
    tasks = []
    for instruction, by_row in found.items():
        rows = np.array(sorted(by_row), np.int64)
        values = np.array([np.mean([label.value for label in by_row[row]]) for row in rows.tolist()])
        first = by_row[int(rows[0])][0]
        counts = parse(instruction).attribute.startswith("number of ")
        task = make_task(slug(instruction), instruction, values, unit=first.unit, log2=counts)
        split = split_by_group(groups[rows], config)
        given = [by_row[row][0].split for row in rows.tolist()]
        if any(given):
            split = np.array([kept_split(name, part) for name, part in zip(given, split.tolist(), strict=True)], np.int8)
        tasks.append(checked(TaskData(task, rows, values, split, groups=groups[rows])))
    return tasks


def kept_split(name: str, drawn: int) -> int:
    """Keep to a given split, "" counting as train, but let what was drawn for it from the training photos calibrate.

    >>> [kept_split(name, drawn) for name, drawn in (("train", TRAIN), ("train", VAL), ("train", CAL), ("val", CAL))] == [TRAIN, TRAIN, CAL, VAL]
    True
    """
    found = SPLITS.get(name, TRAIN)
    return CAL if found == TRAIN and drawn == CAL else found


def duel_tasks(duels: Sequence[Duel], row_of: dict[str, int], groups: np.ndarray, config: Config) -> list[TaskData]:
    """Comparisons of one instruction: a duel with a photo that is kept for validation is kept for validation; there is nothing to calibrate."""
    tasks = []
    for instruction in dict.fromkeys(duel.instruction for duel in duels):
        pairs = np.array([(row_of[duel.winner], row_of[duel.loser]) for duel in duels if duel.instruction == instruction], np.int64)
        part = split_by_group(groups, config)[pairs]  # int8 [n, 2]
        split = np.where((part == VAL).any(axis=1), VAL, TRAIN).astype(np.int8)
        if min(int((split == TRAIN).sum()), int((split == VAL).sum())) < LEAST // 4:
            raise InputError(f"{instruction!r}: {len(pairs)} comparisons are too few to learn from and measure", hint="give at least a hundred")
        task = make_task(slug(instruction), instruction, np.arange(LEAST, dtype=float))  # no unit, no standard: scores only
        tasks.append(TaskData(task, np.empty(0, np.int64), np.empty(0), split, pairs[:, 0], pairs[:, 1]))
    return tasks


def checked(one: TaskData) -> TaskData:
    """Raise InputError when training or validation has too few photos or only one value."""
    for split, name in ((TRAIN, "training"), (VAL, "validation")):
        values = one.values[one.of(split)]
        if len(values) < LEAST // 4 or np.ptp(values) == 0:
            raise InputError(
                f"{one.task.instruction!r}: {len(values)} different photos for {name} are too few, or all have one value",
                hint="label more photos, with different values",
            )
    return one


def slug(instruction: str) -> str:
    """Name a task after its attribute.

    >>> slug("Sort by age"), slug("Rank the number of apples.")
    ('age', 'number-of-apples')
    """
    text = parse(instruction).attribute or instruction
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "task"
