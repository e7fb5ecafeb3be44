"""What every stage shares and is boring: seeding, atomic checkpoints, a log of metrics, the run's folder."""

from __future__ import annotations

import ctypes
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def save(state: dict, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict | None:
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Log:
    """JSON lines beside the checkpoints, repeated on stdout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = time.monotonic()

    def write(self, **values: object) -> None:
        values = {"seconds": round(time.monotonic() - self.began, 1), **{k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}}
        with self.path.open("a") as lines:
            lines.write(json.dumps(values) + "\n")
        print(json.dumps(values), flush=True)


def one_cycle(step: int, steps: int, peak: float, *, warmup: int) -> float:
    """Learning rate: linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share)))))


def give_back_memory() -> None:
    """Return freed memory to the kernel (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
