"""Train the adapter that ships with rankclip-mini: age, technical quality, counts, memorability, brightness and colourfulness in one pack.

    python train.py --shared PACKS --out RUN [--stages photos,embed,folds,ablate,train,matcher,pack]

Stages: photos (labels and degraded copies), embed (features into a store of its own), folds (5-fold figures beside ridge), ablate (what the
spec doubts), train (the shipped weights), matcher (which instructions it answers), pack (the head pack and its table). About two hours on
two cores; every stage can be repeated, `train` resumes after a kill.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import paraphrases
import photos
import torch
from wordings import WORDINGS

from rankclip.collection import Collection, features
from rankclip.evaluation import labels
from rankclip.evaluation import ranking as metrics
from rankclip.heads import packs
from rankclip.heads.adapter import GRAPH, MATCHER, Task, mixed
from rankclip.heads.kernel import KERNELS, read_bytes, to_bytes
from rankclip.heads.packs import HeadCard
from rankclip.settings import Settings
from rankclip.training import adapter, kernels, labelled, matcher, runs
from rankclip.training.adapter import Config
from rankclip.training.baselines import ridge_axis
from rankclip.training.scorer import graph_scores
from rankclip.training.tasks import CAL, TRAIN, VAL, Data, TaskData, content_groups, make_task, split_by_group

STAGES = ("photos", "embed", "folds", "ablate", "train", "matcher", "pack")
TEST = 3  # a split of its own in cross-validation
FOLDED = ("quality", "memorability", "number-of")
FOLDS = 5
ABLATED = 1_500  # faces to train on in an ablation
SEEDS = 2
ABLATIONS = {
    "as shipped": {},
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


class Run:
    """One run: its folder and its options."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.shared, self.out = options.shared, options.out
        changes = dict(one.split("=", 1) for one in options.set)
        self.config = runs.configured(Config(epochs=options.epochs, steps_an_epoch=options.steps, patience=6), changes, "--set")
        torch.set_num_threads(options.threads)

    # ------------------------------------------------------------ stages

    def photos(self) -> None:
        print(photos.write(self.shared, self.out / "photos"))

    def embed(self) -> None:
        print(self.collection(*sorted({*self.file.paths, *(str(self.out / "photos" / row["path"]) for row in self.subject_rows())})).embed())

    def folds(self) -> None:
        """Five folds by group over train + val for the tasks whose val split is small: the kernel regression alone and ridge, on the same folds."""
        data, held = self.data(), {}
        for one in self.only(data, FOLDED).tasks:
            if one.task.name == "quality":
                held["quality, rated photos only"] = self.out_of_fold(data, one, UNUSED)
                held["quality, degraded photos taught too"] = self.out_of_fold(data, one, TRAIN)
            else:
                held[one.task.name.replace("number-of-", "counts: ").replace("-", " ")] = self.out_of_fold(data, one, TRAIN)
        figures = fold_figures(held)
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
        data = self.data()
        outcome = adapter.train(data, self.out / "train", self.config)
        (self.out / GRAPH).write_bytes(outcome.graph)
        (self.out / KERNELS).write_bytes(to_bytes({name: kernel for name, kernel in outcome.kernels.items() if not name.startswith("number-of")}))
        (self.out / "tasks.json").write_text(json.dumps([asdict(task) for task in outcome.tasks], indent=1))
        print(json.dumps({name: {key: found[key] for key in ("SRCC", "MAE", "coverage", "best baseline")} for name, found in outcome.report.items()}, indent=1))

    def matcher(self) -> None:
        """Train the matcher; threshold on one half of the hand-written instructions, errors on the other."""
        embed = self.collection(str(self.out / "photos" / "quality")).embed_texts
        counting = self.counts_well()
        captions = [text for row in map(json.loads, (self.shared / "data" / "flickr8k.jsonl").read_text().splitlines()) for text in row["captions"][:1]][:3_000]
        names = sorted({json.loads(line)["label_text"] for line in (self.shared / "data" / "concepts.jsonl").read_text().splitlines()})
        by_hand = paraphrases.written_by_hand(Path(__file__).with_name("instructions.tsv"))
        known = {one.text for one in by_hand}
        made = [answerable(one, counting) for one in paraphrases.examples(captions, names) if one.text not in known]
        by_hand = [answerable(one, counting) for one in by_hand]
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
        """Write the pack: tasks (counting as one open task), subjects, matcher."""
        data = self.data()
        tasks = [named(Task.read(record)) for record in self.trained()]
        shipped = [
            dataclasses.replace(task, subject=self.subject(task.name), wording=WORDINGS[task.name], figures={})
            for task in tasks
            if not task.name.startswith("number-of")
        ]
        figures = {task.name: task.figures for task in tasks if not task.log2 or self.counts_well()} | {
            "matcher": json.loads((self.out / "matcher.json").read_text())
        }
        figures["quality apart"] = self.quality_apart(data, next(task for task in tasks if task.name == "quality"))
        figures["applies"] = json.loads((self.out / "applies.json").read_text())
        for name, file in (("five folds", "folds.json"), ("ablations", "ablations.json")):
            if (self.out / file).exists():
                figures[name] = json.loads((self.out / file).read_text())
        if self.counts_well():
            shipped.append(self.counting(tasks))
        files = {name: (self.out / name).read_bytes() for name in (GRAPH, KERNELS, MATCHER)}
        space = data.features.view.space
        config = {"tasks": [asdict(task) for task in shipped], "size": self.config.size, "fact_mean": np.nanmean(data.features.facts, axis=0).round(6).tolist()}
        card = HeadCard("mini-ranking", "adapter", space.backbone, space.fingerprint, config, licence="CC BY-NC 4.0", data=DATA, figures=figures, limits=LIMITS)
        done = packs.write(self.out / "mini-ranking", card, files)
        print(done.folder, f"{sum(len(part) for part in files.values()) / 1e6:.1f} MB")

    # ------------------------------------------------------------ parts

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

    def out_of_fold(self, data: Data, one: TaskData, degraded: int) -> Held:
        """Predict each photo by a fit that saw neither it nor its group; counts only of photos that hold the class. degraded: the split of the degraded copies."""
        pooled, facts, names = data.features.pooled[one.rows], data.features.facts[one.rows], self.groups()
        _, number = np.unique([names[self.file.paths[row]] for row in one.rows.tolist()], return_inverse=True)
        place, inner = np.random.default_rng(5).permutation(number.max() + 1)[number], split_by_group(number, self.config)
        found = Held(one.values, np.full(len(one.rows), np.nan), np.full(len(one.rows), np.nan))
        for fold in range(FOLDS):
            one.split[:] = np.where(place % FOLDS == fold, TEST, np.where(inner == CAL, TRAIN, inner))
            one.split[self.degraded(one)] = degraded
            test = one.of(TEST)
            found.ours[test] = kernels.fit(one, pooled, facts).scores(pooled[test], facts[test])
            weights, bias = ridge_axis(pooled, one, one.of(TRAIN), one.of(VAL))
            found.ridge[test] = pooled[test] @ weights + bias
        kept = np.isfinite(found.ours) & ((one.values > 0) | (not one.task.log2))
        return Held(found.values[kept], found.ours[kept], found.ridge[kept])

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

    def subject(self, name: str) -> tuple[float, ...]:
        """Fit the probe "the photo shows a face" on embeddings: weights and bias; strength and bias by half of the validation photos."""
        if name != SUBJECT:
            return ()
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

    def trained(self) -> list[dict]:
        return json.loads((self.out / "tasks.json").read_text())

    def counts_well(self) -> bool:
        """Counting ships, as one open task without a kernel regression, only if the network beats ridge regression over its tasks on validation."""
        found = [task["figures"] for task in self.trained() if task["name"].startswith("number-of")]
        return float(np.mean([one["SRCC alone"]["network"] for one in found])) > float(np.mean([one["baselines"]["ridge"]["SRCC"] for one in found]))

    def quality_apart(self, data: Data, task: Task) -> dict:
        """SRCC on validation photos of rated and of degraded photos apart."""
        one = next(one for one in data.tasks if one.task.name == task.name)
        pooled, facts = data.features.pooled[one.rows], data.features.facts[one.rows]
        scores = graph_scores((self.out / GRAPH).read_bytes(), data, one.rows, task.instruction)
        scores = mixed(scores, read_bytes((self.out / KERNELS).read_bytes())[task.name].scores(pooled, facts), task.share)
        parts = {"BIQ2021": ~self.degraded(one), "degradations": self.degraded(one)}
        valid = one.split == VAL
        return {name: asdict(metrics.with_interval(metrics.srcc, one.values[valid & part], scores[valid & part])) | {"photos": int((valid & part).sum())}
                for name, part in parts.items()}  # fmt: skip

    def counting(self, tasks: list[Task]) -> Task:
        """All counting tasks as one open task; its intervals are the mean of theirs."""
        parts = [task for task in tasks if task.name.startswith("number-of")]
        knots = np.linspace(0, 6, 7)  # log2(1 + count)
        widths = np.mean([np.interp(knots, task.knots, task.widths) for task in parts], axis=0)
        return dataclasses.replace(parts[0], name="count", instruction=photos.COUNT, figures={}, subject_z=1.0,
                                   knots=tuple(knots.tolist()), widths=tuple(widths.round(4).tolist()))  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """Labels and out-of-fold predictions of one task, float64 [n] each."""

    values: np.ndarray
    ours: np.ndarray
    ridge: np.ndarray

    def srcc(self, some: np.ndarray) -> list[float]:
        """Of ours and of ridge."""
        return [metrics.srcc(self.values[some], part[some]) for part in (self.ours, self.ridge)]


def fold_figures(held: dict[str, Held]) -> dict:
    """Both with intervals, a paired bootstrap of the difference, and the mean over what is counted."""
    figures = {}
    for name, one in held.items():
        ours, ridge = (asdict(metrics.with_interval(metrics.srcc, one.values, part)) for part in (one.ours, one.ridge))
        difference = asdict(metrics.paired_difference(metrics.srcc, one.values, one.ours, one.ridge))
        figures[name] = {"adapter": ours, "ridge": ridge, "difference": difference, "photos": len(one.values)}
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


def named(task: Task) -> Task:
    """The task under the name that the matcher answers with."""
    return dataclasses.replace(task, name=NAMES.get(task.instruction, task.name))


def answerable(example: matcher.Example, counting: bool) -> matcher.Example:
    """What the pack cannot do, the matcher leaves alone."""
    return dataclasses.replace(example, answer="") if example.answer.startswith("count") and not counting else example


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
