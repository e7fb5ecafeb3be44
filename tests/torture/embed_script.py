"""rankclip's command line with a recording engine and a chosen point of death; run by the kill tests in a process of its own.

Environment: LOG (a byte is appended for every place of a batch that the engine begins to encode), DIE_AT and DIE_COUNT (the named point whose n-th visit kills the process),
SLOW (seconds each half batch takes longer).
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
    if "LOG" in os.environ:
        with open(os.environ["LOG"], "ab") as log:
            log.write(b"." * len(pixels))
    time.sleep(float(os.environ.get("SLOW", "0")))
    return real(self, pixels)


def die(point: str) -> None:
    global visits
    if point == os.environ.get("DIE_AT"):
        visits += 1
        if visits == int(os.environ.get("DIE_COUNT", "1")):
            os.kill(os.getpid(), signal.SIGKILL)


ToyEngine.encode_images = encode  # type: ignore[method-assign]
points.hook = die
main()
