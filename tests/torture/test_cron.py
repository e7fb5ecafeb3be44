"""What a nightly job needs: lines in a log, a time limit, low priority, the end of the run soon after the last photo, and flat memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.conftest import ROOT, Run, noise_photo, subprocess_environment

from rankclip.cli import console

PHOTOS, BATCH = 40, 4
SCRIPTS = ROOT / "tests/torture"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        noise_photo(tmp_path / f"photos/{number:02}.png", number)
    return tmp_path / "photos"


def start(*words: object, script: str = "embed_script.py", group: bool = False, **environment: str) -> subprocess.Popen[bytes]:
    variables = subprocess_environment(RANKCLIP_BATCH_SIZE=str(BATCH), **environment)
    return subprocess.Popen([sys.executable, str(SCRIPTS / script), *map(str, words)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=group)  # fmt: skip


def test_plain_progress_is_lines(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.Plain.__init__, "__defaults__", (0.0,))
    found = run("embed", "photos", "--batch-size", BATCH, "--progress", "plain")
    lines = found.err.splitlines()[:-1]
    assert found.code == 0 and len(lines) == PHOTOS // (BATCH // 2) and "\r" not in found.err
    assert lines[-1].startswith(f"rankclip: {PHOTOS} of {PHOTOS} photos, ") and all(line.endswith(" left") for line in lines)
    assert console.PLAIN_SECONDS == 30.0, "what the help says"


def test_nothing_but_the_summary_in_a_log(run: Run, photos: Path) -> None:
    assert run("embed", "photos").err.count("\n") == 1
    assert run("embed", "photos", "--quiet", "--force").err == ""


def test_the_time_limit_keeps_what_is_done(run: Run, photos: Path, tmp_path: Path) -> None:
    process = start("embed", "photos", "--time-limit", "2.5", SLOW="0.5")
    began = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, "a planned end is no error"
    assert time.monotonic() - began < 2.5 + 2.5
    line = next(line for line in error.decode().splitlines() if "--time-limit" in line)
    assert line.startswith("rankclip: stopped after 2.5 s (--time-limit), ") and line.endswith(f" of {PHOTOS} photos are left: the same command goes on")
    left = int(line.split(", ")[1].split()[0])
    kept = json.loads(run("store", "info", "--json").text)["spaces"][0]["rows"]
    assert kept + left == PHOTOS and 0 < kept < PHOTOS
    assert f"{left} new, {kept} unchanged" in run("embed", "photos").err


def test_a_time_limit_that_is_not_reached_says_nothing(run: Run, photos: Path) -> None:
    found = run("embed", "photos", "--time-limit", 600)
    assert found.code == 0 and "time-limit" not in found.err
    found = run("embed", "photos", "--time-limit", 0)
    assert found.code == 2 and "--time-limit: must be more than 0 seconds" in found.err


def test_a_signal_says_of_how_many(run: Run, photos: Path, tmp_path: Path) -> None:
    process = start("embed", "photos", SLOW="0.3", LOG=str(tmp_path / "log"))
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and f" of {PHOTOS} new photos" in error.decode()


def test_a_rank_that_is_stopped_before_its_first_batch_is_no_empty_folder(run: Run, photos: Path, tmp_path: Path) -> None:
    process = start("rank", "photos", "red first", "--workers", "1", SLOW="3", LOG=str(tmp_path / "log"))
    deadline = time.monotonic() + 60
    while not (tmp_path / "store/catalogue.sqlite3").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, b"") and b"interrupted" in error and b"no photos" not in error


def test_a_signal_to_the_whole_group_blames_no_photo(run: Run, photos: Path, tmp_path: Path) -> None:
    """What a service manager does to stop a job."""
    process = start("embed", "photos", SLOW="0.3", LOG=str(tmp_path / "log"), group=True)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and "crashed" not in error.decode()
    again = run("embed", "photos")
    assert again.code == 0 and "failed" not in again.err


def test_nice_holds_for_the_workers_too(run: Run, photos: Path, tmp_path: Path) -> None:
    process = start("embed", "photos", "--nice", "7", SLOW="0.3", LOG=str(tmp_path / "log"))
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    found = [one.nice() for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children())]
    process.kill()
    process.communicate()
    assert len(found) >= 2 and set(found) == {min(19, os.nice(0) + 7)}
    assert run("embed", "photos", "--nice", 20).code == 2


def test_the_run_ends_soon_after_the_last_photo(run: Run, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start("embed", "photos", LOG=str(log))
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(log.read_bytes()) == PHOTOS and time.time() - log.stat().st_mtime < 5


# ---------------------------------------------------------------- memory


def footprints(tmp_path: Path, count: int, marks: tuple[int, ...]) -> list[int]:
    """Embed many photos; the PSS of the process tree, in bytes, after some of them."""
    pixels = bytearray(os.urandom(64 * 48 * 3))
    (tmp_path / "many").mkdir()
    for number in range(count):
        pixels[:4] = number.to_bytes(4, "big")
        (tmp_path / f"many/{number:05}.ppm").write_bytes(b"P6 64 48 255\n" + pixels)
    report = tmp_path / "footprints"
    process = start(
        "embed",
        "many",
        "--batch-size",
        50,
        script="footprint_script.py",
        MARKS=",".join(map(str, marks)),
        PYTHONPATH=f"{ROOT}/src:{ROOT}",
        REPORT=str(report),
        RANKCLIP_WORKERS="2",
    )
    _, error = process.communicate(timeout=500)
    assert process.returncode == 0 and f"{count:,} new" in error.decode(), error
    return [int(line) for line in report.read_text().split()]


def test_memory_is_flat(run: Run, tmp_path: Path) -> None:
    early, late = footprints(tmp_path, 1_500, (300, 1_500))
    assert late < 1.1 * early, (early, late)


@pytest.mark.torture
def test_memory_is_flat_over_ten_thousand_photos(run: Run, tmp_path: Path) -> None:
    early, late = footprints(tmp_path, 10_000, (1_000, 10_000))
    assert late < 1.1 * early, (early, late)
