"""Train the adapter that ships with rankclip-mini: age, technical quality, counts, memorability, brightness and colourfulness in one pack.

    python train.py --shared PACKS --out RUN [--stages photos,embed,folds,ablate,train,complete,matcher,pack]

Stages: photos (labels and degraded copies), embed (features into a store of its own), folds (5-fold figures beside ridge), ablate (what the
spec doubts), train (the network), complete (the kernel regressions beside it, shares, intervals, figures), matcher (which instructions it answers),
pack (the head pack and its table). About an hour on two cores; every stage can be repeated, `train` resumes after a kill.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import paraphrases
import photos
import torch
from PIL import Image
from wordings import WORDINGS, counting

from rankclip.collection import Collection, features
from rankclip.evaluation import labels
from rankclip.evaluation import ranking as metrics
from rankclip.evaluation.figure import Figure
from rankclip.heads import packs
from rankclip.heads.adapter import GRAPH, KERNELS_ALONE, MATCHER, Task
from rankclip.heads.kernel import FACTS, KERNELS, Regression, mean, read_bytes, to_bytes
from rankclip.heads.packs import HeadCard
from rankclip.settings import Settings
from rankclip.training import adapter, kernels, labelled, matcher, runs
from rankclip.training.adapter import Config, Fitted, with_calibration
from rankclip.training.baselines import STRENGTHS, baselines
from rankclip.training.scorer import graph_scores
from rankclip.training.tasks import CAL, TRAIN, VAL, Data, Drops, TaskData, content_groups, make_task, split_by_group

STAGES = ("photos", "embed", "folds", "ablate", "train", "complete", "matcher", "pack")
TEST = 3  # a split of its own in cross-validation
FOLDS = 5
ABLATED = 1_500  # faces to train on in an ablation
SEEDS = 2
ABLATIONS = {
    "as trained": {},
    "no prompt tokens": {"prompt_kind": "none"},
    "one sink token": {"prompt_kind": "sink"},
    "sum over tokens": {"pool": "sum"},
    "no pair loss": {"pair": False},
    "2 + 2 layers": {"layers": 2},
    "half the width": {"width": 64},
    "no pooled token": {"pooled": False},
    "no pixel facts": {"facts": False},
    "A-lite": {"size": "lite"},
}
NAMES = {photos.AGE: "age", photos.QUALITY: "quality", photos.MEMORABLE: "memorability", photos.BRIGHT: "brightness", photos.COLOUR: "colourfulness"}
UNUSED = 4  # portraits of faces that are kept for choosing or calibrating
SUBJECT = "age"  # the task that only applies to photos with a face
SERIES = {"number-of-playing-cards": "playing cards", "number-of-blood-cells": "blood cells", "number-of-cells": "cells"}  # count only in photos like their own
COUNTING = "number-of"
DROP_WEIGHT = 0.045  # of a degraded copy beside a rated photo, chosen with the five folds and the degraded validation photos in view
LOOKS = ("quality", "memorability")  # what inner stages are read for; ages are told a little worse with them on validation (0.928 against 0.932)
GENTLY = 0.02  # part of that weight for the regression that reads inner stages, too
BLUNT = 0.33  # share of the regression that does not
STAGES_OF_QUALITY = 2.0  # weight of the stages beside the embedding
LARGE, LARGE_WEIGHT = 2.5, 5.0  # megapixels from which a copy weighs more: photos of that size are most of what there is, and few here


class Run:
    """One run: its folder and its options."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.shared, self.out = options.shared, options.out
        changes = dict(one.split("=", 1) for one in options.set)
        self.config = runs.configured(Config(epochs=options.epochs, steps_an_epoch=options.steps, patience=6), changes, "--set")
        self.only_tasks = tuple(options.only.split(",")) if options.only else ()
        torch.set_num_threads(options.threads)

    # ------------------------------------------------------------ stages

    def photos(self) -> None:
        print(photos.write(self.shared, self.out / "photos"))

    def embed(self) -> None:
        print(self.collection(*sorted({*self.file.paths, *(str(self.out / "photos" / row["path"]) for row in self.subject_rows())})).embed())

    def folds(self) -> None:
        """Five folds by group over train + val for the tasks whose val split is small: the kernel regression alone and ridge, on the same folds."""
        data, held, known = self.data(), {}, {}
        if self.only_tasks:
            data, known = self.only(data, self.only_tasks), json.loads((self.out / "folds.json").read_text())
        for one in self.only(data, ("quality", "memorability")).tasks:
            if one.task.name == "quality":
                held["quality, degraded photos taught too (shipped)"] = self.out_of_fold(data, one)
                held["quality, rated photos only"] = self.out_of_fold(data, dataclasses.replace(one, drops=None))
            else:
                held[one.task.name] = self.out_of_fold(data, one)
        for tasks in families(self.only(data, (COUNTING,)).tasks):
            held |= self.counted_out_of_fold(data, tasks)
        figures = known | fold_figures(held)
        print(json.dumps(figures, indent=1))
        (self.out / "folds.json").write_text(json.dumps(figures, indent=1))

    def ablate(self) -> None:
        """Each change on age alone, two seeds, short runs of the network without the kernel regression; on a part of the training photos."""
        data = self.only(self.data(), ("age",))
        one = data.tasks[0]
        spared = np.random.default_rng(0).permutation(one.of(TRAIN))[ABLATED:]
        one.split[spared] = UNUSED
        rows = {}
        for name, change in ABLATIONS.items():
            found = []
            for seed in range(SEEDS):
                folder = self.out / "ablate" / f"{name.replace(' ', '-')}-{seed}"
                outcome = adapter.train(data, folder, dataclasses.replace(self.config, seed=seed, kernel=False, **change))
                found.append(round(outcome.report["age"]["SRCC"]["value"], 4))
            rows[name] = found
            print(f"{name:20} {np.mean(found):.4f}", found, flush=True)
            (self.out / "ablations.json").write_text(json.dumps(rows, indent=1))

    def train(self) -> None:
        """Train the network; what stands beside it is the next stage's."""
        outcome = adapter.train(self.data(), self.out / "train", dataclasses.replace(self.config, kernel=False))
        (self.out / GRAPH).write_bytes(outcome.graph)

    def complete(self) -> None:
        """Fit the kernel regressions beside the network, choose shares, calibrate and measure."""
        data, graph = self.data(), (self.out / GRAPH).read_bytes()
        beside: dict[str, Regression] = {}
        tasks: dict[str, Task] = {}
        if self.only_tasks:
            data = self.only(data, self.only_tasks)
            beside = read_bytes((self.out / KERNELS).read_bytes())
            tasks = {record["name"]: Task.read(record) for record in json.loads((self.out / "tasks.json").read_text())}
        fitted: dict[str, Fitted] = {}
        for family in families(self.only(data, (COUNTING,)).tasks):
            apart, whole = (kernels.fit_counts(some, data.features) for some in (family, [with_calibration(one) for one in family]))
            fitted |= {name: Fitted(apart[name], whole[name], alone=True) for name in apart}  # the folds, which decide about counting, are without a network
        for one in data.tasks:
            if one.task.name not in fitted:
                fitted[one.task.name] = Fitted(self.fitted(one, data), self.fitted(with_calibration(one), data))
        for one in data.tasks:
            asked, scores = np.flatnonzero((one.split == VAL) | (one.split == CAL)), np.zeros(len(one.rows), np.float32)
            scores[asked] = graph_scores(graph, data, one.rows[asked], one.task.instruction)
            done = adapter.completed(one, data, scores, baselines(data, one), self.config, fitted[one.task.name])
            assert done.kernel is not None
            beside[one.task.name] = done.kernel
            tasks[one.task.name] = done.task
            print(one.task.name, json.dumps({key: done.task.figures[key] for key in ("SRCC", "SRCC alone", "share of the network", "coverage")}), flush=True)
        (self.out / KERNELS).write_bytes(to_bytes(beside))
        (self.out / "tasks.json").write_text(json.dumps([asdict(task) for task in tasks.values()], indent=1))

    def matcher(self) -> None:
        """Train the matcher; threshold on one half of the hand-written instructions, errors on the other."""
        embed = self.collection(str(self.out / "photos" / "quality")).embed_texts
        captions = [text for row in map(json.loads, (self.shared / "data" / "flickr8k.jsonl").read_text().splitlines()) for text in row["captions"][:1]][:3_000]
        names = sorted({json.loads(line)["label_text"] for line in (self.shared / "data" / "concepts.jsonl").read_text().splitlines()})
        by_hand = paraphrases.written_by_hand(Path(__file__).with_name("instructions.tsv"))
        known = {one.text for one in by_hand}
        made = [answerable(one) for one in paraphrases.examples(captions, names) if one.text not in known]
        by_hand = [answerable(one) for one in by_hand]
        tasks = [Task(name, instruction, wording=WORDINGS[name]) for instruction, name in NAMES.items()]
        halves = [[one for number, one in enumerate(by_hand) if number % 2 == half] for half in range(2)]
        judge = matcher.Judge(matcher.train(made, embed, matcher.Config()), tasks, embed)
        found = [judge.answers(half) for half in halves]
        threshold = matcher.best_threshold(found[0])
        wrong = [matcher.errors(half, threshold) for half in found]
        figures = {
            "examples": len(made),
            "threshold": threshold,
            "by hand, unseen": len(found[1]),
            **{f"wrong, half {i + 1}": round(len(wrong[i]) / len(found[i]), 4) for i in range(2)},
        }
        print(figures)
        for one, answer, sure in wrong[0]:  # those of the other half are nobody's business: they measure
            print(f"  {one.text!r}: {one.answer or 'none'} expected, {answer or 'none'} ({sure:.2f})")
        (self.out / MATCHER).write_bytes(matcher.to_bytes(dataclasses.replace(judge.matcher, threshold=threshold)))
        (self.out / "matcher.json").write_text(json.dumps(figures))

    def pack(self) -> None:
        """Write the pack: tasks with their words and subjects, kernel regressions, matcher; the network only where a task has a share of it."""
        data, trained = self.data(), [Task.read(record) for record in json.loads((self.out / "tasks.json").read_text())]
        kept, words = [task for task in trained if task.name not in self.worse_than_ridge()], WORDINGS
        shipped = [
            dataclasses.replace(task, subject=self.subject(task.name, data), wording=words.get(task.name) or counting(noun(task)), figures={}) for task in kept
        ]
        figures: dict = {task.name: task.figures for task in kept} | {"degradations": self.degradations(data)}
        files = {"matcher": "matcher.json", "applies": "applies.json", "five folds": "folds.json", "ablations": "ablations.json"}
        figures |= {name: json.loads((self.out / file).read_text()) for name, file in files.items() if (self.out / file).exists()}
        parts = (*((GRAPH,) if any(task.share for task in shipped) else ()), KERNELS, MATCHER)
        config = {"tasks": [asdict(task) for task in shipped], "size": self.config.size if GRAPH in parts else KERNELS_ALONE}
        space, facts = data.features.view.space, np.nanmean(data.features.facts, axis=0)
        config["fact_mean"] = facts.round(6).tolist()
        card = HeadCard("mini-ranking", "adapter", space.backbone, space.fingerprint, config, licence="CC BY-NC 4.0", data=DATA, figures=figures, limits=LIMITS)
        shutil.rmtree(self.out / "mini-ranking", ignore_errors=True)
        contents = {name: (self.out / name).read_bytes() for name in parts}
        beside = read_bytes(contents[KERNELS])
        contents[KERNELS] = to_bytes({task.name: beside[task.name] for task in shipped})
        done = packs.write(self.out / "mini-ranking", card, contents)
        print(done.folder, *(f"{file.name} {file.stat().st_size / 1e6:.2f} MB" for file in sorted(done.folder.iterdir())))

    # ------------------------------------------------------------ parts

    def worse_than_ridge(self) -> set[str]:
        """Tasks that the five folds find worse than ridge regression, with all of the interval: they stay out of the pack."""
        found = json.loads((self.out / "folds.json").read_text()).items()
        return {name.replace("counts: ", "number-of-").replace(" ", "-") for name, one in found if one["difference"]["high"] < 0}

    def collection(self, *paths: str) -> Collection:
        return Collection(*paths, settings=Settings(store=str(self.out / "store"), max_megapixels=64))

    @cached_property
    def file(self) -> labels.LabelFile:
        return labels.read(self.out / "photos" / "labels.jsonl")

    def data(self) -> Data:
        """All tasks; official val splits decide, a part of the training photos calibrates; computed labels are added."""
        file = self.file
        data = labelled.gather(file, self.collection(*file.paths), self.config)
        for one in data.tasks:
            one.task = named(one.task)
        self.keep_portraits_apart(data, file.paths)
        groups = self.groups()
        for one in data.tasks:
            _, one.groups = np.unique([groups[file.paths[row]] for row in one.rows.tolist()], return_inverse=True)
            if one.task.name == "quality":
                self.teach_differences(one)
        facts, most = data.features.facts, max(one.values.max() for one in data.tasks if one.task.log2)
        for one in data.tasks:
            if one.task.log2:  # one scale for everything that is counted, so that it can be asked for what was never counted
                one.task = dataclasses.replace(one.task, median=1.0, spread=1.5, low=0.0, high=float(most))
        for name, column, instruction in (("brightness", 0, photos.BRIGHT), ("colourfulness", 3, photos.COLOUR)):
            every = np.flatnonzero(np.isfinite(facts[:, column]))
            rows = np.sort(np.random.default_rng(column).permutation(every)[:3_000])
            values = 100 * facts[rows, column].astype(float)
            split = split_by_group(content_groups(data.features.pooled[rows], data.features.contents[rows]), self.config)
            data.tasks.append(TaskData(make_task(name, instruction, values, unit="of 100"), rows, values, split))
            text = self.collection(str(self.out / "photos" / "quality"))
            states, mask = adapter_states(text, instruction)
            data.states[instruction], data.texts[instruction] = (states, mask), text.embed_texts([instruction])[0]
        return data

    def only(self, data: Data, names: tuple[str, ...]) -> Data:
        return dataclasses.replace(data, tasks=[one for one in data.tasks if one.task.name.startswith(names) or one.task.name in names])

    def groups(self) -> dict[str, str]:
        rows = map(json.loads, (self.out / "photos" / "labels.jsonl").read_text().splitlines())
        return {str(self.out / "photos" / row["path"]): row["group"] for row in rows}

    def teach_differences(self, one: TaskData) -> None:
        """Degraded copies have no rating: what is taught is how much worse each is than its own original. Those of the validation split only measure."""
        copies, paths = self.degraded(one), [Path(self.file.paths[row]) for row in one.rows.tolist()]
        place = {path.stem: position for position, path in enumerate(paths)}
        pairs, weights = [], []
        for position in np.flatnonzero(copies & (one.split != VAL)).tolist():
            number, kind, strength = paths[position].stem.split("_")
            if kind != "clean":
                pairs.append((place[f"{number}_clean_0.00"], position, photos.fall(float(strength))))
                with Image.open(paths[position]) as copy:
                    weights.append(DROP_WEIGHT * (LARGE_WEIGHT if copy.width * copy.height >= LARGE * 1e6 else 1.0))
        better, worse, fall = (np.array(column) for column in zip(*pairs, strict=True))
        one.task = dataclasses.replace(
            make_task(one.task.name, one.task.instruction, one.values[~copies], unit=one.task.unit), name=one.task.name, wording=one.task.wording
        )
        one.drops = Drops(better, worse, fall / one.task.spread, np.array(weights))
        one.split[copies] = UNUSED

    def fitted(self, one: TaskData, data: Data) -> Regression:
        """Fit the kernel regression of one task; where degraded copies teach, two of them.

        What a fault does to a large photo shows in the pixel facts alone; the one that reads no stages tells it, and learns from copies at their full weight.
        The other reads how a photo was rated from inner stages, too, and copies at full weight would drown the ratings.
        """
        pooled, beside = data.features.pooled[one.rows], data.features.measured[one.rows]
        if one.drops is None:
            return kernels.fit(one, pooled, beside, stages=kernels.STAGE_WEIGHTS if one.task.name in LOOKS else (0.0,))
        gently = dataclasses.replace(one, drops=dataclasses.replace(one.drops, weight=GENTLY * one.drops.weight))
        return mean((BLUNT, kernels.fit(one, pooled, beside[:, :FACTS])), (1 - BLUNT, kernels.fit(gently, pooled, beside, stages=(STAGES_OF_QUALITY,))))

    def folded(self, one: TaskData) -> np.ndarray:
        """A fold by group for each labelled photo, -1 for the others: int64 [n]."""
        assert one.groups is not None
        place = np.random.default_rng(5).permutation(int(one.groups.max()) + 1)[one.groups] % FOLDS
        return np.where(one.split == UNUSED, -1, place)

    def out_of_fold(self, data: Data, one: TaskData) -> Held:
        """Predict each labelled photo by a fit that saw neither it nor its group; intervals by a fit without the next fold, which calibrates."""
        pooled, beside, folds = data.features.pooled[one.rows], data.features.measured[one.rows], self.folded(one)
        ours, ridge, low, high = np.full((4, len(one.rows)), np.nan)
        for fold in range(FOLDS):
            some = self.without(one, folds, fold)
            test = some.of(TEST)
            ours[test] = self.fitted(some, data).scores(pooled[test], beside[test])
            ridge[test] = ridge_scores(some, pooled, folds)[test]
            apart = dataclasses.replace(some, split=np.where(folds == (fold + 1) % FOLDS, CAL, some.split).astype(np.int8))
            task = adapter.calibrated(apart, self.fitted(apart, data).scores(pooled, beside))
            low[test], high[test] = task.intervals(ours[test]).T
        kept = np.isfinite(ours)
        return Held(one.values[kept], ours[kept], ridge[kept], metrics.coverage(one.values[kept], low[kept], high[kept]))

    def counted_out_of_fold(self, data: Data, tasks: list[TaskData]) -> dict[str, Held]:
        """The same for tasks that count in the same photos; measured over those that hold the thing."""
        folds = [self.folded(one) for one in tasks]
        ours, ridge = [[np.full(len(one.rows), np.nan) for one in tasks] for _ in range(2)]
        for fold in range(FOLDS):
            some = [self.without(one, place, fold) for one, place in zip(tasks, folds, strict=True)]
            found = kernels.fit_counts(some, data.features)
            for number, one in enumerate(some):
                pooled, beside, test = data.features.pooled[one.rows], data.features.measured[one.rows], one.of(TEST)
                ours[number][test] = found[one.task.name].scores(pooled[test], beside[test])
                ridge[number][test] = ridge_scores(one, pooled, folds[number])[test]
        held = {}
        for one, scores, base in zip(tasks, ours, ridge, strict=True):
            kept = one.values > 0
            held[one.task.name.replace("number-of-", "counts: ").replace("-", " ")] = Held(one.values[kept], scores[kept], base[kept])
        return held

    def without(self, one: TaskData, folds: np.ndarray, fold: int) -> TaskData:
        """The task with one fold to measure and all others to learn from."""
        return dataclasses.replace(one, split=np.where(folds == fold, TEST, np.where(folds < 0, UNUSED, TRAIN)).astype(np.int8))

    def degraded(self, one: TaskData) -> np.ndarray:
        """Which rows of a task are synthetic degradations or the clean photos they were made of: bool [n]."""
        paths = self.file.paths
        return np.array([Path(paths[row]).parent.name == "degraded" for row in one.rows.tolist()])

    def keep_portraits_apart(self, data: Data, paths: list[str]) -> None:
        """Faces pasted into scenes only teach: measured and calibrated is on real photos, and never on a face that a portrait shows."""
        for one in data.tasks:
            if one.task.name == "age":
                names = np.array([Path(paths[row]).stem for row in one.rows.tolist()])
                pasted = np.array([Path(paths[row]).parent.name == "portraits" for row in one.rows.tolist()])
                held = set(names[~pasted & (one.split != TRAIN)].tolist())
                one.split[pasted] = [UNUSED if name in held else TRAIN for name in names[pasted].tolist()]

    def subject_rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.out / "photos" / "subjects.jsonl").read_text().splitlines()]

    def subject(self, name: str, data: Data) -> tuple[float, ...]:
        """The probe "the photo holds what the task is about": of faces for ages, of photos like its own for what is only counted there."""
        if name in SERIES:
            return self.of_the_series(next(one for one in data.tasks if one.task.name == name), data)
        return self.faces() if name == SUBJECT else ()

    def of_the_series(self, one: TaskData, data: Data) -> tuple[float, ...]:
        """Fit "a photo like those of the task" against all other labelled photos, on training photos: weights and bias."""
        mine = np.zeros(len(data.features), bool)
        mine[one.rows] = True
        kept = np.ones(len(mine), bool)
        kept[one.rows[one.split != TRAIN]] = False
        weights, _ = metrics.ridge(data.features.pooled[kept], np.where(mine[kept], 1.0, -1.0), 1e-3)
        shift = float(np.median((data.features.pooled @ weights)[mine & kept]) + np.percentile((data.features.pooled @ weights)[~mine], 99.5)) / 2
        return (*weights.round(6).tolist(), round(-shift, 6))

    def faces(self) -> tuple[float, ...]:
        """Fit the probe "the photo shows a face" on embeddings: weights and bias; strength and bias by half of the validation photos."""
        rows, portraits = self.subject_rows(), [label.path for label in self.file.labels if "/portraits/" in label.path]
        paths = [str(self.out / "photos" / row["path"]) for row in rows] + portraits
        x = self.pooled(paths)
        holds, train = (
            np.array([row["face"] for row in rows] + [True] * len(portraits)),
            np.array([row["split"] == "train" for row in rows] + [True] * len(portraits)),
        )
        aside, test = np.flatnonzero(~train)[::2], np.flatnonzero(~train)[1::2]
        fits = [metrics.ridge(x[train], np.where(holds[train], 1.0, -1.0), strength) for strength in (1e-4, 1e-3, 1e-2)]
        weights, bias = max(fits, key=lambda fit: balanced(x[aside] @ fit[0] + fit[1] > 0, holds[aside]))
        shifts = np.linspace(-0.8, 0.8, 81)
        shift = float(max(shifts, key=lambda shift: balanced(x[aside] @ weights + bias > shift, holds[aside])))
        kinds = np.array([row["path"].split("/")[0] for row in rows])
        said = x @ weights + bias > shift
        found = {kind: round(float((said == holds)[test][kinds[test] == kind].mean()), 3) for kind in np.unique(kinds[test]).tolist()}
        figures = {"photos": len(test), "balanced accuracy": round(balanced(said[test], holds[test]), 4), "right by pack": found}
        print("applies:", figures)
        (self.out / "applies.json").write_text(json.dumps(figures))
        return (*weights.round(6).tolist(), round(float(bias) - shift, 6))

    def pooled(self, paths: list[str]) -> np.ndarray:
        """Stored embeddings of some photos, float32 [N, D]."""
        with self.collection(*paths).opened() as (store, view, gallery):
            contents = dict(zip(gallery.paths(np.arange(len(gallery.contents))), gallery.contents.tolist(), strict=True))
            return features.read(store, view, np.array([contents[path] for path in paths], np.int64)).pooled

    def degradations(self, data: Data) -> dict:
        """On degraded photos of the validation split, at strengths of their own: Spearman over all of them with the strength (clean photos are 0), and the mean
        over the series of one photo with one fault, from clean to strongest, by fault."""
        one = next(one for one in data.tasks if one.task.name == "quality")
        valid = {label.path for label in self.file.labels if label.split == "val"}
        some = np.flatnonzero(self.degraded(one) & np.array([self.file.paths[row] in valid for row in one.rows.tolist()]))
        kernel = read_bytes((self.out / KERNELS).read_bytes())["quality"]
        scores = kernel.scores(data.features.pooled[one.rows[some]], data.features.measured[one.rows[some]])
        names = [Path(self.file.paths[row]).stem.split("_") for row in one.rows[some].tolist()]
        strengths = np.array([float(strength) for _, _, strength in names])
        series = series_by_fault(names, strengths, scores)
        found = {fault: asdict(mean_with_interval(values)) | {"series": len(values)} for fault, values in series.items()}
        every = asdict(mean_with_interval([value for values in series.values() for value in values])) | {"series": sum(map(len, series.values()))}
        pooled = asdict(metrics.with_interval(metrics.srcc, -strengths, scores))
        return {"within a photo's series": found | {"all": every}, "over all photos": pooled | {"photos": len(some)}}


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """Labels and out-of-fold predictions of one task, float64 [n] each, and the share of labels in our 80 % intervals, where it was measured."""

    values: np.ndarray
    ours: np.ndarray
    ridge: np.ndarray
    coverage: float | None = None

    def srcc(self, some: np.ndarray) -> list[float]:
        """Of ours and of ridge."""
        return [metrics.srcc(self.values[some], part[some]) for part in (self.ours, self.ridge)]


def families(tasks: list[TaskData]) -> list[list[TaskData]]:
    """Tasks that label the same photos, together."""
    found: dict[bytes, list[TaskData]] = {}
    for one in tasks:
        found.setdefault(one.rows.tobytes(), []).append(one)
    return list(found.values())


def ridge_scores(one: TaskData, pooled: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Ridge regression on all photos to learn from, its strength chosen on the next fold and then fitted again: float [n]."""
    train, wanted = one.of(TRAIN), one.task.standardised(one.values)
    aside = folds[train] == (int(folds[one.of(TEST)[0]]) + 1) % FOLDS
    fits = {strength: metrics.ridge(pooled[train[~aside]], wanted[train[~aside]], strength) for strength in STRENGTHS}
    best = max(STRENGTHS, key=lambda strength: np.nan_to_num(metrics.srcc(wanted[train[aside]], pooled[train[aside]] @ fits[strength][0]), nan=-1))
    weights, bias = metrics.ridge(pooled[train], wanted[train], best)
    return pooled @ weights + bias


def series_by_fault(names: list[list[str]], strengths: np.ndarray, scores: np.ndarray) -> dict[str, list[float]]:
    """Spearman between score and absence of a fault, for each photo and fault: {fault: values}. names: photo, fault, strength."""
    clean = {photo: place for place, (photo, fault, _) in enumerate(names) if fault == "clean"}
    places: dict[tuple[str, str], list[int]] = {}
    for place, (photo, fault, _) in enumerate(names):
        if fault != "clean":
            places.setdefault((fault, photo), [clean[photo]]).append(place)
    found: dict[str, list[float]] = {}
    for (fault, _), some in sorted(places.items()):
        found.setdefault(fault, []).append(float(np.nan_to_num(metrics.srcc(-strengths[some], scores[some]))))
    return found


def mean_with_interval(values: list[float]) -> Figure:
    """Mean over series, with a bootstrap interval over them."""
    plain = np.array(values)
    return metrics.with_interval(lambda y, _: float(y.mean()), plain, plain)


def fold_figures(held: dict[str, Held]) -> dict:
    """Both with intervals, a paired bootstrap of the difference, and the mean over what is counted."""
    figures = {}
    for name, one in held.items():
        ours, ridge = (asdict(metrics.with_interval(metrics.srcc, one.values, part)) for part in (one.ours, one.ridge))
        difference = asdict(metrics.paired_difference(metrics.srcc, one.values, one.ours, one.ridge))
        figures[name] = {"adapter": ours, "ridge": ridge, "difference": difference, "photos": len(one.values), "coverage": one.coverage}
    counted = [one for name, one in held.items() if name.startswith("counts")]
    return figures | ({"counts, mean of the series": macro_figures(counted)} if counted else {})


def macro_figures(series: list[Held], rounds: int = 500) -> dict:
    """Means over series, and an interval of the difference over photos resampled within each."""
    rng = np.random.default_rng(0)
    whole = np.nanmean([one.srcc(np.arange(len(one.values))) for one in series], axis=0)
    drawn = [np.nanmean([one.srcc(rng.integers(len(one.values), size=len(one.values))) for one in series], axis=0) for _ in range(rounds)]
    low, high = np.percentile([ours - ridge for ours, ridge in drawn], [2.5, 97.5])
    difference = {"value": float(whole[0] - whole[1]), "low": float(low), "high": float(high)}
    return {"adapter": float(whole[0]), "ridge": float(whole[1]), "difference": difference, "series": len(series)}


def noun(task: Task) -> str:
    """What a counting task counts."""
    return task.instruction.removeprefix(photos.COUNT.format(""))


def named(task: Task) -> Task:
    """The task under the name that the matcher answers with."""
    return dataclasses.replace(task, name=NAMES.get(task.instruction, task.name))


def answerable(example: matcher.Example) -> matcher.Example:
    """Counting is the grammar's: what it does not understand, the matcher leaves alone."""
    return dataclasses.replace(example, answer="") if example.answer.startswith("count") else example


def balanced(said: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the shares that are right among the photos with and without."""
    return float((said[truth].mean() + 1 - said[~truth].mean()) / 2)


def adapter_states(collection: Collection, instruction: str) -> tuple[np.ndarray, np.ndarray]:
    from rankclip.engines.base import text_states

    states, mask = text_states(collection.text_engine, [instruction])
    return states[0][mask[0]], mask[0][mask[0]]


DATA = (
    "UTKFace (two samples of about 2,260 and 1,370 faces): non-commercial research only",
    "BIQ2021 (465 photos with mean opinion scores): cite Ahmed and Asif 2021",
    "LNSIM (352 outdoor scenes with memorability scores): cite Lu et al. 2020",
    "counts: COCO 2017 boxes (CC BY 4.0, photos under Flickr terms), playing cards (Apache-2.0), fruit (MIT), BCCD (MIT), VGG synthetic cells",
    "synthetic degradations of captioned photos (Flickr8k: non-commercial research; COCO; Pascal; ADE)",
)
LIMITS = (
    "Ages are guesses from appearance: biased by who is in UTKFace, by light and make-up, often off by ten years; never use them to decide about a person. "
    "Quality and memorability were learnt from a few hundred rated photos; counts above twenty are rough."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--stages", default=",".join(STAGES), help="which stages, by commas")
    parser.add_argument("--only", default="", help="tasks that `folds` and `complete` fit anew, by commas; the others stay as they are")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=120, help="batches an epoch")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of the recipe, as `finetune adapter` does")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    run = Run(options)
    for stage in options.stages.split(","):
        print(f"== {stage}", flush=True)
        getattr(run, stage)()


if __name__ == "__main__":
    main()
