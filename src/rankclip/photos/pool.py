"""A pool of decoding processes that outlives whatever a file does to one of them.

Each worker has at most two tasks: one in work, one waiting. When it dies, the task in work is blamed, the waiting one goes to
another worker, and a new process takes its place. A worker that neither answers nor dies, as when it waits for a network disk that
is gone, is given up. Results come in the order they are ready. No store handle ever crosses into a worker: they are new
interpreters, not forks.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rankclip.errors import PhotoError
from rankclip.photos.worker import NOBODY, Answer, Task, WorkerOptions, read_frame, write_frame
from rankclip.types import Decoded

DEPTH = 2  # tasks a worker holds: the second hides the pipe's latency
MODULE = "rankclip.photos.worker"
GRACE = 10.0  # seconds after its time limit that a worker has to die
BURIAL = 1.0  # seconds to wait for the end of a process that was killed; one that the system cannot interrupt is left behind


@dataclass(slots=True, eq=False)
class Worker:
    process: subprocess.Popen[bytes]
    tasks: deque[Task] = field(default_factory=deque)
    since: float = math.inf  # when its task in work began, by the monotonic clock; a worker that has not started yet has no such time


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
        """Yield the answers that are there, waiting up to `timeout` seconds for the first (or for `ring`); then give up who is overdue."""
        block = True
        while True:
            try:
                event = self.answers.get(block, timeout)
            except queue.Empty:
                break
            block = False
            if event is not None and event[0] in self.workers:
                yield self._take(*event)
                self._feed()
        for worker in self._overdue():  # now, when every answer that has come is taken
            yield self._give_up(worker)
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
        """Take leave of a worker that has died."""
        return self._blame(worker, *self._cause(worker.process.wait()))

    def _overdue(self) -> list[Worker]:
        """Workers that should long have been ended by their own alarm."""
        latest = time.monotonic() - self.options.time_limit - GRACE
        return [worker for worker in self.workers if worker.tasks and worker.since < latest]

    def _give_up(self, worker: Worker) -> Answer:
        _kill(worker)
        return self._blame(worker, *self._cause(None))

    def _blame(self, worker: Worker, reason: str, kind: str) -> Answer:
        """Blame the task in work for the end of its worker and hand on the one behind it."""
        self._forget(worker)
        self.replaced += 1
        if not worker.tasks:
            return Answer(NOBODY, None)
        blamed = worker.tasks.popleft()
        self.waiting.extendleft(reversed(worker.tasks))
        return Answer(blamed.number, None, reason, kind)

    def _cause(self, code: int | None) -> tuple[str, str]:
        """Say why a worker ended. code: how the process did, None where it does not even end."""
        if code is None or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
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
            if not worker.tasks and worker.since < math.inf:
                worker.since = time.monotonic()
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
                worker.since = time.monotonic()
                if answer.number != NOBODY:
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
            _kill(worker)
            self._forget(worker)


def _kill(worker: Worker) -> None:
    worker.process.kill()
    try:
        worker.process.wait(BURIAL)
    except subprocess.TimeoutExpired:
        pass


class Reader:
    """Reads photos one at a time, as the pool does: in a process of its own, which starts with the first and ends with `close`.

    >>> Reader(WorkerOptions(DecodeOptions(InputSpec(8)))).read("photo.jpg").pixels.shape  # doctest: +SKIP
    (8, 8, 3)
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.pool = DecodePool(options, 1)
        self.close = self.pool.close

    def read(self, path: str) -> Decoded:
        """Decode one photo. Raises PhotoError, also where the decoder crashes or hangs."""
        self.pool.submit(Task(0, os.path.abspath(path)))
        while True:
            for answer in self.pool.ready(timeout=1.0):
                if answer.number != NOBODY and answer.decoded is None:
                    raise PhotoError(path, answer.reason, kind=answer.kind)
                if answer.decoded is not None:
                    return answer.decoded
