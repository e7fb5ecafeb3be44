"""A decoder that crashes, hangs or eats memory takes down nothing: its file is blamed alone, its worker is replaced, all others are embedded."""

import contextlib
import functools
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.conftest import ROOT, Result, Run, noise_photo
from tests.torture.planted import FAULTS

from rankclip.collection import embedding
from rankclip.photos import pool as pool_module
from rankclip.photos.decode import DecodeOptions
from rankclip.photos.pool import DecodePool
from rankclip.photos.sniff import NO_FILE
from rankclip.photos.worker import Answer, Task, WorkerOptions
from rankclip.types import InputSpec

GOOD = 12
LIMIT = 3.0  # seconds a photo may take here; a good one takes some hundredths, and a busy machine may add to them
MEMORY = 200  # MiB it may take
REASONS = {
    "segfault": "the decoder crashed (SIGSEGV)",
    "abort": "the decoder crashed (SIGABRT)",
    "leave": "the decoder ended without an answer",
    "sleep": f"decoding took longer than {LIMIT:g} s (--time-limit-photo raises the limit)",
    "deaf": f"decoding took longer than {LIMIT:g} s (--time-limit-photo raises the limit)",
    "spin": f"decoding took longer than {LIMIT:g} s (--time-limit-photo raises the limit)",
    "allocate": "decoding needs more memory than is allowed (--memory-limit-photo raises it)",
    "hoard": "the decoder crashed (SIGSEGV)",
}


def plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the planted module, and their C library keeps no reserve that somebody's environment asks for."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[DecodePool]:
    """Let `embed` decode in processes with planted faults; returns the pools that it makes."""
    pools: list[DecodePool] = []
    monkeypatch.setattr(pool_module, "GRACE", 1.0)

    class Recorded(DecodePool):
        def __init__(self, options: WorkerOptions, workers: int) -> None:
            super().__init__(options, workers, module="tests.torture.planted")
            pools.append(self)

    plain_memory(monkeypatch)
    monkeypatch.setattr(embedding, "DecodePool", Recorded)
    return pools


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(GOOD):
        noise_photo(tmp_path / f"photos/good{number:02}.png", number)
    return tmp_path / "photos"


def embed(run: Run, *words: object, limit: float = LIMIT) -> Result:
    return run("embed", "photos", "--time-limit-photo", limit, "--memory-limit-photo", MEMORY, "--batch-size", 4, *words)


def ranked(run: Run) -> list[str]:
    return run("rank", "photos", "red first", "--no-scan").lines


def test_every_fault_has_its_reason() -> None:
    assert list(REASONS) == list(FAULTS) and len(FAULTS) == 8


@pytest.mark.parametrize(("fault", "workers"), [(fault, 1 + number % 2) for number, fault in enumerate(FAULTS)])
def test_only_the_file_at_fault_is_blamed(run: Run, planted: list[DecodePool], photos: Path, fault: str, workers: int) -> None:
    noise_photo(photos / f"{fault}.png", 99)
    found = embed(run, "--workers", workers, limit=LIMIT if fault in ("sleep", "deaf", "spin") else 60)
    assert found.code == 3
    assert [line for line in found.err.splitlines() if ".png" in line] == [f"rankclip: photos/{fault}.png: {REASONS[fault]}"]
    assert planted[0].replaced == (0 if fault == "allocate" else 1), "Python's own MemoryError needs no new process"
    assert sorted(ranked(run)) == [f"photos/good{number:02}.png" for number in range(GOOD)]


def test_all_faults_in_one_run_and_every_vector_right(run: Run, planted: list[DecodePool], photos: Path) -> None:
    embed(run)
    wanted = run("rank", "photos", "from dark to bright", "--json", "--no-scan").out
    for number, fault in enumerate(FAULTS):
        noise_photo(photos / f"good{number:02}_{fault}.png", 50 + number)
    found = embed(run, "--store", "fresh", "--workers", 2)
    assert found.code == 3 and f"{GOOD} new, 0 unchanged, {len(FAULTS)} failed" in found.err
    assert run("rank", "photos", "from dark to bright", "--json", "--no-scan", "--store", "fresh").out == wanted


def test_a_crash_is_remembered_and_not_tried_again(run: Run, planted: list[DecodePool], photos: Path) -> None:
    noise_photo(photos / "segfault.png", 99)
    embed(run)
    again = embed(run)
    assert again.code == 0 and "1 failed before" in again.err and len(planted) == 1
    assert embed(run, "--retry-failed").code == 3 and planted[1].replaced == 1


@pytest.fixture
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[functools.partial[DecodePool]]:
    plain_memory(monkeypatch)
    options = WorkerOptions(DecodeOptions(InputSpec(8)), time_limit=getattr(request, "param", LIMIT), memory_limit=MEMORY << 20)
    yield functools.partial(DecodePool, options, module="tests.torture.planted")


def answers(pool: DecodePool, paths: list[Path]) -> dict[int, Answer]:
    for number, path in enumerate(paths):
        pool.submit(Task(number, str(path)))
    found: dict[int, Answer] = {}
    deadline = time.monotonic() + 60
    while pool.in_flight and time.monotonic() < deadline:
        found |= {answer.number: answer for answer in pool.ready(timeout=1)}
    return found


def test_a_hang_costs_no_more_than_its_limit(pool: functools.partial[DecodePool], photos: Path) -> None:
    """The photos behind it wait for the limit, once; a second worker waits for nothing."""
    paths = [noise_photo(photos / "sleep.png", 99), *sorted(photos.glob("good*"))]
    with pool(workers=1) as one:
        began = time.monotonic()
        found = answers(one, paths)
        assert LIMIT <= time.monotonic() - began < LIMIT + 10, "all that a busy machine may add"
    assert found[0].kind == "slow" and sum(answer.decoded is not None for answer in found.values()) == GOOD


def watch(found: list[int], stop: threading.Event) -> None:
    """Note the largest resident size of any child, in bytes, every few milliseconds."""
    while not stop.wait(0.003):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found[0] = max(found[0], child.memory_info().rss)


@pytest.mark.parametrize("pool", [60.0], indirect=True)
def test_memory_stays_under_its_limit(pool: functools.partial[DecodePool], photos: Path) -> None:
    paths = [noise_photo(photos / f"{name}.png", 99) for name in ("allocate", "hoard")]
    most, stop = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(most, stop))
    watcher.start()
    try:
        with pool(workers=1) as one:
            assert {answer.kind for answer in answers(one, paths).values()} == {"memory", "crash"}
    finally:
        stop.set()
        watcher.join()
    assert 20 << 20 < most[0] < (MEMORY + 150) << 20, "the limit and what a process starts with"


def test_a_worker_that_dies_idle_blames_nobody(pool: functools.partial[DecodePool], photos: Path) -> None:
    with pool(workers=1) as one:
        assert len(answers(one, sorted(photos.iterdir()))) == GOOD
        one.workers[0].process.kill()
        one.workers[0].process.wait()
        found = answers(one, sorted(photos.iterdir()))
        assert sum(answer.decoded is not None for answer in found.values()) >= GOOD - 1
        assert [answer.reason for answer in found.values() if answer.decoded is None and answer.number >= 0] in ([], ["the decoder crashed (SIGKILL)"])


# ---------------------------------------------------------------- the limits' options


def test_the_time_limit_is_an_option(run: Run, planted: list[DecodePool], photos: Path) -> None:
    noise_photo(photos / "sleep.png", 99)
    began = time.monotonic()
    found = run("embed", "photos", "--time-limit-photo", 0.5)
    assert "longer than 0.5 s (--time-limit-photo raises the limit)" in found.err and time.monotonic() - began < 10
    assert "20" in run("embed", "--help").text.split("--time-limit-photo")[1].split("--")[0], "the default is stated"


def deep_png(path: Path, side: int) -> None:
    """A small file that needs much memory: one colour, 3 bytes a pixel."""
    body = zlib.compress((b"\0" + b"\x80\x40\x20" * side) * side, 1)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_the_memory_limit_is_an_option(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_memory(monkeypatch)
    deep_png(photos / "deep.png", 4_000)  # 48 MB of pixels, 64 in Pillow
    found = run("embed", "photos", "--memory-limit-photo", 40)
    assert found.code == 3 and "photos/deep.png: decoding needs more memory than is allowed (--memory-limit-photo raises it)" in found.err
    assert f"{GOOD} new" in found.err
    assert run("embed", "photos", "--retry-failed", "--memory-limit-photo", 400).code == 0


def test_the_pixel_cap_is_fixed_and_names_its_option(run: Run, photos: Path) -> None:
    deep_png(photos / "bomb.png", 1_000)
    data = (photos / "bomb.png").read_bytes()
    header = struct.pack(">IIBBBBB", 17_000, 17_000, 8, 2, 0, 0, 0)
    (photos / "bomb.png").write_bytes(data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:])
    found = run("embed", "photos")
    assert "photos/bomb.png: 17000 x 17000 is 289 megapixels, more than 256 (--max-megapixels raises the limit)" in found.err
    deep_png(photos / "large.png", 2_000)
    assert "large.png: 2000 x 2000 is 4 megapixels, more than 3" in run("embed", "photos", "--max-megapixels", 3).err
    assert run("embed", "photos", "--retry-failed", "--max-megapixels", 4).err.count("photos/large.png") == 0


# ---------------------------------------------------------------- what else reads photos


@pytest.mark.parametrize("fault", ["segfault", "spin", "allocate"])
@pytest.mark.parametrize(
    "words", [("rank", "photos", "red first", "--plus"), ("compose-search", "photos"), ("diff", "photos/good00.png")], ids=lambda words: words[0]
)
def test_a_reference_takes_down_nothing(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], fault: str) -> None:
    """A photo that is given beside the gallery is read by a process of its own, too, within the same limits."""
    plain_memory(monkeypatch)
    run("embed", "photos")
    monkeypatch.setattr(pool_module, "DecodePool", functools.partial(DecodePool, module="tests.torture.planted"))
    noise_photo(tmp_path / f"{fault}.png", 99)
    began = time.monotonic()
    more = ("more red",) if words[0] == "compose-search" else ()
    found = run(*words, f"{fault}.png", *more, "--time-limit-photo", LIMIT, "--memory-limit-photo", MEMORY)
    assert found.code == 2 and f"{fault}.png: {REASONS[fault]}\n" in found.err and found.out == b""
    assert time.monotonic() - began < 60


def test_a_pipe_is_no_reference(run: Run, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    found = run("compose-search", "photos", "pipe.jpg", "more red")
    assert found.code == 2 and found.err.startswith(f"rankclip: pipe.jpg: {NO_FILE}\n")


def test_digests_are_made_by_the_workers_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many files of one size the digest is asked for first; only a content that is new is then decoded."""
    asked: list[tuple[str, bool]] = []

    class Recorded(DecodePool):
        def submit(self, task: Task) -> None:
            asked.append((os.path.basename(task.path), task.digest_only))
            super().submit(task)

    monkeypatch.setattr(embedding, "DecodePool", Recorded)
    monkeypatch.setattr(embedding, "FEW", 2)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / f"photos/{number}.ppm").write_bytes(b"P6 8 8 255\n" + bytes([40 * number] * 192))
    assert "4 new" in run("embed", "photos").err and {file for file, _ in asked} == {f"{number}.ppm" for number in range(4)}
    asked.clear()
    (tmp_path / "photos/copy.ppm").write_bytes((tmp_path / "photos/0.ppm").read_bytes())
    (tmp_path / "photos/other.ppm").write_bytes(b"P6 8 8 255\n" + bytes([250] * 192))
    assert "1 new, 4 unchanged, 1 copies" in run("embed", "photos").err
    assert sorted(asked) == [("copy.ppm", True), ("other.ppm", False), ("other.ppm", True)]
