"""Stores and folders of a given size, for measuring without photos."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from rankclip.backbones.specs import find
from rankclip.store.store import Batch, NewFile, Store
from rankclip.types import FileStamp, PhotoFacts, PixelFacts

ROWS_AT_ONCE = 5_000
STAGES = 416  # columns of inner stages that rankclip-mini gives
FILES_IN_FOLDER = 500
FACTS = PhotoFacts(4032, 3024, "JPEG", "2021-07-03T12:00:00", "ACME One", None, None, PixelFacts(0.5, 0.2, 0.3, 0.2, 0.0, 2.0, 0.01))


def make_store(folder: Path, rows: int, *, model: str = "rankclip-mini", root: str = "/photos", tokens: bool = False) -> None:
    """Fill a store with random unit rows, and patch tokens and inner stages if wanted, for photos that do not exist; kept when it is there with as many rows."""
    backbone = find(model)
    if Store.exists(folder):
        with Store.open(folder) as store:
            if store.view(backbone.space).rows == rows:
                return
    rng = np.random.default_rng(0)
    with Store.open(folder, write=True) as store:
        for first in range(0, rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, rows - first)
            pooled = rng.normal(size=(count, backbone.width)).astype(np.float32)
            pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
            files = [new_file(number, root) for number in range(first, first + count)]
            shape = (count, backbone.patches, backbone.token_width)
            patches = rng.standard_normal(shape, np.float32) if tokens else None
            stages = rng.standard_normal((count, STAGES), np.float32) if tokens else None
            store.add(backbone.space, Batch(files, pooled, patches, [file.digest for file in files], stages))


def new_file(number: int, root: str) -> NewFile:
    digest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()
    folder = f"{root}/{2000 + number // 40_000}/{number // FILES_IN_FOLDER:05}"
    return NewFile(folder, f"IMG_{number:07}.jpg", FileStamp(3_000_000 + number, 10**18 + number, 1, number + 1), digest, FACTS)


def make_files(folder: Path, count: int, per_folder: int = 500) -> None:
    """Make small, different PNG files quickly (a valid one-pixel picture followed by a number)."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (90, 120, 60)).save(buffer, "PNG")
    for number in range(count):
        place = folder / f"{number // per_folder:04}"
        if number % per_folder == 0:
            place.mkdir(parents=True, exist_ok=True)
        path = place / f"IMG_{number:06}.png"
        if not path.exists():
            path.write_bytes(buffer.getvalue() + os.urandom(8))
