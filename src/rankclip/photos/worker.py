"""The decoding process: reads tasks on stdin, answers on stdout, until stdin ends.

It is a process of its own so that a decoder that crashes, hangs or eats memory takes down nothing: memory is limited by the system
(RLIMIT_AS), time by an alarm whose default action ends the process even inside C code, and it dies with its parent. One task at a
time, in order, so that the parent knows which file to blame.

Frames on both pipes: 4 bytes of length, then a pickle. Both ends are ours.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rankclip.allocator import keep_freed_memory
from rankclip.errors import PhotoError
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.types import Decoded

LENGTH = struct.Struct("<I")
NOBODY = -1  # the number of an answer that is about no file
KEPT = 32 << 20  # bytes of freed memory: a reduced photo and its file many times over, and little beside the process itself
PR_SET_PDEATHSIG = 1  # Linux: prctl(2)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    decode: DecodeOptions
    time_limit: float = 20.0  # seconds for one file
    memory_limit: int = 1 << 30  # bytes above what the process starts with
    parent: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    number: int
    path: str
    known: tuple[bytes, ...] = ()  # digests of contents of the same size
    digest_only: bool = False  # the content's digest is all that is asked for


@dataclass(frozen=True, slots=True)
class Answer:
    number: int
    decoded: Decoded | None
    reason: str = ""
    kind: str = ""
    seconds: float = 0.0  # processor time


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints must not land between two frames
    tasks = sys.stdin.buffer
    options: WorkerOptions | None = read_frame(tasks)
    if options is None:
        return
    keep_freed_memory(KEPT)
    protect(options)
    write_frame(answers, Answer(NOBODY, None))  # ready: the clock of the first file may run
    while (task := read_frame(tasks)) is not None:
        write_frame(answers, work(task, options))


def protect(options: WorkerOptions) -> None:
    """Set the limits that the system enforces."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and a stopped service reach the whole group; the parent decides
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != options.parent:  # it died before the line above
            sys.exit()
    try:
        import resource

        statm = Path("/proc/self/statm")
        pages = int(statm.read_text().split()[0]) if statm.exists() else 0
        limit = pages * resource.getpagesize() + options.memory_limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # Windows has none, macOS refuses some: the time limit still holds
        pass


def work(task: Task, options: WorkerOptions) -> Answer:
    """Decode one file under the alarm."""
    timed = hasattr(signal, "setitimer")
    if timed:
        signal.setitimer(signal.ITIMER_REAL, options.time_limit)
    began = time.process_time()
    try:
        decoded = decode(task.path, options.decode, task.known, digest_only=task.digest_only)
        return Answer(task.number, decoded, seconds=time.process_time() - began)
    except PhotoError as error:
        return Answer(task.number, None, error.reason, error.kind, time.process_time() - began)
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)


def write_frame(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=5)
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> Any | None:
    """Read one message; None when the pipe has ended (also in the middle: the writer died)."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = pipe.read(length)
    return pickle.loads(data) if len(data) == length else None
