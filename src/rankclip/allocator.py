"""glibc's allocator, told to keep what a process frees.

Activations and pictures of some megabytes are mapped from the kernel and given back each time by default, and each new page costs a fault. Measured on one
thread: the first layers of a convolutional trunk, batch 32 at 224 px, take 0.36-0.51 s of CPU as it is, 0.10 s with freed memory kept; a training step
of the adapter, whose tensors are small, 0.60 and 0.58 s; a process that decodes photos of 0.5 megapixel spends 2.7 ms of each in the kernel, 0.2 ms so.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of malloc.h


def keep_freed_memory(most: int = 1 << 30) -> bool:
    """Keep freed memory in the process instead of returning it to the kernel; says whether the allocator took it (glibc only).

    most: bytes that are kept at the heap's end, and up to which one piece comes from the heap. Called before the first large tensor or picture, by
    the torch engine, every recipe, and every decoding process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    wanted = {TRIM_THRESHOLD: most, TOP_PAD: most // 4, MMAP_THRESHOLD: most}
    return all([mallopt(name, value) == 1 for name, value in wanted.items()])
