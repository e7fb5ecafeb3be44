"""A decoding process with planted faults: a file that has one of FAULTS in its name (good_spin.png) does that to the process, all others are decoded.

Run in the place of `rankclip.photos.worker`. Spinning happens inside one C call, so that nothing in Python can end it.
"""

import ctypes
import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankclip.photos import decode
from rankclip.photos.worker import main as work

real = decode.open_picture
GIB = 1 << 30


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave() -> None:
    os._exit(0)


def sleep() -> None:
    time.sleep(3_600)


def deaf() -> None:
    """As a process that waits for a dead network disk: no alarm reaches it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    sleep()


def spin() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)


def allocate() -> None:
    """8 GB as Python sees it."""
    bytearray(8 * GIB)


def hoard() -> None:
    """8 GB as a C library takes it: piece by piece, every page touched, without a look at the answer."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    for _ in range(128):
        ctypes.memset(library.malloc(ctypes.c_size_t(GIB // 16)), 1, GIB // 16)


FAULTS: dict[str, Callable[[], None]] = {fault.__name__: fault for fault in (segfault, abort, leave, sleep, deaf, spin, allocate, hoard)}


def open_picture(path: str, *rest: Any) -> Any:
    for name, fault in FAULTS.items():
        if name in Path(path).stem.split("_"):
            fault()
    return real(path, *rest)


def main() -> None:
    decode.open_picture = open_picture
    work()
