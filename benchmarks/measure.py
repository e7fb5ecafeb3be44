"""Timing whole processes fairly: wall, processor time and peak memory of a command, best and median of several runs.

Every script records its figures as JSON with hardware, versions and date; docs/generate.py makes the tables of docs/performance.md from them.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

PACKAGES = ("rankclip", "numpy", "pillow", "onnxruntime", "torch", "open_clip_torch", "typer")
SAMPLE_SECONDS = 0.25  # between two looks at the memory of a process tree


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds and MiB over some runs of one command."""

    name: str
    wall: list[float]
    cpu: list[float]
    peak: float
    code: int

    def line(self, floor: float = 0.0) -> str:
        ratio = f"  {min(self.cpu) / floor:5.1f} x floor" if floor else ""
        return (f"{self.name:46} wall {min(self.wall):6.3f} (median {statistics.median(self.wall):6.3f}) s  cpu {min(self.cpu):6.3f} s  "
                f"peak {self.peak:6.0f} MiB  exit {self.code}{ratio}")  # fmt: skip

    def figure(self, floor: float = 0.0) -> Figure:
        """The best run. floor: processor seconds that nobody can avoid."""
        values = {"cpu": min(self.cpu), "median": statistics.median(self.wall), "peak_mib": self.peak, "exit": self.code, "runs": len(self.wall)}
        return Figure(self.name, min(self.wall), "s", floor, values)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `floor`: the least that this machine needed for the same thing in the same run (0: none).

    The floor of a time is in processor seconds, and compares with `more["cpu"]`: on a busy machine wall time says little.
    """

    name: str
    value: float
    unit: str
    floor: float = 0.0
    more: dict[str, float] = field(default_factory=dict)


def child_environment(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a measured process: byte code may be kept, as it is in any installed package."""
    return {name: value for name, value in (environment or dict(os.environ)).items() if name != "PYTHONDONTWRITEBYTECODE"}


def once(words: list[str], environment: dict[str, str] | None = None, sink: str = os.devnull) -> tuple[float, float, float, int]:
    """Run a command; returns wall and processor seconds (with its children), peak MiB of the process itself, and its exit code."""
    with open(sink, "wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, env=child_environment(environment))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode


def command(name: str, words: list[str], *, runs: int = 7, environment: dict[str, str] | None = None) -> Timing:
    """Run a command several times; the first run, which fills caches, is not counted."""
    once(words, environment)
    found = [once(words, environment) for _ in range(runs)]
    return Timing(name, [one[0] for one in found], [one[1] for one in found], max(one[2] for one in found), found[-1][3])


class TreeMemory(threading.Thread):
    """Samples the proportional set size of a process and all that it started; `peak` is in MiB. Linux only."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(pss_kib(pid) for pid in tree(self.pid)) / 1024)

    def stop(self) -> float:
        self.ended.set()
        self.join()
        return self.peak


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += [int(child) for child in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
        except OSError:
            pass  # it has just ended
    return found


def pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def rankclip(*words: object) -> list[str]:
    return [sys.executable, "-m", "rankclip", *map(str, words)]


def bare_python(runs: int = 7, code: str = "pass") -> Timing:
    """The floor of every command: an interpreter that does nothing, or only imports what cannot be avoided."""
    return command("floor: bare python" if code == "pass" else f"floor: python, {code}", [sys.executable, "-c", code], runs=runs)


def machine() -> dict[str, object]:
    """Hardware, versions and how busy the machine is."""
    cpu = next((line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")), platform.processor())
    memory = next((int(line.split()[1]) >> 20 for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), 0)
    versions = {name: version(name) for name in PACKAGES}
    return {"system": f"{platform.system()} {platform.machine()}", "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": memory,
            "python": platform.python_version(), "load": round(os.getloadavg()[0], 2), "versions": versions}  # fmt: skip


def read(path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ""


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"


def record(name: str, figures: list[Figure], folder: Path | None) -> None:
    """Keep a run as JSON beside the others; figures of an earlier run that this one did not measure again are dropped."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        found = {"date": date, "machine": machine(), "figures": [rounded(asdict(one)) for one in figures]}
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def rounded(value: object) -> object:
    """Four digits are more than a noisy machine gives."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
