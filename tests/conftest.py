"""Fixtures for all layers: an own home, no network, coloured squares, a runner for the command line, counted skips."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rankclip.cli.app import app
from rankclip.photos import samples
from rankclip.settings import DEFAULT_MODEL

COLOURS = {"red": (220, 30, 30), "green": (40, 160, 50), "blue": (30, 60, 210), "black": (8, 8, 8), "white": (248, 248, 248)}
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home, cache and configuration of its own."""
    home = tmp_path_factory.mktemp("home")
    for variable in [name for name in os.environ if name.startswith(("RANKCLIP_", "XDG_", "HF_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("RANKCLIP_WORKERS", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the machine itself can be reached."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        assert self.family == socket.AF_UNIX or str(host) in ("127.0.0.1", "::1", "localhost"), f"a test tried to reach {address}"
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


def square(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (48, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A folder with five coloured pictures."""
    folder = tmp_path / "photos"
    for name, colour in COLOURS.items():
        square(folder / f"{name}.png", colour)
    return folder


def noise_photo(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A picture unlike any other."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(low).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@dataclass
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line in this process, with the toy engine and a store of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANKCLIP_ENGINE", "toy")
    monkeypatch.setenv("RANKCLIP_STORE", str(tmp_path / "store"))

    def run_it(*words: object, stdin: bytes | None = None) -> Result:
        found = CliRunner().invoke(app, [os.fspath(word) if isinstance(word, Path) else str(word) for word in words], input=stdin)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Result(found.exit_code, found.stdout_bytes, found.stderr)

    return run_it


def subprocess_environment(**more: str) -> dict[str, str]:
    """The environment for a rankclip of its own process."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", **more}


def rankclip_command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rankclip", *map(str, words)]


ALLOWED_SKIPS = {  # reason's beginning -> how many tests may skip for it
    "needs ../shared": 6,
    "needs chromium": 3,
    "needs node": 3,
    "needs a GPU": 2,
    "runs as root": 2,
    "needs rawpy": 8,
    "needs the tmpfs mount": 2,
}


def pytest_terminal_summary(terminalreporter: object) -> None:
    counts: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):  # type: ignore[attr-defined]
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")
        counts[reason] = counts.get(reason, 0) + 1
    for reason, count in sorted(counts.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")  # type: ignore[attr-defined]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip that nobody allowed fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    counts: dict[str, int] = {}
    for report in reporter.stats.get("skipped", []) if reporter else ():
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        allowed = next((name for name in ALLOWED_SKIPS if reason.startswith(name)), reason)
        counts[allowed] = counts.get(allowed, 0) + 1
    for reason, count in counts.items():
        if count > ALLOWED_SKIPS.get(reason, 0):
            print(f"\ntoo many skips ({count}): {reason}")
            session.exitstatus = 1


@pytest.fixture
def pictures(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's photos, and the bundled model instead of the toy."""
    monkeypatch.setenv("RANKCLIP_MODEL", DEFAULT_MODEL)
    monkeypatch.setenv("RANKCLIP_ENGINE", "auto")
    samples.make_demo(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def binary() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture(autouse=True)
def forget_caches() -> Iterator[None]:
    """What `functools.cache` keeps about the user's folders must not leak between tests."""
    from rankclip.backbones import specs

    specs.find.cache_clear()
    yield
