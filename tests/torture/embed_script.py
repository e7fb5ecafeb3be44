"""rankclip's command line with a recording engine and a chosen point of death; run by the kill tests in a process of its own.

Environment: LOG (a byte is appended for every batch that was encoded), DIE_AT and DIE_COUNT (the named point whose n-th visit kills the process),
SLOW (seconds each batch takes longer).
"""

import os
import signal
import time
from typing import Any

from rankclip.cli.app import main
from rankclip.engines.toy import ToyEngine
from rankclip.store import points

real = ToyEngine.encode_images
visits = 0


def encode(self: ToyEngine, pixels: Any) -> Any:
    time.sleep(float(os.environ.get("SLOW", "0")))
    found = real(self, pixels)
    if "LOG" in os.environ:
        with open(os.environ["LOG"], "ab") as log:
            log.write(b".")
    return found


def die(point: str) -> None:
    global visits
    if point == os.environ.get("DIE_AT"):
        visits += 1
        if visits == int(os.environ.get("DIE_COUNT", "1")):
            os.kill(os.getpid(), signal.SIGKILL)


ToyEngine.encode_images = encode  # type: ignore[method-assign]
points.hook = die
main()
