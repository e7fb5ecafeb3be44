"""The allocator keeps what is freed: a second large array costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from rankclip.engines import allocator

PROBE = """
import resource, sys
import numpy as np
from rankclip.engines.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(8_000_000).fill(1.0)  # 64 MB
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> list[int]:
    found = subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True, timeout=120)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_a_second_array_is_made_of_the_memory_of_the_first() -> None:
    kept, returned = faults("keep"), faults("as it is")
    assert kept[2] < 50 and returned[2] > 10 * max(1, kept[2])


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
