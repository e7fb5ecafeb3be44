"""A damaged catalogue -> a sound one with every row that can still be read. The damaged one is kept beside it.

What could not be read is embedded again by the next run; photos are never touched. Features of contents that the new catalogue does not
know are dropped, because their numbers will be given to other contents.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rankclip.errors import StoreNewer
from rankclip.store import schema
from rankclip.store.catalogue import NAME, NamedErrors
from rankclip.store.lock import WriterLock
from rankclip.store.store import SCORES, Store
from rankclip.store.upkeep import rewrite
from rankclip.store.vectors import POOLED, TOKENS, full

# table -> its key, along which it is read
TABLES = {"folder": ("id",), "content": ("id",), "file": ("id",), "failure": ("file",), "space": ("id",), "batch": ("space", "part", "first"),
          "text": ("space", "text"), "stage": ("space", "content")}  # fmt: skip
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where SQLite's message quotes damaged text
DAMAGE_SIGNS = ("no such", "decode")  # in errors that may also mean that another process is at work
KEPT = f"{NAME}.damaged"
# what refers to a row that is gone goes, too; a failure without its reason is tried again
TIDY = (
    "DELETE FROM file WHERE folder NOT IN (SELECT id FROM folder) OR (content != 0 AND content NOT IN (SELECT id FROM content))",
    "DELETE FROM failure WHERE file NOT IN (SELECT id FROM file)",
    "DELETE FROM file WHERE content = 0 AND id NOT IN (SELECT file FROM failure)",
    "DELETE FROM batch WHERE space NOT IN (SELECT id FROM space)",
    "DELETE FROM text WHERE space NOT IN (SELECT id FROM space)",
    "DELETE FROM stage WHERE space NOT IN (SELECT id FROM space) OR content NOT IN (SELECT id FROM content)",
    "UPDATE change SET files = abs(random()) / 2",  # no snapshot of the old files may pass for current
)


def rescue(folder: Path, lock_timeout: float = 0.0) -> bool:
    """Replace a damaged catalogue; False where it is sound (or of a newer rankclip).

    Raises StoreLocked when another process writes, StoreFull when there is no room for the copy; nothing is changed then.
    """
    lock = WriterLock(folder, lock_timeout)
    try:
        if is_sound(folder / NAME):
            return False
        _replace(folder)
    finally:
        lock.release()
    with Store.open(folder, write=True, lock_timeout=lock_timeout) as store:
        drop_unknown(store)
    return True


def is_sound(path: Path) -> bool:
    """Tell whether SQLite finds nothing wrong; a newer schema is not ours to judge."""
    with NamedErrors(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            if schema.pending(connection):
                return True  # empty or older: opening it makes the tables
            for table in TABLES:
                connection.execute(f"SELECT 1 FROM {table}").fetchone()
            return not schema.faults(connection)
        except StoreNewer:
            return True
        except sqlite3.OperationalError as error:
            if any(sign in str(error) for sign in DAMAGE_SIGNS):
                return False
            raise  # locked, or the disk fails: nothing is known about the bytes
        except DAMAGE:
            return False


def _replace(folder: Path) -> None:
    damaged, rescued = folder / NAME, folder / f"{NAME}.rescued"
    try:
        rescued.unlink(missing_ok=True)  # of a run that was killed
        with NamedErrors(rescued):
            _copy(damaged, rescued)
        for ending in ("", "-wal"):
            if (source := folder / f"{NAME}{ending}").exists():
                shutil.copyfile(source, folder / f"{KEPT}{ending}")
        for ending in ("-wal", "-shm"):  # they belong to the damaged one
            (folder / f"{NAME}{ending}").unlink(missing_ok=True)
        shutil.rmtree(folder / SCORES, ignore_errors=True)  # scores go by row number
        os.replace(rescued, damaged)
    except OSError as error:
        raise full(rescued, error) from error


def _copy(damaged: Path, rescued: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as source,
        contextlib.closing(sqlite3.connect(rescued, isolation_level=None)) as target,
    ):
        schema.migrate(target)
        source.text_factory = lambda data: data.decode("utf-8", "replace")
        target.execute("BEGIN")
        for table in TABLES:
            columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
            insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            target.executemany(insert, readable(source, table, columns))
        for statement in TIDY:
            target.execute(statement)
        target.execute("COMMIT")


def readable(source: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """Yield the rows before a table's first damaged page, and those behind its last (some twice)."""
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in TABLES[table])
        try:
            yield from source.execute(f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED ORDER BY {order}")
            return
        except DAMAGE:
            continue


def drop_unknown(store: Store) -> None:
    """Drop the rows of contents that the catalogue does not know."""
    known = np.array([row[0] for row in store.catalogue.connection.execute("SELECT id FROM content")], np.int64)
    for space in store.catalogue.spaces():
        view = store.view(space)
        keep = {POOLED: np.flatnonzero(np.isin(view.contents, known)), TOKENS: np.flatnonzero(np.isin(view.token_contents, known))}
        if len(keep[POOLED]) < view.rows or len(keep[TOKENS]) < view.token_rows:
            rewrite(store, space, keep, point="repair-commit")
