"""A pool of decoding processes that outlives whatever a file does to one of them.

Each worker has at most two tasks: one in work, one waiting. When it dies, the task in work is blamed, the waiting one goes to
another worker, and a new process takes its place. Results come in the order they are ready. No store handle ever crosses into a
worker: they are new interpreters, not forks.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rankclip.photos.worker import Answer, Task, WorkerOptions, read_frame, write_frame

DEPTH = 2  # tasks a worker holds: the second hides the pipe's latency
MODULE = "rankclip.photos.worker"
NOBODY = -1  # the number of an answer that blames no file: a worker died idle


@dataclass(slots=True, eq=False)
class Worker:
    process: subprocess.Popen[bytes]
    tasks: deque[Task] = field(default_factory=deque)


class DecodePool:
    """Feed it tasks with `submit`, take what is ready with `ready`, close it in the end.

    >>> with DecodePool(WorkerOptions(DecodeOptions(InputSpec(8))), 2) as pool:  # doctest: +SKIP
    ...     pool.submit(Task(0, "photo.jpg")); answers = list(pool.ready(timeout=5))
    """

    def __init__(self, options: WorkerOptions, workers: int, *, module: str = MODULE) -> None:
        self.options = replace(options, parent=os.getpid())
        self.module = module
        self.answers: queue.SimpleQueue[tuple[Worker, Answer | None] | None] = queue.SimpleQueue()
        self.waiting: deque[Task] = deque()
        self.workers: list[Worker] = []
        self.wanted = workers
        self.replaced = 0

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def in_flight(self) -> int:
        """Tasks submitted and not yet answered."""
        return len(self.waiting) + sum(len(worker.tasks) for worker in self.workers)

    @property
    def room(self) -> int:
        """How many more tasks keep every worker busy."""
        return max(0, DEPTH * self.wanted - self.in_flight)

    def submit(self, task: Task) -> None:
        self.waiting.append(task)
        self._feed()

    def ready(self, timeout: float | None = None) -> Iterator[Answer]:
        """Yield the answers that are there, waiting up to `timeout` seconds for the first (or for `ring`)."""
        block = True
        while True:
            try:
                event = self.answers.get(block, timeout)
            except queue.Empty:
                return
            block = False
            if event is not None and event[0] in self.workers:
                yield self._take(*event)
                self._feed()

    def ring(self) -> None:
        """End the wait of `ready`, from any thread."""
        self.answers.put(None)

    def _take(self, worker: Worker, answer: Answer | None) -> Answer:
        if answer is None:
            return self._bury(worker)
        worker.tasks.popleft()
        return answer

    def _bury(self, worker: Worker) -> Answer:
        """Blame the task in work for the death of its worker and hand on the one behind it."""
        code = worker.process.wait()
        self._forget(worker)
        self.replaced += 1
        if not worker.tasks:
            return Answer(NOBODY, None)
        blamed = worker.tasks.popleft()
        self.waiting.extendleft(reversed(worker.tasks))
        return Answer(blamed.number, None, *self._cause(code))

    def _cause(self, code: int) -> tuple[str, str]:
        if hasattr(signal, "SIGALRM") and code == -signal.SIGALRM:
            return f"decoding took longer than {self.options.time_limit:g} s (--time-limit-photo raises the limit)", "slow"
        if code < 0:
            return f"the decoder crashed ({signal.Signals(-code).name})", "crash"
        return "the decoder ended without an answer", "crash"

    def _feed(self) -> None:
        while self.waiting:
            free = [worker for worker in self.workers if len(worker.tasks) < DEPTH]
            if len(self.workers) < self.wanted and not any(not worker.tasks for worker in free):
                free = [self._start()]
            if not free:
                return
            worker = min(free, key=lambda one: len(one.tasks))
            task = self.waiting.popleft()
            worker.tasks.append(task)
            self._send(worker, task)

    def _send(self, worker: Worker, message: Task | WorkerOptions) -> None:
        assert worker.process.stdin is not None
        try:
            write_frame(worker.process.stdin, message)
        except BrokenPipeError:
            pass  # it is dead: `_take` will find its end of file and blame the right task

    def _start(self) -> Worker:
        source = str(Path(__file__).resolve().parents[2])  # where this very package lies, installed or not
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
                           OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONWARNINGS="ignore")  # fmt: skip
        # -P: a numpy.py among somebody's photos must not be imported
        process = subprocess.Popen([sys.executable, "-P", "-c", f"from {self.module} import main; main()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        worker = Worker(process)
        self.workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        self._send(worker, self.options)
        return worker

    def _listen(self, worker: Worker) -> None:
        """Pass on a worker's answers; runs in a thread of its own, since not every system can wait for several pipes."""
        assert worker.process.stdout is not None
        with worker.process.stdout as pipe:
            while (answer := read_frame(pipe)) is not None:
                self.answers.put((worker, answer))
        self.answers.put((worker, None))

    def _forget(self, worker: Worker) -> None:
        assert worker.process.stdin is not None
        self.workers.remove(worker)
        try:
            worker.process.stdin.close()
        except BrokenPipeError:
            pass

    def close(self) -> None:
        """End all workers at once; tasks in work are dropped."""
        for worker in list(self.workers):
            worker.process.kill()
            worker.process.wait()
            self._forget(worker)
