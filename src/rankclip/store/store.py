"""The store: photos that are known and their features in one or more spaces.

    with Store.open(folder) as store:                 # reading: no lock, any number of readers
        view = store.view(space)
        view.contents, view.small, view.scales        # memory-mapped columns
    with Store.open(folder, write=True) as store:     # one writer
        store.add(space, batch)

A batch is appended to the raw files, flushed, then committed by one transaction that records the new row count; bytes past that count
are overwritten by the next batch. So a kill at any moment loses at most the batch in flight.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rankclip.errors import StoreError, StoreReadOnly, reason
from rankclip.store import snapshot
from rankclip.store.catalogue import NAME, Catalogue
from rankclip.store.lock import WriterLock
from rankclip.store.points import reach
from rankclip.store.snapshot import Snapshot
from rankclip.store.vectors import POOLED, TOKENS, Rows, pooled_block, quantize, tokens_block
from rankclip.types import FileStamp, PhotoFacts, Space

SYNC_SECONDS = 10.0  # a power cut loses at most this much; a killed process loses nothing that was committed
SCORES = "scores"
SCORE_FILES = 256  # cached score vectors kept a space, least recently used first out


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose content is now known. `facts` None: the content is in the catalogue already."""

    folder: str
    name: str
    stamp: FileStamp
    digest: bytes
    facts: PhotoFacts | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction records: files, and features for those contents that the space lacks."""

    files: Sequence[NewFile]
    pooled: np.ndarray | None = None  # float32 [B, D], rows belong to `embedded`
    tokens: np.ndarray | None = None  # float32 [B, P, W]
    embedded: Sequence[bytes] = ()  # digests, one a row
    stages: np.ndarray | None = None  # float32 [B, S]


class Store:
    """Open with `Store.open`; use as a context."""

    def __init__(self, folder: Path, catalogue: Catalogue, lock: WriterLock | None) -> None:
        self.folder, self.catalogue, self.lock = folder, catalogue, lock
        self._synced = time.monotonic()
        self._unsynced: set[str] = set()

    @classmethod
    def open(cls, folder: Path, *, write: bool = False, lock_timeout: float = 0.0) -> Store:
        """Open a store, making it where it is not there (only for writing).

        Raises StoreLocked, StoreReadOnly, StoreNewer or StoreDamaged; nothing is changed then.
        """
        if not write:
            return cls(folder, Catalogue(folder, write=False), None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnly(f"{folder}: cannot be made ({reason(error)})", hint="use another store: --store DIR") from error
        lock = WriterLock(folder, lock_timeout)
        try:
            if not cls.exists(folder):  # somebody removed the catalogue alone: scores go by its row numbers
                shutil.rmtree(folder / SCORES, ignore_errors=True)
            return cls(folder, Catalogue(folder, write=True), lock)
        except BaseException:
            lock.release()
            raise

    @staticmethod
    def exists(folder: Path) -> bool:
        """Tell whether there is a store; an empty catalogue is what a first run leaves that fails before its first table."""
        path = folder / NAME
        try:
            return path.exists() and path.stat().st_size > 0
        except OSError as error:
            raise StoreError(f"{folder}: cannot be read ({reason(error)})", hint="use another store: --store DIR") from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.catalogue.explain(error)
        finally:
            self.close()

    def close(self) -> None:
        """Sync what was written and let go of the lock."""
        try:
            if self.lock is not None:
                self.sync()
                self.snapshot()  # made now, while somebody waits for photos anyway, and not in the next query
        finally:
            self.catalogue.close()
            if self.lock is not None:
                self.lock.release()

    # ------------------------------------------------------------ reading

    def view(self, space: Space) -> View:
        """Return the rows of a space as they are now."""
        with self.catalogue.named():
            number, rows, token_rows, generation = self.catalogue.space_row(space)
        return View(self, space, number, rows, token_rows, generation)

    def snapshot(self) -> Snapshot:
        """Return all readable files as flat arrays, sorted by path."""
        with self.catalogue.named():
            return snapshot.read(self.catalogue, self.folder)

    def space_folder(self, space: Space, generation: int) -> Path:
        name = space.fingerprint if generation == 0 else f"{space.fingerprint}.{generation}"
        return self.folder / "spaces" / name

    # ------------------------------------------------------------ writing

    def add(self, space: Space, batch: Batch) -> None:
        """Record a batch, whole or not at all."""
        catalogue = self.catalogue
        with catalogue.named(), Transaction(catalogue, files=True):
            number = catalogue.put_space(space)
            contents = {file.digest: self._content(file) for file in batch.files}
            if batch.pooled is not None and len(batch.pooled):
                ids = np.array([contents[digest] for digest in batch.embedded], np.int64)
                self._append(space, number, batch, ids)
            for file in batch.files:
                row = catalogue.put_file(file.folder, file.name, file.stamp, contents[file.digest])
                catalogue.drop_moved(file.stamp, row)
            reach("batch-commit")
        self._unsynced.add(space.fingerprint)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def _content(self, file: NewFile) -> int:
        if file.facts is not None:
            return self.catalogue.put_content(file.digest, file.stamp.size, file.facts)
        return self.catalogue.content_of(file.digest)

    def _append(self, space: Space, number: int, batch: Batch, contents: np.ndarray) -> None:
        assert batch.pooled is not None
        _, rows, token_rows, generation = self.catalogue.space_row(space)
        folder = self.space_folder(space, generation)
        self._append_part(Rows(folder, space, POOLED), number, rows, pooled_block(batch.pooled, contents))
        if batch.tokens is not None:
            self._append_part(Rows(folder, space, TOKENS), number, token_rows, tokens_block(batch.tokens, contents))
        if batch.stages is not None:
            self.catalogue.put_stages(number, contents, *quantize(batch.stages))
        reach("rows-written")

    def _append_part(self, files: Rows, number: int, first: int, block: list[np.ndarray]) -> None:
        checksums = files.append(block, first)
        count = len(block[0])
        column = "rows" if files.part == POOLED else "token_rows"
        self.catalogue.connection.execute("INSERT INTO batch (space, part, first, rows, checksums) VALUES (?, ?, ?, ?, ?)",
                                          (number, files.part, first, count, checksums))  # fmt: skip
        self.catalogue.connection.execute(f"UPDATE space SET {column} = ? WHERE id = ?", (first + count, number))

    def add_failure(self, folder: str, name: str, stamp: FileStamp, kind: str, reason: str) -> None:
        """Remember that a file could not be read, until it changes."""
        with self.catalogue.named(), Transaction(self.catalogue, files=True):
            self.catalogue.put_failure(folder, name, stamp, kind, reason)

    def add_moved(self, files: Iterable[tuple[str, str, FileStamp, int]]) -> None:
        """Record new paths of known contents: folder, name, stamp, content."""
        with self.catalogue.named(), Transaction(self.catalogue, files=True):
            for folder, name, stamp, content in files:
                self.catalogue.drop_moved(stamp, self.catalogue.put_file(folder, name, stamp, content))

    def sync(self) -> None:
        """Force all rows onto the disk and mark them, so that a power cut cannot take them."""
        for space in self.catalogue.spaces() if self._unsynced else ():
            if space.fingerprint in self._unsynced:
                _, _, _, generation = self.catalogue.space_row(space)
                for part in (POOLED, TOKENS):
                    Rows(self.space_folder(space, generation), space, part).sync()
        reach("synced")
        with self.catalogue.named():
            self.catalogue.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._unsynced.clear()
        self._synced = time.monotonic()

    # ------------------------------------------------------------ caches (failing to write one is never an error)

    def cached_texts(self, space: Space, texts: list[str]) -> dict[str, np.ndarray]:
        """Return the embeddings of texts that were embedded before, float32 [D] each."""
        with self.catalogue.named():
            return self.catalogue.texts(self.catalogue.space_row(space)[0], texts, space.width)

    def cache_texts(self, space: Space, vectors: dict[str, np.ndarray]) -> None:
        try:
            own = contextlib.nullcontext(self.catalogue) if self.lock is not None else contextlib.closing(Catalogue(self.folder, write=True))
            with own as catalogue, catalogue.named(), Transaction(catalogue):
                catalogue.put_texts(catalogue.put_space(space), vectors)
        except (OSError, StoreError):
            pass  # a read-only store, or one that is being written: the text is embedded again next time

    def _score_file(self, view: View, key: str) -> Path:
        name = hashlib.blake2b(f"{view.generation}|{key}".encode(), digest_size=12).hexdigest()
        return self.folder / SCORES / view.space.fingerprint / f"{name}.f32"

    def cached_scores(self, view: View, key: str) -> np.ndarray:
        """Return the cached scores of the first rows, float32 [at most N]; empty when there are none."""
        path = self._score_file(view, key)
        if not path.exists():
            return np.empty(0, np.float32)
        with contextlib.suppress(OSError):  # the time of use only decides which entry goes first
            os.utime(path)
        return np.fromfile(path, np.float32, count=view.rows)

    def cache_scores(self, view: View, key: str, scores: np.ndarray) -> None:
        """Keep a score vector, float32 [N], for the next run."""
        path = self._score_file(view, key)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scores.astype(np.float32).tofile(partial)
            reach("score-written")
            partial.replace(path)
            for old in sorted(path.parent.glob("*.f32"), key=lambda one: one.stat().st_mtime)[:-SCORE_FILES]:
                old.unlink(missing_ok=True)
        except OSError:
            partial.unlink(missing_ok=True)


class View:
    """A space's rows as they were when it was asked for. N rows of pooled features, M rows of patch tokens."""

    def __init__(self, store: Store, space: Space, number: int, rows: int, token_rows: int, generation: int) -> None:
        self.store, self.space, self.number = store, space, number
        self.rows, self.token_rows, self.generation = rows, token_rows, generation
        folder = store.space_folder(space, generation)
        self._pooled, self._tokens = Rows(folder, space, POOLED), Rows(folder, space, TOKENS)

    @cached_property
    def contents(self) -> np.ndarray:
        """int64 [N]: row -> content."""
        return self._pooled.read("rows.i64", self.rows)

    @cached_property
    def small(self) -> np.ndarray:
        """int8 [N, D]: what is scanned."""
        return self._pooled.read("pooled.i8", self.rows)

    @cached_property
    def scales(self) -> np.ndarray:
        """float32 [N]: embedding = scale * int8."""
        return self._pooled.read("pooled.scale", self.rows)

    @cached_property
    def master(self) -> np.ndarray:
        """float16 [N, D]: what defines the scores."""
        return self._pooled.read("pooled.f16", self.rows)

    @cached_property
    def token_contents(self) -> np.ndarray:
        """int64 [M]: token row -> content."""
        return self._tokens.read("tokens.i64", self.token_rows)

    @cached_property
    def tokens(self) -> np.ndarray:
        """int8 [M, P, W]."""
        return self._tokens.read("tokens.i8", self.token_rows)

    @cached_property
    def token_scales(self) -> np.ndarray:
        """float32 [M]."""
        return self._tokens.read("tokens.scale", self.token_rows)

    @cached_property
    def row_of(self) -> np.ndarray:
        """int64 [largest content + 2]: content -> row, -1 where it is not embedded (the last entry stands for every larger content)."""
        return inverse(self.contents)

    @cached_property
    def token_row_of(self) -> np.ndarray:
        """The same for token rows."""
        return inverse(self.token_contents)

    def rows_of(self, contents: np.ndarray) -> np.ndarray:
        """Return the rows of some contents, int64, -1 where there is none."""
        return self.row_of[np.minimum(contents, len(self.row_of) - 1)]

    def token_rows_of(self, contents: np.ndarray) -> np.ndarray:
        return self.token_row_of[np.minimum(contents, len(self.token_row_of) - 1)]

    @cached_property
    def truncated(self) -> np.ndarray:
        """int64: the contents of which only a part could be read, usually none."""
        with self.store.catalogue.named():
            return np.array(self.store.catalogue.truncated(), np.int64)

    @cached_property
    def embedded(self) -> set[int]:
        """The contents that have a row."""
        return set(self.contents.tolist())

    def read_embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings of some rows, float32 [K, D], unit length whatever float16 rounded.    rows: int64 [K]."""
        found = self.master[rows].astype(np.float32)  # [K, D]
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def read_stages(self, contents: np.ndarray) -> np.ndarray:
        """Return what inner stages of the tower saw of some contents, float32 [K, S], NaN where that is not known; S is 0 where it is known of none."""
        with self.store.catalogue.named():
            found = self.store.catalogue.stages(self.number, np.unique(contents).tolist())
        unknown = np.full(len(next(iter(found.values()), ())), np.nan, np.float32)  # [S]
        return np.array([found.get(content, unknown) for content in contents.tolist()], np.float32).reshape(len(contents), len(unknown))

    def read_tokens(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of some token rows, float32 [K, P, W]."""
        return self.tokens[rows].astype(np.float32) * self.token_scales[rows][:, None, None]


def inverse(contents: np.ndarray) -> np.ndarray:
    """Turn row -> content into content -> row, with -1 for what is absent and one spare entry at the end."""
    largest = int(contents.max()) if len(contents) else 0
    rows = np.full(largest + 2, -1, np.int64)
    rows[contents] = np.arange(len(contents))
    return rows


class Transaction:
    """Context: BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when anything is raised. files: the file table changes."""

    def __init__(self, catalogue: Catalogue, *, files: bool = False) -> None:
        self.catalogue, self.connection, self.files = catalogue, catalogue.connection, files

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        if self.files:
            self.catalogue.count_change()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:  # something was raised, maybe by the commit itself; SQLite may have ended it already
                self.connection.execute("ROLLBACK")
