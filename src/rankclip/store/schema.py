"""Tables of the catalogue and the numbered migrations that make them.

Migrations run in one transaction together with the record that they ran (SQLite's user_version). A newer schema is refused, untouched.
Paths and names are TEXT where they are UTF-8 and BLOB where they are not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from rankclip.errors import StoreNewer
from rankclip.store.points import reach

FIRST = """
CREATE TABLE change (files INTEGER NOT NULL  -- grows with every change of the file table
);
INSERT INTO change VALUES (0);
CREATE TABLE folder (id INTEGER PRIMARY KEY, path NOT NULL UNIQUE);
CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folder (id),
    name NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    content INTEGER NOT NULL,          -- 0: could not be read, the reason is in failure
    UNIQUE (folder, name)
);
CREATE INDEX file_inode ON file (inode);
CREATE INDEX file_content ON file (content);
CREATE TABLE failure (file INTEGER PRIMARY KEY REFERENCES file (id) ON DELETE CASCADE, kind TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,       -- BLAKE2b of the file's bytes, 16 bytes
    size INTEGER NOT NULL,
    width INTEGER, height INTEGER,     -- px, after orientation
    format TEXT, taken_at TEXT, camera TEXT, latitude REAL, longitude REAL, truncated INTEGER,
    luminance REAL, contrast REAL, saturation REAL, colourfulness REAL, clipped REAL, sharpness REAL, noise REAL
);
CREATE INDEX content_size ON content (size);
CREATE INDEX content_truncated ON content (truncated) WHERE truncated;
CREATE TABLE space (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    backbone TEXT NOT NULL, weights TEXT NOT NULL, preprocess TEXT NOT NULL,
    width INTEGER NOT NULL, patches INTEGER NOT NULL, token_width INTEGER NOT NULL,
    rows INTEGER NOT NULL DEFAULT 0,        -- rows of pooled.* and rows.i64 that count
    token_rows INTEGER NOT NULL DEFAULT 0,  -- rows of tokens.* that count
    generation INTEGER NOT NULL DEFAULT 0   -- grows when rows are renumbered: cached scores of an older one are void
);
CREATE TABLE batch (
    space INTEGER NOT NULL REFERENCES space (id) ON DELETE CASCADE,
    part TEXT NOT NULL,                -- pooled | tokens
    first INTEGER NOT NULL, rows INTEGER NOT NULL,
    checksums TEXT NOT NULL,           -- crc32 of the batch's bytes in each of the part's files, hexadecimal, by commas
    PRIMARY KEY (space, part, first)
) WITHOUT ROWID;
CREATE TABLE text (
    space INTEGER NOT NULL REFERENCES space (id) ON DELETE CASCADE, text TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (space, text)
) WITHOUT ROWID;
"""


def first(connection: sqlite3.Connection) -> None:
    for statement in FIRST.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def stages(connection: sqlite3.Connection) -> None:
    """Add what inner stages of an image tower see of a photo; photos that were embedded before have none."""
    connection.execute(
        "CREATE TABLE stage (space INTEGER NOT NULL REFERENCES space (id) ON DELETE CASCADE, "
        "content INTEGER NOT NULL REFERENCES content (id) ON DELETE CASCADE, "
        "scale REAL NOT NULL, means BLOB NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID"  # means: int8 [S], in steps of scale
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (first, stages)
VERSION = len(MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """Return the number of migrations that have run."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def faults(connection: sqlite3.Connection) -> list[str]:
    """Say what SQLite finds wrong with the whole file; then read every value once, since text that is no UTF-8 passes its check.

    Raises sqlite3.Error, or UnicodeDecodeError where SQLite's message quotes damaged text.
    """
    found = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _ in connection.execute(f"SELECT * FROM {table}"):
            pass
    return found


def pending(connection: sqlite3.Connection) -> list[int]:
    """Return the numbers of migrations that have not run. Raises StoreNewer for a store of a later rankclip."""
    found = version(connection)
    if found > VERSION:
        raise StoreNewer(
            f"this store has format {found}, this rankclip reads up to {VERSION}; it was not touched", hint="update rankclip, or use another store: --store DIR"
        )
    return list(range(found + 1, VERSION + 1))


def migrate(connection: sqlite3.Connection) -> None:
    """Run all that is pending, whole or not at all: a disk that gets full leaves no store of an earlier format."""
    if not pending(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in pending(connection):  # another process may have been quicker
            MIGRATIONS[number - 1](connection)
            connection.execute(f"PRAGMA user_version = {number}")
        reach("migration")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
