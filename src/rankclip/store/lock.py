"""One writer at a time: a file lock that dies with its process, and a note of who holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from rankclip.errors import StoreLocked, StoreReadOnly, reason
from rankclip.store.vectors import full

LOCK, HOLDER = "writer.lock", "writer.pid"


class WriterLock:
    """Take the store's writer lock.

    Raises StoreLocked with the holder's pid when it is not free within `timeout` seconds (inf waits for ever).
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        from filelock import FileLock, Timeout  # 14 ms that readers do without

        self.folder = folder
        self.lock = FileLock(folder / LOCK)
        try:
            self.lock.acquire(timeout=-1 if timeout == float("inf") else timeout, poll_interval=0.05)
        except Timeout as error:
            raise StoreLocked(f"{folder}: {holder(folder)} is writing", hint="wait for it, or give --lock-timeout SECONDS (inf waits for ever)") from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StoreReadOnly(f"{folder}: cannot be written ({reason(error)})", hint="use another store: --store DIR") from error
            raise full(folder / LOCK, error) from error
        with contextlib.suppress(OSError):  # without the note the holder has no number, that is all
            (folder / HOLDER).write_text(f"{os.getpid()} {' '.join(sys.argv)[:200]}\n", errors="replace")

    def release(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / HOLDER).unlink(missing_ok=True)
        self.lock.release()


def holder(folder: Path) -> str:
    """Say who holds the lock, as far as is known."""
    try:
        pid = (folder / HOLDER).read_text().split()[0]
    except (OSError, IndexError):
        return "another process"
    return f"process {pid}"
