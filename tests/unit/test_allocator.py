"""The allocator keeps what is freed."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys

import pytest

from rankclip import allocator

PROBE = """
import sys
import numpy as np
from pathlib import Path
from rankclip.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1])  # pages
before = resident()
parts = [np.ones(1_000_000) for _ in range(8)]  # 64 MB, as eight layers
del parts
print(resident() - before)
"""
PAGES = 64_000_000 // resource.getpagesize()


def pages_left(how: str) -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return int(subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True, timeout=120, env=plain).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_what_is_freed_stays_in_the_process() -> None:
    assert pages_left("keep") > 0.8 * PAGES
    assert pages_left("as it is") < 0.4 * PAGES


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
