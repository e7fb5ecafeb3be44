"""Looking after a store: info, verify and repair, prune, compact, forget, export.

Nothing here ever touches a photo. Every change is one transaction; a kill at any named point (`points`) leaves the store as it was or as it
shall be.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rankclip.errors import InputError, StoreDamaged, reason
from rankclip.registry import load
from rankclip.store import schema
from rankclip.store.catalogue import NAME, from_sql
from rankclip.store.points import reach
from rankclip.store.store import SCORES, Store, Transaction
from rankclip.store.vectors import POOLED, TOKENS, Rows, quantize
from rankclip.types import PhotoFacts, Space

COPY_ROWS = 4_096  # rows copied at once when compacting


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    backbone: str
    fingerprint: str
    rows: int
    token_rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What is in a store. Sizes in bytes."""

    folder: str
    files: int
    contents: int
    failures: int
    folders: int
    catalogue_bytes: int
    score_bytes: int
    spaces: tuple[SpaceInfo, ...]

    @property
    def bytes(self) -> int:
        return self.catalogue_bytes + self.score_bytes + sum(space.bytes for space in self.spaces)


def info(store: Store) -> StoreInfo:
    """Count what a store holds."""
    with store.catalogue.named():
        files, contents, failures, folders = (_count(store, table) for table in ("file", "content", "failure", "folder"))
        spaces = []
        for space in store.catalogue.spaces():
            _, rows, token_rows, generation = store.catalogue.space_row(space)
            spaces.append(SpaceInfo(space.backbone, space.fingerprint, rows, token_rows, folder_bytes(store.space_folder(space, generation))))
    catalogue, scores = (store.folder / NAME).stat().st_size, folder_bytes(store.folder / SCORES)
    return StoreInfo(str(store.folder), files, contents, failures, folders, catalogue, scores, tuple(spaces))


def _count(store: Store, table: str) -> int:
    return int(store.catalogue.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


# ---------------------------------------------------------------- verify and repair


@dataclass(frozen=True, slots=True)
class Damage:
    """A batch of rows that is not as it was written."""

    space: Space
    part: str
    first: int
    rows: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.space.backbone}: rows {self.first:,} to {self.first + self.rows - 1:,} of {', '.join(self.columns)}"


@dataclass(slots=True)
class Verdict:
    """What `verify` found; `repaired` and `dropped` count rows."""

    batches: int = 0
    damages: list[Damage] = field(default_factory=list)
    catalogue: list[str] = field(default_factory=list)
    repaired: int = 0
    dropped: int = 0

    @property
    def sound(self) -> bool:
        return not self.damages and not self.catalogue


def verify(store: Store) -> Verdict:
    """Check the catalogue and every batch's checksums."""
    verdict = Verdict()
    with store.catalogue.named():
        verdict.catalogue = schema.faults(store.catalogue.connection)
        for space in store.catalogue.spaces():
            for part in (POOLED, TOKENS):
                _verify_part(store, space, part, verdict)
    return verdict


def _verify_part(store: Store, space: Space, part: str, verdict: Verdict) -> None:
    number, rows, token_rows, generation = store.catalogue.space_row(space)
    files = Rows(store.space_folder(space, generation), space, part)
    everything = tuple(column.name for column in files.columns)
    batches = store.catalogue.connection.execute("SELECT first, rows, checksums FROM batch WHERE space = ? AND part = ? ORDER BY first", (number, part))
    end = 0
    for first, count, checksums in batches.fetchall():
        verdict.batches += 1
        if first > end:  # rows that no checksum speaks for: their batch was lost with a part of the catalogue
            verdict.damages.append(Damage(space, part, end, first - end, everything))
        bad = tuple(column.name for column, intact in zip(files.columns, files.intact(first, count, checksums), strict=True) if not intact)
        if bad:
            verdict.damages.append(Damage(space, part, first, count, bad))
        end = first + count
    if (total := rows if part == POOLED else token_rows) > end:
        verdict.damages.append(Damage(space, part, end, total - end, everything))


def repair(store: Store) -> Verdict:
    """Rebuild what can be rebuilt (int8 rows from the master), drop the other damaged rows: their photos are embedded again next time.

    Raises StoreDamaged when the catalogue itself is damaged: `rebuild_catalogue` starts it anew.
    """
    verdict = verify(store)
    if verdict.catalogue:
        raise StoreDamaged(
            f"{store.catalogue.path}: {verdict.catalogue[0]}", hint=f"remove {store.folder} and run rankclip embed again: photos are not touched"
        )
    lost: dict[tuple[Space, str], list[Damage]] = {}
    for damage in verdict.damages:
        if damage.part == POOLED and set(damage.columns) <= {"pooled.i8", "pooled.scale"}:
            _rebuild(store, damage)
            verdict.repaired += damage.rows
        else:
            lost.setdefault((damage.space, damage.part), []).append(damage)
            verdict.dropped += damage.rows
    for space in {space for space, _ in lost}:
        keep = {part: _intact_rows(store, space, part, lost.get((space, part), [])) for part in (POOLED, TOKENS)}
        keep[TOKENS] = _with_embedding(store, space, keep)
        rewrite(store, space, keep, point="repair-commit")
    return verdict


def _rebuild(store: Store, damage: Damage) -> None:
    _, _, _, generation = store.catalogue.space_row(damage.space)
    files = Rows(store.space_folder(damage.space, generation), damage.space, POOLED)
    master = files.read("pooled.f16", damage.first + damage.rows)[damage.first :]
    small, scales = quantize(master.astype(np.float32))
    for column, values in zip(files.columns[:2], (small, scales), strict=True):
        files.overwrite(column, damage.first, values)


def _intact_rows(store: Store, space: Space, part: str, damages: list[Damage]) -> np.ndarray:
    """Rows that no damage touches, int64."""
    _, rows, token_rows, _ = store.catalogue.space_row(space)
    keep = np.ones(rows if part == POOLED else token_rows, bool)
    for damage in damages:
        keep[damage.first : damage.first + damage.rows] = False
    return np.flatnonzero(keep)


def _with_embedding(store: Store, space: Space, keep: dict[str, np.ndarray]) -> np.ndarray:
    """Of the token rows to keep, those whose content keeps its embedding: the others are made again together with it."""
    _, _, _, generation = store.catalogue.space_row(space)
    folder = store.space_folder(space, generation)
    pooled, tokens = (_contents(Rows(folder, space, part), keep[part]) for part in (POOLED, TOKENS))
    return keep[TOKENS][np.isin(tokens, pooled)]


def _contents(files: Rows, rows: np.ndarray) -> np.ndarray:
    """The contents of some rows; the column may be cut short behind them."""
    return files.read(files.columns[-1].name, int(rows[-1]) + 1 if len(rows) else 0)[rows]


# ---------------------------------------------------------------- rewriting


def rewrite(store: Store, space: Space, keep: dict[str, np.ndarray], *, point: str) -> None:
    """Copy the rows to keep into a new generation of the space's folder and switch to it in one transaction."""
    number, _, _, generation = store.catalogue.space_row(space)
    old, new = store.space_folder(space, generation), store.space_folder(space, generation + 1)
    shutil.rmtree(new, ignore_errors=True)  # the remains of a killed run
    batches = [(part, *batch) for part in (POOLED, TOKENS) for batch in _copy_rows(old, new, space, part, keep[part])]
    reach("compact-written")
    with store.catalogue.named(), Transaction(store.catalogue):
        connection = store.catalogue.connection
        connection.execute("DELETE FROM batch WHERE space = ?", (number,))
        connection.executemany("INSERT INTO batch (space, part, first, rows, checksums) VALUES (?, ?, ?, ?, ?)", [(number, *batch) for batch in batches])
        connection.execute(
            "UPDATE space SET rows = ?, token_rows = ?, generation = ? WHERE id = ?", (len(keep[POOLED]), len(keep[TOKENS]), generation + 1, number)
        )
        reach(point)
    reach("compact-done")
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(store.folder / SCORES / space.fingerprint, ignore_errors=True)  # scores go by row number


def _copy_rows(old: Path, new: Path, space: Space, part: str, keep: np.ndarray) -> Iterator[tuple[int, int, str]]:
    source, target = Rows(old, space, part), Rows(new, space, part)
    for first in range(0, len(keep), COPY_ROWS):
        some = keep[first : first + COPY_ROWS]
        yield first, len(some), target.append([source.read(column.name, int(some[-1]) + 1)[some] for column in source.columns], first)
    target.sync()


# ---------------------------------------------------------------- prune, compact, forget


def prune(store: Store, roots: Iterable[str] = ()) -> list[str]:
    """Forget files that are gone from the disk; returns their paths. A folder that is missing as a whole is left alone (its disk may be away)."""
    catalogue = store.catalogue
    inside = [os.path.abspath(root) for root in roots]
    gone: list[tuple[int, str]] = []
    for number, folder in catalogue.folders().items():
        if os.path.isdir(folder) and (not inside or any(folder == root or folder.startswith(root + "/") for root in inside)):
            present = set(os.listdir(folder))
            if present:
                rows = catalogue.connection.execute("SELECT id, name FROM file WHERE folder = ?", (number,))
                gone += [(file, f"{folder}/{from_sql(name)}") for file, name in rows if from_sql(name) not in present]
    _drop_files(store, [file for file, _ in gone])
    return sorted(path for _, path in gone)


def forget(store: Store, paths: Iterable[str]) -> int:
    """Forget files and folders and erase their features from the disk; returns how many files. Face embeddings are personal data."""
    catalogue, chosen = store.catalogue, []
    folders = catalogue.folders()
    for path in map(os.path.abspath, paths):
        parent, name = os.path.split(path)
        for number, folder in folders.items():
            if folder == path or folder.startswith(path.rstrip("/") + "/"):
                chosen += [row[0] for row in catalogue.connection.execute("SELECT id FROM file WHERE folder = ?", (number,))]
            elif folder == parent:
                chosen += [row[0] for row in catalogue.connection.execute("SELECT id, name FROM file WHERE folder = ?", (number,)) if from_sql(row[1]) == name]
    if not chosen:
        known = sorted(folder for folder in map(catalogue.real_folder, folders.values()))
        hint = f"it holds photos in {', '.join(known[:3])}{f' and {len(known) - 3:,} more folders' if len(known) > 3 else ''}" if known else "it is empty"
        raise InputError(f"nothing in the store lies at {', '.join(paths)}", hint=hint)
    _drop_files(store, chosen)
    compact(store)
    return len(chosen)


def _drop_files(store: Store, files: list[int]) -> None:
    with store.catalogue.named(), Transaction(store.catalogue, files=True):
        store.catalogue.connection.executemany("DELETE FROM file WHERE id = ?", [(file,) for file in files])
        reach("prune-commit")


def compact(store: Store) -> int:
    """Erase the features of contents that no file has any more, and rows that were replaced; returns how many rows went."""
    used = {row[0] for row in store.catalogue.connection.execute("SELECT DISTINCT content FROM file WHERE content != 0")}
    gone = 0
    for space in store.catalogue.spaces():
        view = store.view(space)
        keep = {POOLED: _used_rows(view.contents, used), TOKENS: _used_rows(view.token_contents, used)}
        lost = view.rows - len(keep[POOLED]) + view.token_rows - len(keep[TOKENS])
        if lost:
            rewrite(store, space, keep, point="compact-commit")
        gone += view.rows - len(keep[POOLED])
    with store.catalogue.named():
        store.catalogue.connection.execute("DELETE FROM content WHERE id NOT IN (SELECT content FROM file)")
        store.catalogue.connection.execute("DELETE FROM folder WHERE id NOT IN (SELECT folder FROM file)")
        store.catalogue.connection.execute("PRAGMA secure_delete = ON")
        store.catalogue.connection.execute("VACUUM")
    return gone


def drop_replaced(store: Store, space: Space) -> None:
    """Erase the rows of a space that a later row of the same content has replaced."""
    view = store.view(space)
    keep = {POOLED: _last_rows(view.contents), TOKENS: _last_rows(view.token_contents)}
    if len(keep[POOLED]) + len(keep[TOKENS]) < view.rows + view.token_rows:
        rewrite(store, space, keep, point="compact-commit")


def _last_rows(contents: np.ndarray) -> np.ndarray:
    """The last row of each content, in order, int64."""
    _, from_end = np.unique(contents[::-1], return_index=True)
    return np.sort(len(contents) - 1 - from_end)


def _used_rows(contents: np.ndarray, used: set[int]) -> np.ndarray:
    rows = _last_rows(contents)
    return rows[np.isin(contents[rows], np.fromiter(used, np.int64, len(used)))]


# ---------------------------------------------------------------- export


def export(store: Store, space: Space, path: Path) -> int:
    """Write paths and embeddings as .npz or .parquet; returns how many files.

    .npz: paths (object-free, UTF-8 bytes), embeddings float16 [G, D]. Parquet: path, width, height, taken_at, embedding (list of float).
    """
    view, files = store.view(space), store.snapshot()
    rows = view.rows_of(files.contents)
    there = np.flatnonzero(rows >= 0)
    contents, rows = files.contents[there], rows[there]
    stored = [os.fsdecode(files.paths[files.starts[i] : files.starts[i + 1]]) for i in there.tolist()]
    paths = [store.catalogue.real_folder(path) for path in stored]
    writer = {".npz": _export_npz, ".parquet": _export_parquet}.get(path.suffix)
    if writer is None:
        raise InputError(f"{path}: the format is told by the ending, .npz or .parquet")
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # whole or not at all
    try:
        writer(partial, paths, np.asarray(view.master[rows]), [store.catalogue.facts([content])[content] for content in contents.tolist()])
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})", hint="name a file on a disk with room that you may write to") from error
    finally:
        partial.unlink(missing_ok=True)
    return len(paths)


def _export_npz(path: Path, paths: list[str], embeddings: np.ndarray, facts: list[PhotoFacts]) -> None:
    sizes = np.array([(one.width, one.height) for one in facts]).reshape(-1, 2)
    np.savez(path, paths=np.array([os.fsencode(one) for one in paths]), embeddings=embeddings, width=sizes[:, 0], height=sizes[:, 1])


def _export_parquet(path: Path, paths: list[str], embeddings: np.ndarray, facts: list[PhotoFacts]) -> None:
    arrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    columns = {
        "path": [os.fsencode(one).decode("utf-8", "replace") for one in paths],
        "width": [one.width for one in facts],
        "height": [one.height for one in facts],
        "taken_at": [one.taken_at for one in facts],
        "embedding": list(embeddings.astype(np.float32)),
    }
    parquet.write_table(arrow.table(columns), path)
