"""Full, failing, read-only and damaged disks: one line, exit 5, nothing destroyed, and a way back to the same ranking."""

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Result, Run, noise_photo, subprocess_environment
from tests.torture.rights import bound_rankclip

from rankclip.store import vectors
from rankclip.store.catalogue import NAME, Catalogue
from rankclip.store.rescue import KEPT

PHOTOS = 20
RANK = ("rank", "photos", "from dark to bright", "--json", "--no-scan")
COLUMNS = ("pooled.i8", "pooled.scale", "pooled.f16", "rows.i64", "tokens.i8", "tokens.scale", "tokens.i64")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        noise_photo(tmp_path / f"photos/{number:02}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def store(run: Run, photos: Path, tmp_path: Path) -> Path:
    assert embed(run).code == 0
    return tmp_path / "store"


def embed(run: Run) -> Result:
    return run("embed", "photos", "--batch-size", 4)


def one_line(error: str) -> bool:
    """One message; the next step is indented under it."""
    lines = error.splitlines()
    return len(lines) == 2 and lines[0].startswith("rankclip: ") and lines[1].startswith("  ")


def contents(folder: Path) -> dict[str, bytes]:
    """What a store consists of; locks, SQLite's side files and caches are made anew at any time."""
    passing = ("writer.", f"{NAME}-", "files.cache")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(passing)}


def check_recovery(run: Run, wanted: bytes) -> None:
    """From here the usual commands lead to the same ranking."""
    assert run("store", "verify").code == 0
    assert embed(run).code == 0
    assert run(*RANK).out == wanted


# ---------------------------------------------------------------- full and failing disks


class FailingFile:
    """A file on a disk that takes half of one write and then fails."""

    def __init__(self, file: Any, number: int) -> None:
        self.file, self.number = file, number

    def write(self, data: bytes) -> int:
        self.file.write(data[: len(data) // 2])
        raise OSError(self.number, os.strerror(self.number))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "FailingFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def failing_columns(number: int, after: int) -> Iterator[list[Path]]:
    """Let the write to a column file after so many fail; yields the files opened."""
    real, opened = vectors.open_for_append, list[Path]()

    def open_it(path: Path) -> Any:
        opened.append(path)
        return FailingFile(real(path), number) if len(opened) > after else real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "open_for_append", open_it)
        yield opened


@pytest.mark.parametrize("after", [0, 6, 9, 30])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_column_that_cannot_be_written(run: Run, photos: Path, tmp_path: Path, number: int, after: int) -> None:
    wanted = clean_ranking(run)
    with failing_columns(number, after) as opened:
        found = embed(run)
    assert len(opened) == after + 1, "nothing is tried after the first failure"
    assert found.code == 5 and one_line(found.err), found.err
    assert str(opened[-1]) in found.err and "everything committed before is kept" in found.err
    assert ("no room left" if number == errno.ENOSPC else "input/output error") in found.err
    kept = run("rank", "photos", "red", "--no-scan")
    assert len(kept.lines) == after // 7 * 2, "each half of a batch is seven columns"
    check_recovery(run, wanted)


def clean_ranking(run: Run) -> bytes:
    run("embed", "photos", "--batch-size", 4, "--store", "clean")
    return run(*RANK, "--store", "clean").out


class FailingConnection:
    """A SQLite connection whose disk fails at the statement after so many that write."""

    def __init__(self, connection: sqlite3.Connection, message: str, after: int) -> None:
        self.connection, self.message, self.left = connection, message, after

    def execute(self, statement: str, *rest: Any) -> Any:
        if statement.startswith(("INSERT", "UPDATE", "DELETE", "COMMIT", "PRAGMA wal_checkpoint", "CREATE")):
            self.left -= 1
            if self.left < 0:
                raise sqlite3.OperationalError(self.message)
        return self.connection.execute(statement, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@pytest.mark.parametrize("after", [0, 3, 25, 60])
@pytest.mark.parametrize("message", ["database or disk is full", "disk I/O error"])
def test_a_catalogue_that_cannot_be_written(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, message: str, after: int) -> None:
    wanted, real = clean_ranking(run), Catalogue._connect
    run("store", "info")
    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "_connect", lambda self, write: FailingConnection(real(self, write), message, after) if write else real(self, write))
        found = embed(run)
    assert found.code == 5 and one_line(found.err) and NAME in found.err and message.lower() in found.err
    check_recovery(run, wanted)


def test_a_sync_that_fails(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = clean_ranking(run)

    def fsync(number: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(vectors.os, "fsync", fsync)
        found = embed(run)
    assert found.code == 5 and one_line(found.err.split("toy, cpu, fp32\n")[-1]) and "input/output error" in found.err
    check_recovery(run, wanted)


FULL_DISK = """
set -u
mount -t tmpfs -o size={size} none {disk} || exit 77
{python} -m rankclip embed photos --batch-size 4 2> err1; echo $?
mount -o remount,size=64m,nr_inodes=10000 {disk}
{python} -m rankclip store verify > /dev/null 2> err2; echo $?
{python} -m rankclip embed photos --batch-size 4 2> err3; echo $?
{python} -m rankclip rank photos "from dark to bright" --json --no-scan > out; echo $?
"""


@pytest.mark.parametrize("size", ["0", "40k"])
def test_a_disk_that_is_full(run: Run, photos: Path, tmp_path: Path, size: str) -> None:
    full_disk(run, tmp_path, size)


@pytest.mark.torture
@pytest.mark.parametrize("size", ["4k", "8k", "16k", "80k", "120k", "160k", "200k", "250k", "300k"])
def test_disks_that_get_full_at_many_moments(run: Run, photos: Path, tmp_path: Path, size: str) -> None:
    full_disk(run, tmp_path, size)


def full_disk(run: Run, tmp_path: Path, size: str) -> None:
    """A real file system without room, in a mount namespace of its own."""
    wanted, disk = clean_ranking(run), tmp_path / "disk"
    disk.mkdir()
    script = FULL_DISK.format(size=size if size != "0" else "4k,nr_inodes=1", disk=disk, python=sys.executable)
    try:
        found = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120,
                               env=subprocess_environment(RANKCLIP_STORE=str(disk / "store")))  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs the tmpfs mount")
    if found.returncode in (1, 77):
        pytest.skip("needs the tmpfs mount")
    error = (tmp_path / "err1").read_text()
    assert found.stdout.split() == ["5", "0", "0", "0"], (found.stdout, error, (tmp_path / "err2").read_text(), (tmp_path / "err3").read_text())
    assert one_line(error) and str(disk) in error and "/store" in error, error
    assert (tmp_path / "out").read_bytes() == wanted


def test_a_limit_on_file_sizes_is_a_full_disk(run: Run, photos: Path, tmp_path: Path) -> None:
    wanted = clean_ranking(run)
    limited = f"ulimit -f 60; exec {sys.executable} -m rankclip embed photos --batch-size 4"  # blocks of 512 bytes or 1 KiB
    found = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, env=subprocess_environment(PYTHONDONTWRITEBYTECODE="1"), timeout=60)
    assert found.returncode == 5 and one_line(found.stderr), found.stderr
    check_recovery(run, wanted)


# ---------------------------------------------------------------- read-only


@pytest.fixture
def locked_away(store: Path, photos: Path) -> Iterator[Path]:
    """The store and the photos as on a disk mounted read-only."""
    places = [store, photos, *store.rglob("*"), *photos.rglob("*")]
    modes = {path: path.stat().st_mode for path in places}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    yield store
    for path, mode in modes.items():
        path.chmod(mode)


def test_a_read_only_store_ranks_and_refuses_to_embed(run: Run, locked_away: Path, tmp_path: Path) -> None:
    before, wanted = contents(locked_away), bound_rankclip(*RANK, cwd=tmp_path).stdout
    assert wanted.count(b"\n") == PHOTOS
    found = bound_rankclip(*RANK, cwd=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, wanted, b"")
    assert bound_rankclip("rank", "photos", "a new instruction", cwd=tmp_path).returncode == 0
    assert bound_rankclip("store", "verify", cwd=tmp_path).returncode == 0
    for words in (["embed", "photos"], ["store", "prune"], ["store", "verify", "--repair"]):
        found = bound_rankclip(*words, cwd=tmp_path)
        assert found.returncode == 5 and one_line(found.stderr.decode()) and b"--store DIR" in found.stderr, found.stderr
    assert contents(locked_away) == before


def test_a_new_photo_and_a_read_only_store(run: Run, locked_away: Path, photos: Path, tmp_path: Path) -> None:
    noise_photo(tmp_path / "more/new.png", 99)
    found = bound_rankclip("rank", "photos", "more", "red", cwd=tmp_path)
    assert found.returncode == 0 and len(found.stdout.splitlines()) == PHOTOS and b"1 photos are not in the store yet" in found.stderr


def test_a_column_that_is_closed_to_us(run: Run, store: Path, tmp_path: Path) -> None:
    column = next(store.glob("spaces/*/pooled.i8"))
    column.chmod(0)
    found = bound_rankclip("rank", "photos", "something new", "--no-scan", cwd=tmp_path)
    assert found.returncode == 5 and b"permission denied" in found.stderr
    assert bound_rankclip("store", "verify", "--repair", cwd=tmp_path).returncode == 5, "what cannot be read is not thrown away"
    column.chmod(0o644)
    assert run("store", "verify").code == 0


# ---------------------------------------------------------------- damage


def flip(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))


def cut(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))


def check_damage(run: Run, store: Path, wanted: bytes, *, named: str) -> Result:
    """Named with the command that mends it, nothing destroyed by looking, and mended; returns what `--repair` said."""
    before = contents(store)
    found = run("store", "verify")
    assert found.code == 5 and named in found.err and "rankclip store verify --repair" in found.err, found.err
    assert contents(store) == before
    mended = run("store", "verify", "--repair")
    assert mended.code == 0
    check_recovery(run, wanted)
    return mended


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_each_column_damaged_in_each_way(run: Run, store: Path, name: str, damage: str) -> None:
    wanted, path = run(*RANK).out, next(store.glob(f"spaces/*/{name}"))
    {"flip": lambda: flip(path, 3), "cut": lambda: cut(path, 0.6), "empty": lambda: cut(path, 0), "remove": path.unlink}[damage]()
    mended = check_damage(run, store, wanted, named=name)
    rebuilt = name in ("pooled.i8", "pooled.scale")
    assert (", 0 dropped" in mended.text) == rebuilt, "the small rows are made from the master, others are embedded again"


def test_a_whole_space_that_is_gone(run: Run, store: Path) -> None:
    wanted = run(*RANK).out
    shutil.rmtree(store / "spaces")
    check_damage(run, store, wanted, named="pooled.f16")


def broken_header(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"\0" * 100)


CATALOGUE_DAMAGES: dict[str, Callable[[Path], None]] = {
    "header": broken_header, "half": lambda path: cut(path, 0.5), "pages less": lambda path: cut(path, 0.8),
    "text": lambda path: path.write_bytes(b"no database at all " * 400) and None,
}  # fmt: skip


@pytest.mark.parametrize("damage", CATALOGUE_DAMAGES)
def test_a_damaged_catalogue(run: Run, store: Path, photos: Path, damage: str) -> None:
    wanted, pictures = clean_ranking(run), contents(photos)
    CATALOGUE_DAMAGES[damage](store / NAME)
    bytes_then = (store / NAME).read_bytes()
    found = run("rank", "photos", "red")
    assert found.code in (0, 5) and (found.code == 0 or (one_line(found.err) and NAME in found.err)), found.err
    check_damage(run, store, wanted, named=NAME)
    assert (store / KEPT).read_bytes() == bytes_then, "the damaged one is kept"
    assert contents(photos) == pictures


def test_what_can_still_be_read_of_a_catalogue_is_not_embedded_again(run: Run, photos: Path, tmp_path: Path) -> None:
    for number in range(150):
        noise_photo(tmp_path / f"photos/more/{number:03}.png", 1000 + number)
    run("embed", "photos")
    wanted = run(*RANK).out
    page_with_content(tmp_path / "store" / NAME)
    assert run("store", "verify").code == 5
    assert "made anew from what could be read" in run("store", "verify", "--repair").err
    assert run("store", "verify").code == 0
    found = run("embed", "photos")
    new, unchanged = (int(found.err.split(word)[0].split()[-1]) for word in (" new", " unchanged"))
    assert found.code == 0 and new > 0 and new + unchanged == 170 and unchanged >= 85, found.err
    assert run(*RANK).out == wanted


def page_with_content(path: Path) -> None:
    """Overwrite one leaf page of the table of contents."""
    connection = sqlite3.connect(path)
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'content'").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    start = (root - 1) * size
    assert data[start] == 5, "the table has inner pages"
    pointer = int.from_bytes(data[start + 12 + 2 : start + 12 + 4], "big")  # the second cell
    leaf = int.from_bytes(data[start + pointer : start + pointer + 4], "big")
    data[(leaf - 1) * size : leaf * size] = b"\xa5" * size
    path.write_bytes(data)


def flipped_somewhere(run: Run, store: Path, tmp_path: Path, seed: int) -> None:
    """Flip some bytes of the catalogue: no command may fall over, and the usual way leads back."""
    rng, wanted = random.Random(seed), run(*RANK).out
    path = store / NAME
    for _ in range(rng.choice([1, 4, 64])):
        flip(path, rng.randrange(path.stat().st_size))
    for words in (RANK, ("rank", "photos", "blue"), ("store", "info"), ("store", "verify"), ("embed", "photos")):
        assert run(*words).code in (0, 4, 5), words
    assert run("store", "verify", "--repair").code == 0
    assert embed(run).code == 0
    assert run("store", "verify").code == 0
    assert run("rank", "photos", "from dark to bright", "--json").out == wanted


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_in_the_catalogue(run: Run, store: Path, tmp_path: Path, seed: int) -> None:
    flipped_somewhere(run, store, tmp_path, seed)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(100, 200))
def test_flipped_bytes_in_the_catalogue_many_times(run: Run, store: Path, tmp_path: Path, seed: int) -> None:
    flipped_somewhere(run, store, tmp_path, seed)


def test_a_store_that_is_locked_is_not_mended(run: Run, store: Path) -> None:
    from rankclip.store.lock import WriterLock

    broken_header(store / NAME)
    lock = WriterLock(store, 0)
    found = run("store", "verify", "--repair")
    lock.release()
    assert found.code == 5 and "is writing" in found.err and not (store / KEPT).exists()
