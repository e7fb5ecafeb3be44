"""Several processes, stores that travel, disks that come and go, files that change under way."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import ROOT, Run, noise_photo, subprocess_environment

from rankclip.collection import embedding
from rankclip.collection.survey import Survey
from rankclip.store.lock import HOLDER, LOCK
from rankclip.types import EmbedReport

PHOTOS, BATCH = 40, 4
SCRIPT = str(ROOT / "tests/torture/embed_script.py")
RANK = ("rank", "photos", "from dark to bright", "--json", "--no-scan")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        noise_photo(tmp_path / f"photos/{number:02}.png", number)
    return tmp_path / "photos"


def start(*words: object, **environment: str) -> subprocess.Popen[bytes]:
    variables = subprocess_environment(RANKCLIP_BATCH_SIZE=str(BATCH), **environment)
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, words)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def encoded(log: Path) -> int:
    return len(log.read_bytes()) if log.exists() else 0


@pytest.fixture
def writer(run: Run, photos: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A slow embedding process that has committed its first batches."""
    process = start("embed", "photos", SLOW="0.5", LOG=str(tmp_path / "log"))
    wait_for(lambda: encoded(tmp_path / "log") >= 2 * BATCH)
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_says_who_holds_the_lock(run: Run, writer: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    found = run("embed", "photos")
    assert found.code == 5 and f"process {writer.pid} is writing" in found.err and "--lock-timeout" in found.err and found.err.count("\n") == 2
    assert time.monotonic() - began < 3 and writer.poll() is None


def test_a_second_writer_waits_as_long_as_it_is_told(run: Run, writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    began = time.monotonic()
    assert run("embed", "photos", "--lock-timeout", 0.3).code == 5
    assert 0.3 <= time.monotonic() - began < 3 and writer.poll() is None
    second = start("embed", "photos", "--lock-timeout", "inf", LOG=str(tmp_path / "log"))
    _, error = second.communicate(timeout=60)
    assert second.returncode == 0 and f"0 new, {PHOTOS} unchanged".encode() in error
    assert writer.wait(timeout=5) == 0 and encoded(tmp_path / "log") == PHOTOS, "nothing was embedded twice"


def test_readers_work_while_a_writer_writes(run: Run, writer: subprocess.Popen[bytes]) -> None:
    counts, codes = [], []

    def read() -> None:
        for words in (RANK, ("store", "info"), ("store", "verify")):
            reader = start(*words)
            out, _ = reader.communicate(timeout=60)
            codes.append(reader.returncode)
            counts.append(out.count(b"\n") if words == RANK else 0)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert codes == [0] * 9 and max(counts) >= BATCH and all(count % (BATCH // 2) == 0 for count in counts), "whole batches only"


def test_a_scan_during_a_write_ranks_what_is_there(run: Run, writer: subprocess.Popen[bytes]) -> None:
    found = run("rank", "photos", "red first")
    assert (
        found.code == 0 and BATCH <= len(found.lines) < PHOTOS and f"process {writer.pid} is writing; " in found.err and "are not in the store yet" in found.err
    )


def test_the_lock_of_a_dead_process_is_taken_over(run: Run, writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    writer.kill()
    writer.wait()
    assert (tmp_path / "store" / HOLDER).exists() and (tmp_path / "store" / LOCK).exists(), "it left its note and its file"
    assert run("embed", "photos").code == 0
    (tmp_path / "store" / HOLDER).write_text("1 somebody else\n")
    assert run("embed", "photos").code == 0


def test_two_stores_do_not_wait_for_each_other(run: Run, writer: subprocess.Popen[bytes]) -> None:
    assert run("embed", "photos", "--store", "other").code == 0 and writer.poll() is None


# ---------------------------------------------------------------- stores and disks that move


def test_a_store_moves_with_its_photos(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "sub").mkdir()
    (photos / "00.png").rename(photos / "sub/00.png")
    monkeypatch.chdir(photos)
    assert run("embed", ".", "--store", "./.rankclip").code == 0
    wanted = run("rank", ".", "red first", "--store", "./.rankclip").out
    shutil.copytree(photos, tmp_path / "elsewhere/deep", copy_function=shutil.copy2)
    photos.rename(tmp_path / "away")
    monkeypatch.chdir(tmp_path / "elsewhere/deep")
    found = run("embed", ".", "--store", "./.rankclip")
    assert found.code == 0 and found.err.startswith(f"rankclip: 0 new, {PHOTOS} unchanged;")
    assert run("rank", ".", "red first", "--store", "./.rankclip").out == run("rank", ".", "red first", "--store", "./.rankclip", "--no-scan").out == wanted


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_root_that_is_not_mounted(run: Run, photos: Path, tmp_path: Path, how: str) -> None:
    noise_photo(tmp_path / "other/a.png", 99)
    wanted = run("rank", "photos", "other", "red first").out
    photos.rename(tmp_path / "away")
    if how == "empty":
        photos.mkdir()
    note = "photos: not there now; nothing about its photos is forgotten"
    found = run("embed", "photos", "other")
    assert found.code == 3 and note in found.err and "1 unchanged" in found.err
    found = run("embed", "photos")
    assert found.code == 4 and "no photos found in photos" in found.err
    found = run("rank", "photos", "other", "red first")
    assert (found.code, found.lines) == (3, ["other/a.png"])
    if how == "empty":
        photos.rmdir()
    (tmp_path / "away").rename(photos)
    assert run("embed", "photos", "other").err == f"rankclip: 0 new, {PHOTOS + 1} unchanged\n"
    assert run("rank", "photos", "other", "red first").out == wanted


def test_an_empty_folder_that_nobody_knows_is_just_empty(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert run("embed", "photos", "new").code == 0
    assert run("embed", "new").code == 4


def test_photos_that_vanish_in_masses_are_kept_with_a_warning(run: Run, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, photos / "sub")
    run("embed", "photos")
    (tmp_path / "away").mkdir()
    for number in range(1, PHOTOS):
        (photos / f"{number:02}.png").rename(tmp_path / f"away/{number:02}.png")
    (photos / "sub").rename(tmp_path / "sub")
    found = run("embed", "photos")
    assert found.code == 0 and f"{2 * PHOTOS - 1} known photos are not there now; nothing about them is forgotten (rankclip store prune does that)" in found.err
    assert len(run("rank", "photos", "red").lines) == 1
    (tmp_path / "sub").rename(photos / "sub")
    for number in range(1, PHOTOS):
        (tmp_path / f"away/{number:02}.png").rename(photos / f"{number:02}.png")
    found = run("embed", "photos")
    assert found.err == f"rankclip: 0 new, {2 * PHOTOS} unchanged\n"


def test_photos_that_are_moved_are_not_missed(run: Run, photos: Path) -> None:
    run("embed", "photos")
    (photos / "sub").mkdir()
    for number in range(PHOTOS):
        (photos / f"{number:02}.png").rename(photos / f"sub/{number:02}.png")
    assert "not there now" not in run("embed", "photos").err


# ---------------------------------------------------------------- files that change under way


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Do something after the listing and before the first file is read."""
    real = embedding.Embedding.run

    def later(self: embedding.Embedding, found: Survey) -> EmbedReport:
        change()
        return real(self, found)

    monkeypatch.setattr(embedding.Embedding, "run", later)


def test_a_file_that_goes_away_after_the_listing(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        between(patch, (photos / "07.png").unlink)
        found = run("embed", "photos")
    assert found.code == 3 and "rankclip: photos/07.png: no such file or directory" in found.err and f"{PHOTOS - 1} new" in found.err
    noise_photo(photos / "07.png", 7)
    assert "1 new" in run("embed", "photos").err, "nothing is remembered against it"


def test_a_file_that_is_replaced_after_the_listing(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored belongs to the bytes that were read, so the next run finds nothing to do and the vector is right."""
    with monkeypatch.context() as patch:
        between(patch, lambda: os.replace(noise_photo(photos.parent / "next.png", 99), photos / "07.png"))
        assert run("embed", "photos").code == 0
    assert run("embed", "photos").err == f"rankclip: 0 new, {PHOTOS} unchanged\n"
    stored = run("rank", "photos", "red first", "--json").out
    assert run("rank", "photos", "red first", "--json", "--store", "fresh").out == stored


def test_a_file_that_becomes_something_else(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change() -> None:
        for number in (3, 4):
            (photos / f"{number:02}.png").unlink()
        (photos / "03.png").mkdir()
        os.mkfifo(photos / "04.png")

    with monkeypatch.context() as patch:
        between(patch, change)
        found = run("embed", "photos", "--time-limit-photo", 1)
    assert found.code == 3 and f"{PHOTOS - 2} new" in found.err
    assert "photos/03.png: is a directory" in found.err and "photos/04.png: not a regular file" in found.err


def test_a_file_that_grows_while_it_is_read(run: Run, photos: Path, tmp_path: Path) -> None:
    """A download in progress: refused or read whole, never half of it under a whole name; and well in the next run."""
    whole = noise_photo(tmp_path / "whole.png", 99, (800, 600)).read_bytes()
    over = threading.Event()

    def grow() -> None:
        with open(photos / "growing.png", "wb", buffering=0) as file:
            for start in range(0, len(whole), 2_000):
                file.write(whole[start : start + 2_000])
                over.wait(0.01)

    thread = threading.Thread(target=grow)
    thread.start()
    wait_for((photos / "growing.png").exists)
    first = run("embed", "photos")
    over.set()
    thread.join()
    assert first.code in (0, 3)
    assert run("embed", "photos").code == 0
    (photos / "growing.png").replace(photos / "grown.png")
    assert json.loads(run("store", "info", "--json").text)["contents"] >= PHOTOS + 1
    assert run("rank", "photos", "red", "--json").out == run("rank", "photos", "red", "--json", "--store", "fresh").out
