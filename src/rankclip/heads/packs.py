"""Head packs: a head's folder on disk, its weights (ONNX or .npz) beside a `card.json`.

The card says which space the head belongs to, what it knows, from which data under which terms it was made, and its validation figures.
Three places hold packs: the package itself (made for rankclip-mini), the user's data folder (`finetune ... --name`, `models install`), and
any folder that `--head DIR` names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rankclip.errors import InputError, ModelError, SpaceMismatch, reason
from rankclip.registry import HEADS, check_name, load, resolve
from rankclip.settings import user_folder
from rankclip.types import Space

CARD = "card.json"
SCHEMA = "rankclip.head/1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class HeadCard:
    """The header of a pack. `config` is the head's own part: its class reads it, unknown or missing keys are an error there too."""

    name: str
    kind: str  # a row of registry.HEADS
    backbone: str
    space: str  # fingerprint of the space whose features it reads
    config: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)  # file -> sha256
    licence: str = ""
    data: tuple[str, ...] = ()  # what it was trained on, and under which terms
    figures: dict[str, Any] = field(default_factory=dict)  # validation figures, baselines beside them
    limits: str = ""
    version: str = "1"
    schema: str = SCHEMA


@dataclass(frozen=True, slots=True)
class Pack:
    """A card and the folder it lies in."""

    card: HeadCard
    folder: Path

    @property
    def name(self) -> str:
        return self.card.name

    def file(self, name: str) -> Path:
        """Return the path of one of the pack's files, its checksum checked. Raises ModelError."""
        path = self.folder / name
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f"{path}: {reason(error)}", hint=self._again) from error
        if digest != self.card.files.get(name):
            raise ModelError(f"{path}: not the file that the head's card names (sha256 differs)", hint=self._again)
        return path

    def session(self, name: str, threads: int = 0) -> Any:
        """Load one of the pack's ONNX graphs into an inference session on the CPU. threads: 0 leaves the number to the runtime.

        Raises ModelError for a file that is missing, changed, or no graph.
        """
        path = self.file(name)
        runtime = load("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would burn the cores of a busy machine
        try:
            return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors have no common base
            raise ModelError(f"{path}: cannot be loaded ({str(error).splitlines()[0][:160]})", hint=self._again) from error

    @property
    def _again(self) -> str:
        return f"install the head {self.name} again, or remove it: rankclip models remove {self.name}"

    def check_space(self, space: Space) -> None:
        """Raise SpaceMismatch unless the head was made for this space."""
        if self.card.space != space.fingerprint:
            raise SpaceMismatch(
                f"head {self.name} was made for {self.card.backbone} ({self.card.space}), this store's photos are in {space.backbone} ({space.fingerprint})",
                hint=f"use --model {self.card.backbone}, or train the head again for {space.backbone}",
            )


def read(folder: Path) -> Pack:
    """Read a pack's card; unknown or missing keys are an error that names them."""
    path = folder / CARD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = [one.name for one in dataclasses.fields(HeadCard)]
        if unknown := sorted(set(found) - set(names)):
            raise ValueError(f"unknown keys: {', '.join(unknown)}")
        card = HeadCard(**{**found, "data": tuple(found.get("data", ()))})
        check_name(HEADS, card.kind, what="kind of head")
    except (OSError, ValueError, TypeError, InputError) as error:
        raise ModelError(f"{path}: not a head's card ({error})", hint="train or install the head again") from error
    return Pack(card, folder)


def check_pack_name(name: str, example: str = "portrait-age") -> None:
    """Raise InputError for a name that cannot be a pack's folder."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a head", hint=f"use lower-case letters, digits, dots, dashes: {example}")


def write(folder: Path, card: HeadCard, files: Mapping[str, bytes]) -> Pack:
    """Write a pack whole or not at all; a pack of that name is replaced.

    >>> write(Path("heads/ages"), card, {"head.onnx": graph}).name  # doctest: +SKIP
    'ages'
    """
    check_pack_name(card.name)
    card = dataclasses.replace(card, files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        (partial / name).write_bytes(data)
    (partial / CARD).write_text(json.dumps(dataclasses.asdict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return Pack(card, folder)


def bundled_folder() -> Path:
    """Return the folder of the packs that ship inside the package."""
    return Path(str(resources.files(__package__).joinpath("bundled")))


def user_packs() -> Path:
    """Return the folder where packs are installed."""
    return user_folder("data") / "heads"


def installed() -> list[Pack]:
    """Return all packs that are here: the user's first, then the bundled ones, each by name."""
    return [read(card.parent) for folder in (user_packs(), bundled_folder()) for card in sorted(folder.glob(f"[!.]*/{CARD}"))]


def find(name: str) -> Pack:
    """Return a pack by name or folder. Raises ModelError with the names that are here."""
    if "/" in name or os.path.isdir(name):
        return read(Path(name).expanduser())
    here = installed()
    for pack in here:
        if pack.name == name:
            return pack
    raise ModelError(f"head {name!r} is not installed", hint=f"here now: {', '.join(pack.name for pack in here) or 'none'}; or give a folder: --head ./{name}")


def suited(kind: str, space: Space, wanted: str = "") -> Pack | None:
    """Return the pack of a kind to use for a space, as `suited_all`; None where none fits."""
    return suited_all((kind,), space, wanted).get(kind)


def suited_all(kinds: Sequence[str], space: Space, wanted: str = "") -> dict[str, Pack]:
    """Return the pack of each kind to use for a space: the one that is asked for (by name or folder), else the first that fits. Cards are read once.

    Raises SpaceMismatch when one that is asked for belongs to another space.
    """
    found: dict[str, Pack] = {}
    for pack in map(find, filter(None, wanted.split(","))):
        if pack.card.kind in kinds and pack.card.kind not in found:
            pack.check_space(space)
            found[pack.card.kind] = pack
    for pack in installed() if len(found) < len(kinds) else ():
        if pack.card.kind in kinds and pack.card.space == space.fingerprint:
            found.setdefault(pack.card.kind, pack)
    return found


def opened(pack: Pack | None) -> Any:
    """Return the head of a pack, of the class that its kind names; None where there is no pack."""
    return None if pack is None else resolve(HEADS, pack.card.kind, what="kind of head")(pack)


def install(folder: Path) -> Pack:
    """Copy a pack into the user's data folder, every file's checksum checked."""
    pack = read(folder)
    files = {name: pack.file(name).read_bytes() for name in pack.card.files}
    return write(user_packs() / pack.name, pack.card, files)


def remove(name: str) -> None:
    """Remove a pack from the user's data folder. Raises ModelError when it is not there or is bundled."""
    pack = find(name)
    if pack.folder.parent != user_packs():
        raise ModelError(f"head {name} lies in {pack.folder} and was not installed by you", hint="only installed heads can be removed")
    shutil.rmtree(pack.folder)
