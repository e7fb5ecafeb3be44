"""What `finetune composer` does around the recipe: gather, compare with what needs no training, train, write the head pack."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rankclip.collection import Collection
from rankclip.errors import InputError
from rankclip.evaluation import triplets
from rankclip.evaluation.triplets import Triplet
from rankclip.heads import packs
from rankclip.heads.composer import GRAPH
from rankclip.heads.packs import HeadCard, Pack
from rankclip.settings import Settings, user_folder
from rankclip.training import composer, composer_gather, composer_writer, runs
from rankclip.training.composer import Config, Outcome
from rankclip.training.composer_data import HEADLINE, Data
from rankclip.training.composer_gather import Captioned
from rankclip.training.models import composer as models
from rankclip.training.tuning import StopAtBatch
from rankclip.types import Progress, Silent, Space

LIMITS = "Only measured on photos and instructions like those it was trained on."


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in lines for people; no pack after a dry run."""

    lines: list[str]
    pack: Pack | None


@dataclass(slots=True)
class ComposerJob:
    """One run of `finetune composer`.

    images: folder that paths of the files are relative to (default: that of the file). output: write the pack there instead of installing it.
    """

    settings: Settings
    progress: Progress
    cancel: threading.Event
    name: str = "composer"
    run: Path | None = None
    images: Path | None = None
    output: Path | None = None
    changes: dict[str, Any] | None = None

    def train(self, data: Path | None, captions: Path | None, *, written: Path | None = None, dry_run: bool = False) -> Done:
        """Train on a triplet file, a caption file, or both; under torchrun the leading process speaks and writes, the others give no lines.

        written: triplets that a language model made from the captions. Raises InputError for a malformed line, missing photos, or too little data.
        """
        config = runs.configured(Config(), self.changes or {}, "--set")
        packs.check_pack_name(self.name, "my-composer")
        source = data or captions
        assert source is not None, "the command asks for one of them"
        with runs.joined(self.settings.device) as team:
            with team.leader_first():
                found, said, space = self._gather(data, captions, written, config, team)
            composer.check(found, config)
            if dry_run:
                parameters = sum(p.numel() for p in models.build(found.shapes, config.model()).parameters())
                said.append(f"model: {config.kind}, {parameters:,} parameters, {config.align_epochs} + {config.epochs} epochs")
                return Done(said if team.leads else [], None)
            outcome = self._train(found, config, team)
            if not team.leads:
                return Done([], None)
        folder = self.output or packs.user_packs() / self.name
        pack = packs.write(folder, card(self.name, found, outcome, config, space, source), {GRAPH: outcome.graph})
        return Done([*said, *told(outcome)], pack)

    def _gather(self, data: Path | None, captions: Path | None, written: Path | None, config: Config, team: runs.Team) -> tuple[Data, list[str], Space]:
        """Read the files, embed what the store lacks, put tables together; returns the data, what there is to say, and the space."""
        rows, captioned = read_files(data, captions, written, config.seed)
        root = self.images or (data or captions or Path()).parent
        progress = self.progress if team.leads else Silent()
        collection = Collection(*paths_of(rows, captioned, root), settings=self.settings, progress=progress, cancel=self.cancel)
        found, left = composer_gather.gather(rows, captioned, collection, root)
        return found, [*described(found, config), *left], collection.backbone.space

    def write_triplets(self, captions: Path, address: str, model: str, *, count: int, token_limit: int) -> Path:
        """Let a language model write instructions and target captions; returns the file, which a later run goes on with."""
        folder = self.run or user_folder("data") / "runs" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "written.jsonl"
        photos = [one for one in composer_gather.read_captions(captions) if composer_gather.split_of(one.path, one.split) == "train"][:count]
        endpoint = composer_writer.Endpoint(address, model)
        with runs.join_team(self.settings.device).leader_first():  # the others find every question answered
            composer_writer.write(endpoint, photos, path, token_limit=token_limit, cancel=self.cancel, progress=self.progress)
        return path

    def _train(self, data: Data, config: Config, team: runs.Team) -> Outcome:
        folder = self.run or user_folder("data") / "runs" / self.name
        with team.leader_first():
            runs.check_same_run(folder, asdict(config))
        return composer.train(data, folder, config, team=team, progress=StopAtBatch(self.progress if team.leads else Silent(), self.cancel))


def read_files(data: Path | None, captions: Path | None, written: Path | None, seed: int) -> tuple[list[Triplet], list[Captioned]]:
    """Read what a composer learns from; triplets are made from the captions where there is no file of them. Raises InputError for a malformed line."""
    captioned = composer_gather.read_captions(captions) if captions is not None else []
    rows = triplets.read(data) if data is not None else composer_gather.triplets_from_captions(captioned, seed=seed)
    if written is not None:  # the model's instructions train; photos that the rules paired say what was learnt
        rows = composer_writer.read(written) + [row for row in rows if row.split == "val"]
    return rows, captioned


def paths_of(rows: Sequence[Triplet], captioned: Sequence[Captioned], root: Path) -> list[str]:
    """The photos to embed: those of the files that are there."""
    names = dict.fromkeys(name for row in rows for name in (row.reference, *row.targets)) | dict.fromkeys(one.path for one in captioned)
    found = [str(root / name) for name in names if (root / name).is_file()]
    if not found:
        raise InputError(f"none of the photos is below {root}", hint="name their folder with --images")
    return found


def described(data: Data, config: Config) -> list[str]:
    """Say what there is to learn from."""
    stage = f"stage 1: {len(data.described):,} photos with captions; " if len(data.described) and config.align_epochs else ""
    return [f"{stage}stage 2: {len(data.train):,} triplets to train, {len(data.val):,} to validate over {len(data.gallery):,} photos"]


def told(outcome: Outcome) -> list[str]:
    """Say the figures, those without training first."""
    lines = []
    for name, found in outcome.report.items():
        if isinstance(found, dict) and HEADLINE in found:
            strength = f" (strength {found['strength']:g})" if "strength" in found else ""
            figures = ", ".join(f"{metric} {found[metric]['value']:.3f}" for metric in ("R@1", "R@5", HEADLINE, "R@50"))
            lines.append(f"{name}{strength}: {figures}, the reference first {found['reference first']['value']:.1%}")
    gain, best = outcome.report["gain"], outcome.report["best without training"]
    lines.append(f"{HEADLINE} against {best}: {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] over {outcome.report['queries']:,} queries")
    if gain["low"] <= 0:
        lines.append(f"the head is not surely better than {best}: --composer may serve you as well without it")
    return lines


def card(name: str, data: Data, outcome: Outcome, config: Config, space: Space, source: Path) -> HeadCard:
    """Put the pack's card together."""
    reads = data.photos.tokens is not None and config.kind == "transformer" and not config.text_only
    shapes = data.shapes
    own = {"kind": config.kind, "embedding": shapes.embedding, "patches": space.patches if reads else 0, "token": shapes.token if reads else 0,
           "state": shapes.state, "parameters": outcome.parameters}  # fmt: skip
    origin = (f"{source.name}: {len(data.train):,} triplets, {len(data.photos.pooled):,} photos",)
    return HeadCard(name, "composer", space.backbone, space.fingerprint, own, licence="yours", data=origin, figures=outcome.report, limits=LIMITS)
