"""The memory of a process and everything it started, as PSS: shared pages are counted once."""

import contextlib
import subprocess
import threading

import psutil

MIB = 1 << 20


def tree_pss(root: psutil.Process) -> int:
    """Bytes that the process and its descendants hold now."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


class Peak:
    """Context: watches a running process and keeps the largest footprint seen, in `bytes`."""

    def __init__(self, process: subprocess.Popen[bytes], every: float = 0.05) -> None:
        self.root, self.every = psutil.Process(process.pid), every
        self.bytes, self.looks = 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(self.every):
            with contextlib.suppress(psutil.Error):
                self.bytes = max(self.bytes, tree_pss(self.root))
                self.looks += 1
