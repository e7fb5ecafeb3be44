"""What `finetune adapter` does around the recipe: gather, compare with the baselines, train, write the head pack and its report."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankclip.collection import Collection
from rankclip.errors import InputError, Interrupted
from rankclip.evaluation import labels, plots
from rankclip.heads import packs
from rankclip.heads.adapter import GRAPH, mixed
from rankclip.heads.kernel import KERNELS, to_bytes
from rankclip.heads.packs import HeadCard, Pack
from rankclip.settings import Settings, user_folder
from rankclip.training import adapter, labelled, runs
from rankclip.training.adapter import Config, Outcome
from rankclip.training.baselines import baselines, ridge_axis
from rankclip.training.tasks import CAL, TRAIN, VAL, Data, TaskData
from rankclip.types import Progress, Silent


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in lines for people; no pack after a dry run."""

    lines: list[str]
    pack: Pack | None
    instruction: str


class AdapterJob:
    """One run of `finetune adapter`."""

    def __init__(self, settings: Settings, progress: Progress, cancel: threading.Event, *, name: str, run: Path | None, changes: dict[str, Any]) -> None:
        self.settings, self.progress, self.cancel, self.name, self.folder = settings, progress, cancel, name, run
        self.config = runs.configured(Config(), changes, "--set")
        if self.config.size not in ("full", "lite"):
            raise InputError(f"unknown size {self.config.size!r}", hint="valid: full, lite")
        if name:
            packs.check_pack_name(name)

    def train(self, source: Path, *, instruction: str, unit: str, baseline: bool = False, dry_run: bool = False) -> Done:
        """Train on a label file and install the head; under torchrun the leading process speaks and writes, the others give no lines."""
        with runs.joined(self.settings.device) as team:
            with team.leader_first():
                file = labels.read(source, instruction=instruction, unit=unit)
                collection = Collection(*file.paths, settings=self.settings, progress=self.progress if team.leads else Silent(), cancel=self.cancel)
                data = labelled.gather(file, collection, self.config)
            said = described(data)
            if dry_run:
                model = adapter.build_model(data, self.config)
                said.append(f"model: {sum(p.numel() for p in model.parameters()):,} parameters, up to {self.config.epochs} epochs")
                return Done(said if team.leads else [], None, "")
            name = self.name or data.tasks[0].task.name
            outcome = baseline_outcome(data, self.config) if baseline else self._train(data, name, team)
            if not team.leads:
                return Done([], None, "")
        files = {GRAPH: outcome.graph, **({KERNELS: to_bytes(outcome.kernels)} if outcome.kernels else {}), **scatters(data, outcome)}
        pack = packs.write(packs.user_packs() / name, card(name, data, outcome, source), files)
        return Done([*said, *told(outcome)], pack, data.tasks[0].task.instruction)

    def take_over(self, checkpoint: Path, instruction: str) -> Done:
        """Make a head from a checkpoint that the authors released."""
        from rankclip.training import released

        collection = Collection(settings=self.settings, progress=self.progress, cancel=self.cancel)
        pack = released.install(checkpoint, collection, instruction, self.name or "released")
        return Done([f"{checkpoint}: {pack.card.config['parameters']:,} parameters taken over"], pack, instruction)

    def _train(self, data: Data, name: str, team: runs.Team) -> Outcome:
        folder = self.folder or user_folder("data") / "runs" / name
        with team.leader_first():
            runs.check_same_run(folder, asdict(self.config))
        progress = StopAtBatch(self.progress if team.leads else Silent(), self.cancel)
        outcome = adapter.train(data, folder, self.config, team=team, progress=progress)
        if team.leads:
            adapter.write_report(outcome, folder)
        return outcome


@dataclass(slots=True)
class StopAtBatch:
    """A progress that ends the run when it is cancelled; what the last epoch saved is kept."""

    inner: Progress
    cancel: threading.Event

    def start(self, total: int | None, what: str) -> None:
        self.inner.start(total, what)

    def advance(self, count: int = 1) -> None:
        self.inner.advance(count)
        if self.cancel.is_set():
            self.inner.done()
            raise Interrupted("stopped; the run's last epoch is kept", signal_number=2)

    def note(self, message: str) -> None:
        self.inner.note(message)

    def done(self) -> None:
        self.inner.done()


def described(data: Data) -> list[str]:
    """Say what there is to learn from."""
    lines = []
    for one in data.tasks:
        counts = ", ".join(f"{len(one.of(split)):,} {name}" for split, name in ((TRAIN, "to train"), (VAL, "to choose"), (CAL, "to calibrate")))
        kind = (
            f"{len(one.winners):,} comparisons"
            if len(one.winners)
            else f"{len(one.rows):,} labelled photos, {one.values.min():g} to {one.values.max():g} {one.task.unit}".strip()
        )
        lines.append(f"{one.task.instruction!r}: {kind} ({counts})")
    return lines


def told(outcome: Outcome) -> list[str]:
    """Say the figures, the baselines beside them, and what to do when a baseline is better."""
    lines = []
    for name, found in outcome.report.items():
        if "pair accuracy" in found:
            lines.append(f"{name}: {found['pair accuracy']:.1%} of the held-out comparisons come out right")
            continue
        lines.append(f"{name}: SRCC {found['SRCC']['value']:.3f} [{found['SRCC']['low']:.3f}, {found['SRCC']['high']:.3f}], MAE {found['MAE']['value']:.3g}, "
                     f"80 % intervals hold {found['coverage']:.0%} ({found['photos']} held-out photos)")  # fmt: skip
        lines += [f"  {base}: SRCC {figures['SRCC']:.3f}, MAE {figures['MAE']:.3g}" for base, figures in found["baselines"].items()]
        if not found["beats it"]:
            lines.append(f"  the {found['best baseline']} baseline is at least as good here; --baseline makes ridge the head: smaller and faster")
    return lines


def card(name: str, data: Data, outcome: Outcome, source: Path) -> HeadCard:
    """Put the pack's card together."""
    space = data.features.view.space
    finite = np.isfinite(data.features.facts).all(axis=1)
    config = {
        "tasks": [asdict(task) for task in outcome.tasks],
        "size": outcome.config.size,
        "fact_mean": data.features.facts[finite].mean(axis=0).round(6).tolist() if finite.any() else [],
    }
    origin, limits = (f"{source.name}: {len(data.features):,} photos",), "Only measured on photos like those it was trained on."
    return HeadCard(name, "adapter", space.backbone, space.fingerprint, config, licence="yours", data=origin, figures=outcome.report, limits=limits)


def scatters(data: Data, outcome: Outcome) -> dict[str, bytes]:
    """Draw predicted over true for every task with values, from the pack's own graph."""
    from rankclip.training.scorer import graph_scores

    found = {}
    for one, task in zip(data.tasks, outcome.tasks, strict=True):
        if len(one.rows):
            valid = one.of(VAL)
            rows = one.rows[valid]
            scores = graph_scores(outcome.graph, data, rows, task.instruction)
            if (beside := outcome.kernels.get(task.name)) is not None:
                scores = mixed(scores, beside.scores(data.features.pooled[rows], data.features.measured[rows]), task.share)
            found[f"{task.name}.png"] = plots.scatter(one.values[valid], task.values(scores), title=task.instruction, unit=task.unit)
    return found


def baseline_outcome(data: Data, config: Config) -> Outcome:
    """Make the ridge baseline of a single task the head."""
    if len(data.tasks) != 1 or not len(data.tasks[0].rows):
        raise InputError("--baseline needs a file of values for one instruction")
    one: TaskData = data.tasks[0]
    weights, bias = ridge_axis(data.features.pooled[one.rows], one, one.of(TRAIN), one.of(VAL))
    scores = data.features.pooled[one.rows] @ weights + bias
    base = baselines(data, one)
    task = adapter.calibrated(one, scores)
    found = adapter.measured(one, task, scores, base)
    task = dataclasses.replace(task, figures=found)
    graph = adapter.export(adapter.LinearScorer(weights, bias), data, dataclasses.replace(config, size="lite"))
    return Outcome(graph, [task], dataclasses.replace(config, size="ridge"))
