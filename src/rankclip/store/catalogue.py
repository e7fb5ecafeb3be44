"""The SQL of the store: folders, files, contents, failures, spaces, texts.

Paths of folders are absolute, or relative to the folder that holds the store when the store lies beside the photos, so that both can
move together.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from rankclip.errors import StoreDamaged, StoreError, StoreReadOnly
from rankclip.store import schema
from rankclip.store.keys import KnownFile
from rankclip.types import FileStamp, PhotoFacts, PixelFacts, Space

NAME = "catalogue.sqlite3"
BUSY_MS = 5_000  # readers never wait; a writer waits this long for a reader's cache entry
FACT_COLUMNS = "width, height, format, taken_at, camera, latitude, longitude, truncated"
SYMPTOMS = (TypeError, ValueError, LookupError, ArithmeticError)  # what a damaged value may end in
MANY_LINKS = 100  # paths that lead to one file
PIXEL_COLUMNS = ", ".join(field.name for field in fields(PixelFacts))


@dataclass(frozen=True, slots=True)
class Location:
    """A file row: where, and which content."""

    folder: str
    name: str
    content: int


def to_sql(text: str) -> str | bytes:
    """Return text that SQLite can keep; names that are not UTF-8 are kept as bytes."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return os.fsencode(text)


def from_sql(value: str | bytes) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else value


class Catalogue:
    """One connection to the catalogue."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.path = folder / NAME
        self.anchor = os.path.abspath(folder.parent)
        self.connection = self._connect(write)
        self._folder_ids: dict[str, int] = {}
        self._linked: set[tuple[int, int]] = set()  # inodes of many paths that were looked at

    def _connect(self, write: bool) -> sqlite3.Connection:
        with self.named():
            if write:
                return _opened(str(self.path), _prepare, uri=False)
            place = self.path.absolute().as_uri()
            try:
                return _opened(f"{place}?mode=ro", self._check)
            except sqlite3.OperationalError:  # write-ahead files cannot be made on a read-only disk: read the file as it is
                return _opened(f"{place}?mode=ro&immutable=1", self._check)

    def _check(self, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if schema.pending(connection):
            raise StoreError(f"{self.path}: made by an older rankclip", hint="run rankclip embed once on a folder: it brings the store up to date")

    def named(self) -> NamedErrors:
        """Return a guard that turns SQLite's errors into ours, naming the file."""
        return NamedErrors(self.path)

    def explain(self, error: BaseException | None) -> None:
        """Raise what is behind an error that ends the use of this catalogue: one of SQLite's, or whatever values lead to that damage has changed."""
        with self.named():
            if isinstance(error, sqlite3.Error):
                raise error
            if isinstance(error, SYMPTOMS) and (found := self.connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found) from error

    def close(self) -> None:
        self.connection.close()

    # ------------------------------------------------------------ folders and files

    def stored_folder(self, path: str) -> str:
        """Return a folder's path as the catalogue keeps it."""
        if path == self.anchor:
            return "."
        inside = self.anchor.rstrip("/") + "/"
        return "./" + path[len(inside) :] if path.startswith(inside) and self.anchor != "/" else path

    def real_folder(self, stored: str) -> str:
        if stored == ".":
            return self.anchor
        return f"{self.anchor}/{stored[2:]}" if stored.startswith("./") else stored

    def folder_id(self, path: str, *, create: bool = False) -> int:
        """Return a folder's number, 0 when it is not known."""
        if path not in self._folder_ids:
            stored = to_sql(self.stored_folder(path))
            if create:
                self.connection.execute("INSERT OR IGNORE INTO folder (path) VALUES (?)", (stored,))
            found = self.connection.execute("SELECT id FROM folder WHERE path = ?", (stored,)).fetchone()
            if not found:
                return 0
            self._folder_ids[path] = found[0]
        return self._folder_ids[path]

    def folders(self) -> dict[int, str]:
        """Return all folders: number -> absolute path."""
        return {number: self.real_folder(path) for number, path in self.stored_folders().items()}

    def stored_folders(self) -> dict[int, str]:
        """Return all folders as the catalogue keeps them: absolute, or relative to the store's parent."""
        return {number: from_sql(path) for number, path in self.connection.execute("SELECT id, path FROM folder")}

    def readable_files(self) -> Iterator[tuple[int, str | bytes, int]]:
        """Yield folder number, name and content of every file that could be read."""
        yield from self.connection.execute("SELECT folder, name, content FROM file WHERE content != 0")

    def counter(self) -> int:
        """Return a number that grows with every change of the file table."""
        return int(self.connection.execute("SELECT files FROM change").fetchone()[0])

    def count_change(self) -> None:
        self.connection.execute("UPDATE change SET files = files + 1")

    def files_in(self, folder: str) -> dict[str, KnownFile]:
        """Return what is known of a folder's files, by name."""
        found = self.connection.execute("SELECT name, size, mtime_ns, content FROM file WHERE folder = ?", (self.folder_id(folder),))
        return {from_sql(name): KnownFile(size, mtime, content) for name, size, mtime, content in found}

    def file_at_inode(self, device: int, inode: int) -> KnownFile | None:
        found = self.connection.execute("SELECT size, mtime_ns, content FROM file WHERE inode = ? AND device = ? AND content != 0", (inode, device)).fetchone()
        return KnownFile(*found) if found else None

    def put_file(self, folder: str, name: str, stamp: FileStamp, content: int) -> int:
        """Insert or replace a file's row and return its number."""
        values = (stamp.size, stamp.mtime_ns, stamp.device, stamp.inode, content)
        where = (self.folder_id(folder, create=True), to_sql(name))
        self.connection.execute("DELETE FROM failure WHERE file = (SELECT id FROM file WHERE folder = ? AND name = ?)", where)
        return int(self.connection.execute(
            "INSERT INTO file (folder, name, size, mtime_ns, device, inode, content) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (folder, name) DO UPDATE "
            "SET size = excluded.size, mtime_ns = excluded.mtime_ns, device = excluded.device, inode = excluded.inode, content = excluded.content RETURNING id",
            (*where, *values)).fetchone()[0])  # fmt: skip

    def drop_moved(self, stamp: FileStamp, keep: int) -> None:
        """Forget the rows of the same inode whose file is gone: it was moved.

        Where many links lead to one file, once a session: to look at all of them for each of them would be quadratic.
        """
        if (stamp.inode, stamp.device) in self._linked:
            return
        rows = self.connection.execute(
            "SELECT file.id, folder.path, name FROM file JOIN folder ON folder.id = folder WHERE inode = ? AND device = ? AND file.id != ?",
            (stamp.inode, stamp.device, keep),
        ).fetchall()
        for number, folder, name in rows:
            if not os.path.lexists(f"{self.real_folder(from_sql(folder))}/{from_sql(name)}"):
                self.connection.execute("DELETE FROM file WHERE id = ?", (number,))
        if len(rows) > MANY_LINKS:
            self._linked.add((stamp.inode, stamp.device))

    def put_failure(self, folder: str, name: str, stamp: FileStamp, kind: str, reason: str) -> None:
        number = self.put_file(folder, name, stamp, 0)
        self.connection.execute("INSERT OR REPLACE INTO failure (file, kind, reason) VALUES (?, ?, ?)", (number, kind, reason))

    def failures(self) -> Iterator[tuple[str, str, str]]:
        """Yield path, kind and reason of every file that could not be read."""
        for folder, name, kind, reason in self.connection.execute(
            "SELECT folder.path, name, kind, reason FROM failure JOIN file ON file.id = failure.file JOIN folder ON folder.id = folder"
        ):
            yield f"{self.real_folder(from_sql(folder))}/{from_sql(name)}", kind, reason

    # ------------------------------------------------------------ contents

    def digests_of_size(self, size: int) -> tuple[bytes, ...]:
        return tuple(row[0] for row in self.connection.execute("SELECT digest FROM content WHERE size = ?", (size,)))

    def content_of(self, digest: bytes) -> int:
        """Return a content's number, 0 when it is not known."""
        found = self.connection.execute("SELECT id FROM content WHERE digest = ?", (digest,)).fetchone()
        return int(found[0]) if found else 0

    def put_content(self, digest: bytes, size: int, facts: PhotoFacts) -> int:
        """Insert a content with its facts, or bring the facts up to date; returns its number."""
        pixels = facts.pixels or PixelFacts(0, 0, 0, 0, 0, 0, 0)
        basics = (facts.width, facts.height, facts.format, facts.taken_at, facts.camera, facts.latitude, facts.longitude, int(facts.truncated))
        names = f"digest, size, {FACT_COLUMNS}, {PIXEL_COLUMNS}"
        updates = ", ".join(f"{name} = excluded.{name}" for name in f"{FACT_COLUMNS}, {PIXEL_COLUMNS}".split(", "))
        marks = ", ".join("?" * len(names.split(", ")))
        return int(self.connection.execute(f"INSERT INTO content ({names}) VALUES ({marks}) ON CONFLICT (digest) DO UPDATE SET {updates} RETURNING id",
                                           (digest, size, *basics, *astuple(pixels))).fetchone()[0])  # fmt: skip

    def facts(self, contents: Iterable[int]) -> dict[int, PhotoFacts]:
        """Return the facts of some contents."""
        wanted = [int(content) for content in contents]
        found: dict[int, PhotoFacts] = {}
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            marks = ",".join("?" * len(some))
            for row in self.connection.execute(f"SELECT id, {FACT_COLUMNS}, {PIXEL_COLUMNS} FROM content WHERE id IN ({marks})", some):
                number, width, height, kind, taken_at, camera, latitude, longitude, truncated, *pixels = row
                found[number] = PhotoFacts(width, height, kind, taken_at, camera, latitude, longitude, PixelFacts(*pixels), bool(truncated))
        return found

    def moments(self) -> np.ndarray:
        """Return content and seconds since 1970 (by the camera's own clock) of every content that says when it was taken, by content: int64 [M, 2]."""
        found = self.connection.execute(
            "SELECT id, seconds FROM (SELECT id, CAST(strftime('%s', taken_at) AS INTEGER) AS seconds FROM content WHERE taken_at != '') "
            "WHERE seconds IS NOT NULL ORDER BY id"
        )
        return np.array(found.fetchall(), np.int64).reshape(-1, 2)

    def truncated(self) -> list[int]:
        """Return the contents of which only a part could be read."""
        return [row[0] for row in self.connection.execute("SELECT id FROM content WHERE truncated")]

    def put_stages(self, space: int, contents: np.ndarray, means: np.ndarray, scales: np.ndarray) -> None:
        """Keep what inner stages saw of some contents.    contents: int64 [B]. means: int8 [B, S], in steps of scales: float32 [B]."""
        self.connection.executemany("INSERT OR REPLACE INTO stage (space, content, scale, means) VALUES (?, ?, ?, ?)",
                                    [(space, *row) for row in zip(contents.tolist(), scales.tolist(), map(bytes, means), strict=True)])  # fmt: skip

    def stages(self, space: int, contents: list[int]) -> dict[int, np.ndarray]:
        """Return what inner stages saw of those contents that have it, float32 [S] each."""
        found = {}
        for start in range(0, len(contents), 500):
            some = contents[start : start + 500]
            marks = ",".join("?" * len(some))
            for content, scale, means in self.connection.execute(f"SELECT content, scale, means FROM stage WHERE space = ? AND content IN ({marks})",
                                                                 (space, *some)):  # fmt: skip
                found[content] = np.frombuffer(means, np.int8) * np.float32(scale)
        return found

    # ------------------------------------------------------------ spaces and texts

    def space_row(self, space: Space) -> tuple[int, int, int, int]:
        """Return number, rows, token rows and generation of a space; zeros when it is not known."""
        found = self.connection.execute("SELECT id, rows, token_rows, generation FROM space WHERE fingerprint = ?", (space.fingerprint,)).fetchone()
        return tuple(found) if found else (0, 0, 0, 0)

    def put_space(self, space: Space) -> int:
        """Insert a space; one that held no patch tokens yet takes on their shape, since a model may begin to give them."""
        self.connection.execute(
            "INSERT INTO space (fingerprint, backbone, weights, preprocess, width, patches, token_width) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (fingerprint) DO UPDATE SET patches = excluded.patches, token_width = excluded.token_width "
            "WHERE token_rows = 0 AND excluded.patches > 0 AND excluded.patches != patches",
            (space.fingerprint, space.backbone, space.weights, space.preprocess, space.width, space.patches, space.token_width),
        )
        return self.space_row(space)[0]

    def spaces(self) -> list[Space]:
        found = self.connection.execute("SELECT backbone, weights, preprocess, width, patches, token_width FROM space ORDER BY id").fetchall()
        return [Space(*row) for row in found]

    def texts(self, space: int, texts: list[str], width: int) -> dict[str, np.ndarray]:
        """Return the cached embeddings of those texts that have one, float32 [D] each."""
        found = {}
        for text in texts:
            row = self.connection.execute("SELECT vector FROM text WHERE space = ? AND text = ?", (space, text)).fetchone()
            if row and len(row[0]) == 4 * width:
                found[text] = np.frombuffer(row[0], np.float32)
        return found

    def put_texts(self, space: int, vectors: dict[str, np.ndarray]) -> None:
        self.connection.executemany("INSERT OR REPLACE INTO text (space, text, vector) VALUES (?, ?, ?)",
                                    [(space, text, vector.astype(np.float32).tobytes()) for text, vector in vectors.items()])  # fmt: skip


def _opened(place: str, prepare: Callable[[sqlite3.Connection], None], *, uri: bool = True) -> sqlite3.Connection:
    """Connect and prepare; a connection that cannot be prepared is closed."""
    connection = sqlite3.connect(place, uri=uri, isolation_level=None, timeout=BUSY_MS / 1000)
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make a connection ready to write."""
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    schema.migrate(connection)
    connection.execute("PRAGMA journal_mode = WAL")  # after the first migration, so that one that fails leaves an empty file


class NamedErrors:
    """Context: SQLite's errors -> ours, with the file's name and the next step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> NamedErrors:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, (sqlite3.Error, UnicodeDecodeError)):  # the latter where SQLite's message quotes damaged text
            return
        text = str(error).lower()
        if "unable to open" in text and self.path.exists() and not os.access(self.path, os.R_OK):
            raise StoreError(f"{self.path}: cannot be read (permission denied)", hint="use another store: --store DIR") from error
        if "readonly" in text or "read-only" in text or "unable to open" in text:
            raise StoreReadOnly(f"{self.path}: cannot be written here", hint="use another store: --store DIR") from error
        if "disk is full" in text or "disk i/o" in text:
            from rankclip.errors import StoreFull

            raise StoreFull(f"{self.path}: {text}; everything committed before is kept", hint="free some space, then run again") from error
        if "locked" in text or "busy" in text:
            raise StoreError(f"{self.path}: in use by another process", hint="wait for it, or give --lock-timeout SECONDS") from error
        raise StoreDamaged(f"{self.path}: damaged ({text})", hint="run: rankclip store verify --repair") from error
