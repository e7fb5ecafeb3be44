"""Append-only rows of features in raw files, memory-mapped for reading.

A space's folder holds `pooled.i8` [N, D] with a float32 scale a row (what is scanned), `pooled.f16` [N, D] (the master: its values define
the scores), `rows.i64` [N] (row -> content id) and, for backbones with patch tokens, `tokens.i8` [M, P, W] with a scale a row and
`tokens.i64` [M] (row -> content id). The catalogue says how many rows count; bytes past that are the remains of a killed run.
"""

from __future__ import annotations

import errno
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip.errors import StoreDamaged, StoreError, StoreFull, reason
from rankclip.types import Space

POOLED, TOKENS = "pooled", "tokens"
REPAIR = "rankclip store verify --repair"


@dataclass(frozen=True, slots=True)
class Column:
    """One file: its name, the type and shape of a row."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def columns(space: Space, part: str) -> tuple[Column, ...]:
    """Return the files of a part (pooled or tokens), the row -> content column last."""
    if part == POOLED:
        return (Column("pooled.i8", "int8", (space.width,)), Column("pooled.scale", "float32", ()), Column("pooled.f16", "float16", (space.width,)),
                Column("rows.i64", "int64", ()))  # fmt: skip
    return (Column("tokens.i8", "int8", (space.patches, space.token_width)), Column("tokens.scale", "float32", ()), Column("tokens.i64", "int64", ()))


def quantize(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to int8 with one scale each.

    rows: float32 [B, ...]. Returns int8 [B, ...] and float32 [B]; |row - scale * int8| <= scale / 2 in every element.
    """
    flat = rows.reshape(len(rows), -1).astype(np.float32)
    scales = np.maximum(np.abs(flat).max(axis=1), np.float32(1e-12)) / np.float32(127)  # [B]
    return np.rint(flat / scales[:, None]).astype(np.int8).reshape(rows.shape), scales


def pooled_block(pooled: np.ndarray, contents: np.ndarray) -> list[np.ndarray]:
    """Lay out embeddings as the pooled part's columns; the int8 row is made from the float16 row, so that it can be rebuilt from it."""
    master = pooled.astype(np.float16)
    small, scales = quantize(master.astype(np.float32))
    return [small, scales, master, contents.astype(np.int64)]


def tokens_block(tokens: np.ndarray, contents: np.ndarray) -> list[np.ndarray]:
    """Lay out patch tokens as the tokens part's columns."""
    return [*quantize(tokens), contents.astype(np.int64)]


class Rows:
    """The files of one part in one folder."""

    def __init__(self, folder: Path, space: Space, part: str) -> None:
        self.folder, self.part = folder, part
        self.columns = columns(space, part)

    def append(self, block: list[np.ndarray], first: int) -> str:
        """Write a block at row `first` of every column and flush it; returns the checksums for the catalogue.

        Raises StoreFull when the disk has no room or fails; what was written before `first` is untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        sums = []
        for column, values in zip(self.columns, block, strict=True):
            data = np.ascontiguousarray(values, dtype=column.dtype).tobytes()
            assert len(data) == column.row_bytes * len(values), column
            self._write(column, first, data)
            sums.append(f"{zlib.crc32(data):08x}")
        return ",".join(sums)

    def _write(self, column: Column, first: int, data: bytes) -> None:
        path = self.folder / column.name
        try:
            with open_for_append(path) as file:
                file.seek(first * column.row_bytes)
                file.truncate()
                file.write(data)
        except OSError as error:
            raise full(path, error) from error

    def overwrite(self, column: Column, first: int, values: np.ndarray) -> None:
        """Write rows of one column in place; what lies behind them stays."""
        path = self.folder / column.name
        try:
            with open_for_append(path) as file:
                file.seek(first * column.row_bytes)
                file.write(np.ascontiguousarray(values, dtype=column.dtype).tobytes())
        except OSError as error:
            raise full(path, error) from error

    def sync(self) -> None:
        """Force the columns onto the disk."""
        for column in self.columns:
            path = self.folder / column.name
            try:
                if path.exists():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
            except OSError as error:
                raise full(path, error) from error

    def read(self, name: str, count: int) -> np.ndarray:
        """Memory-map the first `count` rows of a column, read-only.

        Raises StoreDamaged when the file is shorter than the catalogue says.
        """
        column = next(column for column in self.columns if column.name == name)
        path = self.folder / name
        if count == 0:
            return np.empty((0, *column.shape), column.dtype)
        try:
            size = path.stat().st_size if path.exists() else -1
            if size >= count * column.row_bytes:
                return np.memmap(path, dtype=column.dtype, mode="r", shape=(count, *column.shape))
        except OSError as error:
            raise unreadable(path, error) from error
        what = "is missing" if size < 0 else f"is cut short ({size} of {count * column.row_bytes} bytes)"
        raise StoreDamaged(f"{path} {what}", hint=f"run: {REPAIR}")

    def intact(self, first: int, count: int, checksums: str) -> list[bool]:
        """Tell for each column whether its bytes of a batch are as they were written."""
        return [self._sum(column, first, count) == wanted for column, wanted in zip(self.columns, checksums.split(","), strict=True)]

    def _sum(self, column: Column, first: int, count: int) -> str:
        try:
            with open(self.folder / column.name, "rb") as file:
                file.seek(first * column.row_bytes)
                data = file.read(count * column.row_bytes)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EIO):  # closed to us: nothing is known about the bytes
                raise unreadable(self.folder / column.name, error) from error
            return ""
        return f"{zlib.crc32(data):08x}" if len(data) == count * column.row_bytes else ""

    @property
    def bytes_per_row(self) -> int:
        return sum(column.row_bytes for column in self.columns)


def open_for_append(path: Path):  # type: ignore[no-untyped-def]
    """Open for writing anywhere without truncating; the one place where a test can make a disk fail."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")


def unreadable(path: Path, error: OSError) -> StoreError:
    """Word a failed read."""
    return StoreError(f"{path}: {reason(error)}", hint=f"check the permissions and the disk, then run: {REPAIR}")


def full(path: Path, error: OSError) -> StoreFull:
    """Word a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(
            f"{path}: no room left on the disk; everything committed before is kept",
            hint="free some space (rankclip store info tells what is used), then run again",
        )
    return StoreFull(f"{path}: {reason(error)}; everything committed before is kept", hint="check the disk, then run: rankclip store verify")
