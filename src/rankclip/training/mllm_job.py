"""What `finetune composer --mllm` does around the recipe: read the files, train, write the head pack, and the merged model where it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rankclip.backbones import specs
from rankclip.backbones.checkpoints import PREFIX
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.evaluation.triplets import Triplet
from rankclip.heads import packs
from rankclip.heads.packs import HeadCard
from rankclip.settings import Settings, user_folder
from rankclip.training import mllm_composer, runs
from rankclip.training.composer_gather import Captioned, split_of
from rankclip.training.composer_job import Done, paths_of, read_files
from rankclip.training.mllm_composer import Config, Data, Outcome, Row
from rankclip.training.tuning import StopAtBatch
from rankclip.types import Progress, Silent

LIMITS = "A model of its own: photos are embedded by it anew. Only measured on photos and instructions like those it was trained on."


@dataclass(slots=True)
class MllmJob:
    """One run of `finetune composer --mllm MODEL`; the other fields are those of `ComposerJob`."""

    settings: Settings
    progress: Progress
    cancel: threading.Event
    model: str
    name: str = "composer"
    run: Path | None = None
    images: Path | None = None
    output: Path | None = None
    changes: dict[str, Any] | None = None

    def train(self, data: Path | None, captions: Path | None, *, written: Path | None = None, dry_run: bool = False) -> Done:
        """Train on a triplet file, a caption file, or both.    written: triplets that a language model made from the captions.

        Raises InputError for a malformed line, a setting that cannot be meant or too little data, ModelError for a model that cannot be tuned.
        """
        config = runs.configured(Config(), self.changes or {}, "--set")
        mllm_composer.check_settings(config)
        packs.check_pack_name(self.name, "my-composer")
        rows, captioned = read_files(data, captions, written, config.seed)
        source = data or captions
        assert source is not None, "the command asks for one of them"
        found = gathered(rows, captioned, self.images or source.parent)
        with runs.joined(self.settings.device) as team:
            done = self._train(found, config, source, team, dry_run=dry_run)
        return done if team.leads else Done([], None)

    def _train(self, data: Data, config: Config, source: Path, team: runs.Team, *, dry_run: bool) -> Done:
        name = self.model if self.model.startswith(PREFIX) else PREFIX + self.model
        engine = MllmEngine(specs.find(name), replace(self.settings, device=str(team.device)))
        said = f"stage 1: {len(data.align):,} photos with captions; stage 2: {len(data.change):,} triplets to train, {len(data.val):,} to validate"
        mllm_composer.check(engine, data)
        if dry_run:
            return Done([said, f"model: {engine.backbone.name}, {engine.describe()}, LoRA of rank {config.rank}, batches of {config.batch}"], None)
        folder = self.run or user_folder("data") / "runs" / self.name
        with team.leader_first():
            runs.check_same_run(folder, asdict(config) | {"model": engine.backbone.space.fingerprint})
        progress = StopAtBatch(self.progress if team.leads else Silent(), self.cancel)
        outcome = mllm_composer.train(engine, data, folder, config, team=team, progress=progress)
        lines = [said, *told(outcome)]
        if not team.leads:
            return Done([], None)
        pack = packs.write(self.output or packs.user_packs() / self.name, card(self.name, engine, data, outcome, config, source), outcome.files)
        if config.merge:
            mllm_composer.merge(engine, folder / "lora", folder / "merged")
            lines.append(f"the whole model with what it learnt: --model mllm:{folder / 'merged'}")
        return Done(lines, pack)


def gathered(rows: Sequence[Triplet], captioned: Sequence[Captioned], root: Path) -> Data:
    """Sort what the files say into stages; photos that are not there are left out. Raises InputError where none is.

    A target photo is a photo with a caption to stage 1, which in stage 2 lies beside the triplets that ask for it.
    """
    there = set(paths_of(rows, captioned, root))

    def has(path: str) -> bool:
        return str(root / path) in there

    align = [Row(root / one.path, "", text, "") for one in captioned if split_of(one.path, one.split) == "train" and has(one.path) for text in one.captions[:1]]
    usable = [row for row in rows if has(row.reference)]
    change = [Row(root / row.reference, row.instruction, row.caption, row.original) for row in usable
              if row.caption and split_of(row.reference, row.split) == "train"]  # fmt: skip
    align += [Row(root / name, "", row.caption, "") for row in usable if row.caption and split_of(row.reference, row.split) == "train"
              for name in row.targets if has(name) and split_of(name, row.split) == "train"]  # fmt: skip
    val = [replace(row, targets=tuple(name for name in row.targets if has(name) and name != row.reference)) for row in usable
           if split_of(row.reference, row.split) == "val"]  # fmt: skip
    return Data(tuple(dict.fromkeys(align)), tuple(change), tuple(row for row in val if row.targets or row.caption), root)


def told(outcome: Outcome) -> list[str]:
    """Say the figures, those before training first."""
    lines = []
    for part in ("before", "after"):
        figures = ", ".join(f"{metric} {one['value']:.3f}" for metric, one in outcome.report[part].items())
        lines.append(f"{part}: {figures}")
    gain = outcome.report["gain"]
    lines.append(f"R@1 by training: {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] over {outcome.report['queries']:,} queries")
    if gain["low"] <= 0:
        lines.append("the tuned model is not surely better than what it was tuned from")
    return lines


def card(name: str, engine: MllmEngine, data: Data, outcome: Outcome, config: Config, source: Path) -> HeadCard:
    """Put the pack's card together. space: that of the untuned model, whose weights the LoRA belongs to."""
    base = engine.backbone
    own = {"base": str(base.extra["base"]), "rank": config.rank, "alpha": config.alpha, "parameters": outcome.parameters}
    origin = (f"{source.name}: {len(data.change):,} triplets, {len(data.align):,} captions",)
    return HeadCard(name, "mllm", base.name, base.space.fingerprint, own, licence="yours", data=origin, figures=outcome.report, limits=LIMITS)
