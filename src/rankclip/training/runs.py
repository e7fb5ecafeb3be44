"""What all recipes share and is boring: seeds, processes under torchrun, atomic checkpoints, a log of metrics, the learning rate."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn

from rankclip.allocator import keep_freed_memory
from rankclip.errors import InputError, ModelError

LAST = "last.pt"
PATIENCE = timedelta(days=2)  # how long processes wait for the one that embeds the photos
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together: one, or as many as torchrun started."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; the same result as one process with the joined batch, for losses that are means."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                distributed.all_reduce(gradient)
                parameter.grad = gradient / self.size

    def wait(self) -> None:
        if self.size > 1:
            distributed.barrier()

    def agree(self, fine: bool) -> bool:
        """Tell whether all processes say so: what one of them leaves out, none may wait for."""
        if self.size == 1:
            return fine
        flag = torch.tensor([float(fine)], device=self.device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MIN)
        return bool(flag.item())

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leading process through before the others, who find done what it did: photos embedded, the run's folder made."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


def join_team(device: str = "auto") -> Team:
    """Join the processes of torchrun, if it started this one, and keep freed memory (see `allocator.py`).

    Raises ModelError for a device that is not there.
    """
    keep_freed_memory()
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if device.startswith("cuda") and not cuda:
        raise ModelError(f"device {device!r} is not there", hint="use --device cpu")
    local = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if size > 1 else "cuda"
    chosen = torch.device(local if cuda and device == "auto" else "cpu" if device == "auto" else device)
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    return Team(rank, size, chosen)


@contextmanager
def joined(device: str = "auto") -> Iterator[Team]:
    """Join the processes of torchrun as `join_team` does, and leave them at the end."""
    team = join_team(device)
    try:
        yield team
    finally:
        if team.size > 1:
            distributed.destroy_process_group()


def check_same_run(folder: Path, config: dict[str, Any]) -> None:
    """Write the run's configuration, or refuse to go on with another one."""
    path = folder / "config.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != config:
        raise InputError(f"{folder}: holds a run with other settings", hint="give another --run DIR, or remove that folder")


def seed_all(seed: int) -> None:
    """Seed every generator that a recipe can reach."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ---------------------------------------------------------------- configuration


def configured(config: C, values: dict[str, Any], source: str) -> C:
    """Replace fields of a recipe's configuration; unknown names and wrong kinds are refused before anything is loaded.

    >>> configured(Config(), {"rate": "1e-3"}, "--set").rate  # doctest: +SKIP
    0.001
    """
    fields = {one.name: getattr(config, one.name) for one in dataclasses.fields(config)}  # type: ignore[arg-type]
    wrong = [name for name in values if name not in fields]
    if wrong:
        raise InputError(f"{source}: unknown setting {', '.join(map(repr, wrong))}", hint=f"valid: {', '.join(fields)}")
    return dataclasses.replace(config, **{name: _converted(name, value, fields[name], source) for name, value in values.items()})  # type: ignore[type-var]


def _converted(name: str, value: Any, default: Any, source: str) -> Any:
    kind = type(default)
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{source}: {name} must be a {kind.__name__}, got {value!r}") from None


# ---------------------------------------------------------------- checkpoints and log


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint (weights only, nothing in it is executed); None where there is none."""
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own errors have no common base
        raise ModelError(
            f"{path}: not a checkpoint of this version ({str(error).splitlines()[0][:120]})", hint="remove the run's folder to begin anew"
        ) from error
    return found


class Log:
    """Metrics as JSON lines in the run's folder; only the leading process writes."""

    def __init__(self, path: Path, team: Team) -> None:
        self.path, self.team, self.began = path, team, time.monotonic()

    def write(self, **values: object) -> None:
        if self.team.leads:
            row = {"seconds": round(time.monotonic() - self.began, 1), **{k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}}
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")


def warm_cosine(step: int, steps: int, *, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def decay_groups(module: nn.Module, rate: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, vectors (biases, norms, scales) do not."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": matrices, "lr": rate, "weight_decay": decay}, {"params": vectors, "lr": rate, "weight_decay": 0.0}]
