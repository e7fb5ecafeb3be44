"""The catalogue's files as flat arrays in one file, sorted by path, so that a repeated query reads a million of them in milliseconds.

A cache: it carries the catalogue's change counter, is made anew when that differs, and can be deleted at any time. Layout, little-endian: eight
int64 (magic, counter, files G, bytes of all paths B, zeros), contents int64 [G], folders int64 [G], starts int64 [G + 1], then the paths (folder as the
catalogue keeps it, slash, name) one after another.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip.store.catalogue import Catalogue

NAME = "files.cache"
MAGIC = 0x31_53_45_4C_49_46_43_52  # "RCFILES1"
HEADER = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Readable files, sorted by the bytes of their paths.    contents, folders: int64 [G].    starts: int64 [G + 1], into `paths`."""

    contents: np.ndarray
    folders: np.ndarray
    starts: np.ndarray
    paths: bytes

    def __len__(self) -> int:
        return len(self.contents)


def read(catalogue: Catalogue, folder: Path) -> Snapshot:
    """Return the files as they are now, from the cache if it is current."""
    counter = catalogue.counter()
    found = _load(folder / NAME, counter)
    if found is None:
        found = build(catalogue)
        save(found, folder / NAME, counter)
    return found


def build(catalogue: Catalogue) -> Snapshot:
    """Make the arrays from the catalogue."""
    prefixes = {number: os.fsencode(path) + (b"" if path.endswith("/") else b"/") for number, path in catalogue.stored_folders().items()}
    rows = [(prefixes[folder] + (name.encode() if isinstance(name, str) else name), folder, content) for folder, name, content in catalogue.readable_files()]
    rows.sort()
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(path) for path, _, _ in rows], out=starts[1:])
    contents, folders = (np.fromiter((row[column] for row in rows), np.int64, len(rows)) for column in (2, 1))
    return Snapshot(contents, folders, starts, b"".join(path for path, _, _ in rows))


def save(found: Snapshot, path: Path, counter: int) -> None:
    """Write the cache, whole or not at all; a read-only store goes without."""
    partial = path.with_suffix(f".{os.getpid()}")
    header = np.array([MAGIC, counter, len(found), len(found.paths), 0, 0, 0, 0], np.int64)
    try:
        with open(partial, "wb") as file:
            for part in (header, found.contents, found.folders, found.starts):
                file.write(part.tobytes())
            file.write(found.paths)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()


def _load(path: Path, counter: int) -> Snapshot | None:
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    header = np.frombuffer(data, np.int64, HEADER) if len(data) >= 8 * HEADER else np.zeros(HEADER, np.int64)
    count, size = int(header[2]), int(header[3])
    if header[0] != MAGIC or header[1] != counter or len(data) != 8 * (HEADER + 3 * count + 1) + size:
        return None
    places = ((count, HEADER), (count, HEADER + count), (count + 1, HEADER + 2 * count))
    contents, folders, starts = (np.frombuffer(data, np.int64, length, offset=8 * start) for length, start in places)
    data.seek(8 * (HEADER + 3 * count + 1))
    return Snapshot(contents, folders, starts, data.read())
