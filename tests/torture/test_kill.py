"""Killed at any moment: the store verifies, at most one batch is embedded twice, and the ranking is that of an undisturbed run, byte for byte."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.conftest import ROOT, Run, noise_photo, subprocess_environment

from rankclip.store import points
from rankclip.store.points import POINTS

PHOTOS, BATCH = 40, 4
SCRIPT = str(ROOT / "tests/torture/embed_script.py")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        noise_photo(tmp_path / f"photos/{number:02}.png", number)
    return tmp_path / "photos"


def start(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SCRIPT, *words], env=subprocess_environment(RANKCLIP_BATCH_SIZE=str(BATCH), **environment), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def finished(*words: str, **environment: str) -> tuple[int, bytes, str]:
    process = start(*words, **environment)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error.decode()


RANKING = ("rank", "photos", "from dark to bright", "--json", "--no-scan")


def undisturbed(tmp_path: Path) -> bytes:
    store = str(tmp_path / "clean")
    assert finished("embed", "photos", RANKCLIP_STORE=store)[0] == 0
    return finished(*RANKING, RANKCLIP_STORE=store)[1]


def encoded(log: Path) -> int:
    return len(log.read_bytes()) if log.exists() else 0


def check_whole(tmp_path: Path, wanted: bytes) -> None:
    """The store is sound, complete, without doubles, and ranks as it should."""
    code, out, error = finished("store", "verify")
    assert code == 0 and out.startswith(b"sound"), error
    facts = json.loads(finished("store", "info", "--json")[1])
    assert facts["spaces"][0]["rows"] == facts["spaces"][0]["token_rows"] == PHOTOS
    assert finished(*RANKING)[1] == wanted


def test_the_points_are_these() -> None:
    assert POINTS == ("migration", "rows-written", "batch-commit", "synced", "score-written", "prune-commit", "compact-written", "compact-commit", "compact-done",
                      "repair-commit")  # fmt: skip
    source = "".join(path.read_text() for path in (ROOT / "src/rankclip/store").glob("*.py") if path.name != "points.py")
    assert all(f'"{point}"' in source for point in POINTS), "every point is reached somewhere"
    assert points.hook("migration") is None


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("point", ["migration", "rows-written", "batch-commit", "synced"])
def test_killed_at_a_point_of_embed(run: Run, photos: Path, tmp_path: Path, point: str, count: int) -> None:
    wanted, log = undisturbed(tmp_path), tmp_path / "log"
    code, _, _ = finished("embed", "photos", LOG=str(log), DIE_AT=point, DIE_COUNT=str(count))
    assert code == -signal.SIGKILL or (point in ("migration", "synced") and count > 1), "the point is visited so often"
    code, _, error = finished("embed", "photos", LOG=str(log))
    assert code == 0, error
    assert encoded(log) <= PHOTOS + BATCH, "at most one batch twice"
    check_whole(tmp_path, wanted)


@pytest.mark.parametrize("point", ["prune-commit", "compact-written", "compact-commit", "compact-done"])
def test_killed_while_looking_after_the_store(run: Run, photos: Path, tmp_path: Path, point: str) -> None:
    assert finished("embed", "photos")[0] == 0
    (photos / "00.png").unlink()
    wanted = undisturbed(tmp_path)
    code, _, _ = finished("store", "prune", DIE_AT=point)
    assert (code == -signal.SIGKILL) == (point == "prune-commit")
    assert finished("store", "prune")[0] == 0
    code, _, _ = finished("store", "compact", DIE_AT=point)
    assert (code == -signal.SIGKILL) == point.startswith("compact")
    assert finished("store", "compact")[0] == 0
    assert finished("store", "verify")[0] == 0
    assert json.loads(finished("store", "info", "--json")[1])["spaces"][0]["rows"] == PHOTOS - 1
    assert finished(*RANKING)[1] == wanted


def test_killed_while_repairing(run: Run, photos: Path, tmp_path: Path) -> None:
    wanted = undisturbed(tmp_path)
    assert finished("embed", "photos")[0] == 0
    column = next((tmp_path / "store").glob("spaces/*/pooled.f16"))
    data = bytearray(column.read_bytes())
    data[5] ^= 255
    column.write_bytes(data)
    assert finished("store", "verify", "--repair", DIE_AT="repair-commit")[0] == -signal.SIGKILL
    assert finished("store", "verify")[0] == 5
    assert finished("store", "verify", "--repair")[0] == 0
    assert finished("embed", "photos")[0] == 0
    check_whole(tmp_path, wanted)


def test_killed_while_caching_scores(run: Run, photos: Path, tmp_path: Path) -> None:
    wanted = undisturbed(tmp_path)
    assert finished("embed", "photos")[0] == 0
    assert finished(*RANKING, DIE_AT="score-written")[0] == -signal.SIGKILL
    assert finished(*RANKING)[1] == wanted


def kill_at_random(seed: int, tmp_path: Path, wanted: bytes) -> bool:
    """Kill one run after a random time, rerun, check. Returns whether the kill struck in the middle."""
    rng = random.Random(seed)
    store, log = tmp_path / f"store{seed}", tmp_path / f"log{seed}"
    environment = {"RANKCLIP_STORE": str(store), "LOG": str(log)}
    process = start("embed", "photos", **environment, SLOW="0.02")
    time.sleep(rng.uniform(0.25, 1.1))
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    struck = process.poll() is None
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, "no worker outlives its parent by five seconds"
    assert finished("embed", "photos", **environment)[0] == 0
    assert encoded(log) <= PHOTOS + BATCH
    os.environ["RANKCLIP_STORE"] = str(store)
    check_whole(tmp_path, wanted)
    return struck


def test_killed_at_random_moments(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_STORE", str(tmp_path / "store"))
    wanted = undisturbed(tmp_path)
    assert sum(kill_at_random(seed, tmp_path, wanted) for seed in range(5)) >= 2


@pytest.mark.torture
def test_killed_at_fifty_random_moments(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_STORE", str(tmp_path / "store"))
    wanted = undisturbed(tmp_path)
    assert sum(kill_at_random(seed, tmp_path, wanted) for seed in range(100, 150)) >= 25


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_signal_keeps_the_batch_in_hand(run: Run, photos: Path, tmp_path: Path, number: int, code: int) -> None:
    process = start("embed", "photos", SLOW="0.15", LOG=str(tmp_path / "log"))
    deadline = time.monotonic() + 30
    while encoded(tmp_path / "log") < 2 * BATCH and time.monotonic() < deadline:
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - began < 2.0
    assert process.returncode == code
    kept = int(error.decode().split("kept ")[1].split(" of ")[0])
    assert kept >= 2 * BATCH and error.decode().count("kept ") == 1
    assert json.loads(finished("store", "info", "--json")[1])["spaces"][0]["rows"] == kept
    assert finished("embed", "photos")[0] == 0


def test_ctrl_c_reaches_the_whole_group_and_workers_ignore_it(run: Run, photos: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, SCRIPT, "embed", "photos"], env=subprocess_environment(RANKCLIP_BATCH_SIZE="4", SLOW="0.15", LOG=str(tmp_path / "log")),
                               stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 30
    while encoded(tmp_path / "log") < 2 * BATCH and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and b"kept " in error and b"crashed" not in error
