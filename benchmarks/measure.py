"""Timing whole processes fairly: wall, processor time and peak memory of a command, best and median of several runs."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds and MiB over some runs of one command."""

    name: str
    wall: list[float]
    cpu: list[float]
    peak: float
    code: int

    def line(self, floor: float = 0.0) -> str:
        ratio = f"  {min(self.wall) / floor:5.1f} x floor" if floor else ""
        return (f"{self.name:46} wall {min(self.wall):6.3f} (median {statistics.median(self.wall):6.3f}) s  cpu {min(self.cpu):6.3f} s  "
                f"peak {self.peak:6.0f} MiB  exit {self.code}{ratio}")  # fmt: skip


def command(
    name: str, words: list[str], *, runs: int = 7, environment: dict[str, str] | None = None, sink: str = "/dev/null", cwd: str | None = None
) -> Timing:
    """Run a command several times; the first run, which fills caches, is not counted."""
    wall, cpu, peak, code = [], [], 0.0, 0
    for run in range(runs + 1):
        with open(sink, "wb") as out:
            began = time.perf_counter()
            process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, env=environment, cwd=cwd)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if run:
            wall.append(seconds)
            cpu.append(usage.ru_utime + usage.ru_stime)
            peak = max(peak, usage.ru_maxrss / 1024)
            code = process.returncode
    return Timing(name, wall, cpu, peak, code)


def rankclip(*words: object) -> list[str]:
    return [sys.executable, "-m", "rankclip", *map(str, words)]


def bare_python(runs: int = 7) -> Timing:
    """The floor of every command: an interpreter that does nothing."""
    return command("floor: bare python", [sys.executable, "-c", "pass"], runs=runs)


def machine() -> dict[str, object]:
    return {"system": platform.platform(), "python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
            "memory limit": resource.getrlimit(resource.RLIMIT_AS)[0]}  # fmt: skip


def record(name: str, timings: list[Timing], folder: Path | None) -> None:
    """Keep a run as JSON beside the others."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"name": one.name, "wall": one.wall, "cpu": one.cpu, "peak_mib": one.peak, "exit": one.code} for one in timings]
        (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), "timings": rows}, indent=1) + "\n")
