"""rankclip in processes of its own, for stories about kills, locks, pipes and memory."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, rankclip_command, subprocess_environment

BATCH = 4
SCRIPT = str(ROOT / "tests/torture/embed_script.py")


def finished(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run rankclip to its end."""
    return subprocess.run(rankclip_command(*words), capture_output=True, env=subprocess_environment(**environment), timeout=120)


@contextmanager
def embedding(log: Path, *words: object, batches: int = 3, slow: float = 0.2) -> Iterator[subprocess.Popen[bytes]]:
    """A slow `embed photos` (slow: seconds for half a batch) that has begun to encode some batches; it is ended on the way out."""
    environment = subprocess_environment(RANKCLIP_BATCH_SIZE=str(BATCH), SLOW=str(slow), LOG=str(log))
    process = subprocess.Popen([sys.executable, SCRIPT, "embed", "photos", *map(str, words)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: log.exists() and len(log.read_bytes()) >= batches * BATCH)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
