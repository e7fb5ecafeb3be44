"""Permissions that hold for root, too: a child without the capabilities that let root pass them."""

import ctypes
import os
import subprocess
from pathlib import Path

from tests.conftest import rankclip_command, subprocess_environment

PR_CAPBSET_DROP = 24
OVERRIDING = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


def bound() -> None:
    """Run in the child before exec."""
    if os.geteuid() == 0:
        for capability in OVERRIDING:
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def bound_rankclip(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run rankclip as somebody for whom permissions count."""
    variables = subprocess_environment(**environment)
    return subprocess.run(rankclip_command(*words), cwd=cwd, env=variables, capture_output=True, timeout=60, preexec_fn=bound)
