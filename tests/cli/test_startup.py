"""Start-up: `--help` answers at once. Processor time, against an interpreter that does nothing in the same test, so that a busy machine does not matter."""

import os
import subprocess
import sys

import pytest
from tests.cli.test_app import ALL
from tests.conftest import rankclip_command, subprocess_environment

BUDGET = 0.25  # seconds on a quiet machine ...
BARE = 0.011  # ... where an interpreter that does nothing needs this
FACTOR = BUDGET / BARE
TRIES = 4  # a slow moment is no slow command


def processor_seconds(words: list[str]) -> float:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=subprocess_environment())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("path", [(), *[path for path, _ in ALL]], ids=" ".join)
def test_help_is_quick(path: tuple[str, ...]) -> None:
    ratios = []
    while len(ratios) < TRIES and not (ratios and min(ratios) <= FACTOR):
        ratios.append(processor_seconds(rankclip_command(*path, "--help")) / processor_seconds([sys.executable, "-c", "pass"]))
    assert min(ratios) <= FACTOR, ratios
