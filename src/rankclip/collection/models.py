"""Backbones as a user sees them: what is here, what can be fetched, and what a fetch does."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip.backbones import specs, weights
from rankclip.backbones.checkpoints import PREFIX
from rankclip.backbones.specs import Backbone
from rankclip.errors import InputError, reason
from rankclip.heads import packs
from rankclip.heads.packs import Pack
from rankclip.registry import load
from rankclip.settings import DEFAULT_MODEL, config_file

TEXT = "text.onnx"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `models list`."""

    name: str
    where: str  # bundled | installed | to fetch
    megabytes: float
    about: str
    licence: str


def rows() -> list[ModelRow]:
    """Return every backbone that is here or recommended, and every head that is here."""
    found = [ModelRow("toy", "bundled", 0.0, "colour words, for tests and first tries", "MIT")]
    if (specs.bundled_folder() / specs.CARD).is_file():
        mini = specs.find(DEFAULT_MODEL)
        found.append(ModelRow(DEFAULT_MODEL, "bundled", folder_megabytes(specs.bundled_folder()), "small, offline, the default", mini.licence))
    here = specs.installed()
    for name in here:
        folder = specs.installed_folder(name)
        found.append(ModelRow(name, "installed", folder_megabytes(folder), about(name), specs.read_card(folder).licence))
    found += [
        ModelRow(pack.name, pack_place(pack), folder_megabytes(pack.folder), f"head, {pack.card.kind} for {pack.card.backbone}", pack.card.licence)
        for pack in packs.installed()
    ]
    found += [ModelRow(one.name, "to fetch", one.megabytes, about(one.name), one.licence) for one in weights.RECOMMENDED if one.name not in here]
    return found


def pack_place(pack: Pack) -> str:
    return "bundled" if pack.folder.parent == packs.bundled_folder() else "installed"


def about(name: str) -> str:
    """Say a recommended model's published figures."""
    for one in weights.RECOMMENDED:
        if one.name == name:
            return f"ImageNet {one.imagenet:.1f} %, COCO text to image {one.coco:.1f} %, {one.gmac:.1f} GMAC a photo"
    return ""


def folder_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def fetch(name: str, *, offline: bool = False) -> tuple[Backbone, float]:
    """Download a backbone and export its text tower; returns it and the export's smallest cosine to torch.

    Raises NetworkError, RuntimeMissing (torch makes the export), ModelError.
    """
    if name.startswith(PREFIX):
        weights.fetch_mllm(name, offline=offline)
        specs.find.cache_clear()
        return specs.find(name), 1.0
    folder = weights.fetch(name, offline=offline)
    specs.find.cache_clear()
    backbone = specs.read_card(folder)
    if (folder / TEXT).is_file():
        return backbone, 1.0
    agreement: float = load("rankclip.engines.torch_engine").export_text(backbone, folder / TEXT)
    return backbone, agreement


def remove(name: str) -> None:
    """Delete an installed backbone's or head's files; embeddings stay in the store."""
    if any(pack.name == name for pack in packs.installed()):
        return packs.remove(name)
    if name not in specs.installed():
        raise InputError(f"{name} is not installed", hint=f"installed: {', '.join(specs.installed()) or 'none'}")
    shutil.rmtree(specs.installed_folder(name))
    specs.find.cache_clear()


def make_default(name: str) -> Path:
    """Write the model into config.toml, keeping its other lines; returns the file's path."""
    specs.find(name)
    path = config_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if line.partition("=")[0].strip() != "model"]
        path.write_text("\n".join([*kept, f'model = "{name}"']) + "\n", encoding="utf-8")
    except OSError as error:
        hint = f"give --model {name} each time, or name another file: RANKCLIP_CONFIG=FILE"
        raise InputError(f"{path}: cannot be written ({reason(error)})", hint=hint) from error
    return path


def info(name: str) -> dict[str, Any]:
    """Return what is known about a backbone or head that is here."""
    for pack in packs.installed():
        if pack.name == name:
            return head_info(pack)
    found = specs.find(name)
    return {
        "name": found.name, "input": str(found.input), "embedding": found.width,
        "patch tokens": f"{found.patches} x {found.token_width}" if found.patches else "none", "context": found.context,
        "space": found.space.fingerprint, "weights": found.weights, "licence": found.licence, "folder": str(found.folder or "built in"),
    }  # fmt: skip


def head_info(pack: Pack) -> dict[str, Any]:
    """Return a head's card, its files' sizes instead of their sums."""
    card = pack.card
    tasks = [task["instruction"] for task in card.config.get("tasks", ())]
    return {
        "name": card.name, "kind": card.kind, "backbone": card.backbone, "space": card.space, "version": card.version, "licence": card.licence,
        "knows": "; ".join(tasks), "data": "; ".join(card.data), "limits": card.limits, "folder": str(pack.folder),
    }  # fmt: skip
