"""One run of `embed`: look at the disk, decode what is new in worker processes, run the image tower, write; all at the same time.

The main thread lists, feeds the workers, groups their answers into half batches and commits; one thread runs the engine, on one half while
the other is committed, so that a kill costs one batch. Halves are padded to full size, so that an embedding is bit-equal whatever its
neighbours (but for models to which a photo costs seconds).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from rankclip.backbones.specs import Backbone
from rankclip.collection.survey import Gallery, Survey
from rankclip.engines.base import Engine
from rankclip.photos.decode import DecodeOptions
from rankclip.photos.pool import DecodePool, Reader
from rankclip.photos.worker import NOBODY, Answer, Task, WorkerOptions
from rankclip.settings import Settings
from rankclip.store import upkeep
from rankclip.store.store import Batch, NewFile, Store
from rankclip.types import EmbedReport, Failure, Features, Photo, Progress

MEGA = 1_000_000
FEW = 64  # digests that go to a worker along with a file
HANDS = 2  # parts of a batch: one is in the engine, one is being committed
AHEAD = 2  # batches that may be decoded ahead of the engine: more would only fill memory


@dataclass(slots=True)
class Ready:
    """A decoded photo on its way to the engine."""

    file: Photo
    answer: Answer


class Embedding:
    """Decode, embed and record the pending files of a survey."""

    def __init__(self, store: Store, backbone: Backbone, engine: Callable[[], Engine], settings: Settings, progress: Progress, *,
                 force: bool = False, allow_truncated: bool = False, cancel: threading.Event | None = None) -> None:  # fmt: skip
        self.store, self.backbone, self.engine, self.settings, self.progress = store, backbone, engine, settings, progress
        self.space = backbone.space
        self.cancel = cancel or threading.Event()
        self.worker = worker_options(backbone, settings, allow_truncated=allow_truncated)
        self.report = EmbedReport()
        self.gallery = Gallery()
        known = set(store.view(self.space).embedded)
        self.force, self.embedded, self.replaced = force, set() if force else known, known if force else set()  # content numbers
        self.half = max(settings.batch_size // HANDS, 1)
        self.crowded: set[int] = set()  # sizes that more than FEW contents have
        self.waiting: list[Ready] = []  # decoded, not yet a full batch
        self.copies: list[Ready] = []  # content known: only the file is recorded
        self.running: deque[tuple[list[Ready], Future[Features]]] = deque()
        self.decode_seconds = self.model_seconds = 0.0

    def run(self, found: Survey) -> EmbedReport:
        """Work through the pending files; returns what was done. Stops early, keeping what is finished, when `cancel` is set."""
        began = time.monotonic()
        if found.moved:
            self.store.add_moved(found.moved)
        self.report.moved = len(found.moved)
        if found.pending:
            self.progress.start(len(found.pending), "photos")
            with DecodePool(self.worker, self.settings.worker_count()) as pool, ThreadPoolExecutor(1, "model") as model:
                self._loop(found.pending, pool, model)
            self.progress.done()
        if self.force and not self.cancel.is_set():
            upkeep.drop_replaced(self.store, self.space)
        self.report.left = len(found.pending) - self.report.new - self.report.again - self.report.copies - self.report.failed
        self.report.seconds = time.monotonic() - began
        if found.pending and self.report.seconds > 0:
            self.report.decode_share = self.decode_seconds / self.report.seconds / self.settings.worker_count()
            self.report.model_share = self.model_seconds / self.report.seconds
        return self.report

    def _loop(self, pending: list[Photo], pool: DecodePool, model: ThreadPoolExecutor) -> None:
        tasks = self._tasks(pending)
        more = True
        while (more or pool.in_flight or self.waiting or self.running) and not self.cancel.is_set():
            while more and pool.room and len(self.waiting) < AHEAD * self.settings.batch_size:
                task = next(tasks, None)
                more = task is not None
                if task is not None:
                    pool.submit(task)
            if pool.in_flight or self.running:
                for answer in pool.ready(timeout=0.2):
                    self._sort_in(pending, answer, pool)
            if self._engine_is_free() and (len(self.waiting) >= self.half or (self.waiting and not more and not pool.in_flight)):
                self._submit(model, pool)
            self._commit_finished(wait=False)
        self._commit_finished(wait=True)  # after Ctrl-C too: the batch in hand is kept
        self._commit_copies()

    def _engine_is_free(self) -> bool:
        """Whether the engine may go on: it has ended its half, and no other half waits for being committed."""
        return len(self.running) < min(HANDS, self.settings.batch_size) and all(future.done() for _, future in self.running)

    def _tasks(self, pending: Iterable[Photo]) -> Iterator[Task]:
        for number, file in enumerate(pending):
            yield self._task(number, file.path, file.stamp.size)

    def _task(self, number: int, path: str, size: int) -> Task:
        """Hand over a file with the digests of embedded contents of its size: one that has such a digest need not be decoded.

        Where many photos have one size (uncompressed pictures of one camera), handing all digests to the worker each time would make the
        run quadratic: then the worker is asked for the file's digest first.
        """
        if size not in self.crowded:
            digests = self.store.catalogue.digests_of_size(size)
            if len(digests) <= FEW:
                return Task(number, path, tuple(digest for digest in digests if not self._is_new(digest)))
            self.crowded.add(size)
        return Task(number, path, digest_only=True)

    def _sort_in(self, pending: list[Photo], answer: Answer, pool: DecodePool) -> None:
        """Put an answer where it belongs: failed, known content, back to the workers, or to the engine."""
        if answer.number == NOBODY or (answer.kind == "crash" and self.cancel.is_set()):  # a signal to the group may hit a worker that is still starting
            return
        file = pending[answer.number]
        self.decode_seconds += answer.seconds
        if answer.decoded is None:
            self._fail(file, answer)
        elif answer.decoded.pixels is not None:
            self.waiting.append(Ready(file, answer))
        elif self._is_new(answer.decoded.digest):  # only its digest was asked for
            pool.submit(Task(answer.number, file.path))
        else:
            self.copies.append(Ready(file, answer))

    def _fail(self, file: Photo, answer: Answer) -> None:
        self.report.failed += 1
        self.report.failures.append(Failure(file.shown, answer.reason, answer.kind))
        if answer.kind not in ("missing", "changing"):  # these may be well at the next run
            self.store.add_failure(file.folder, file.name, file.stamp, answer.kind, answer.reason)
        self.progress.advance()

    def _submit(self, model: ThreadPoolExecutor, pool: DecodePool) -> None:
        batch, self.waiting = self.waiting[: self.half], self.waiting[self.half :]
        pixels = np.zeros((self.half if self.backbone.padded else len(batch), self.backbone.input.size, self.backbone.input.size, 3), np.uint8)
        for row, ready in enumerate(batch):
            assert ready.answer.decoded is not None and ready.answer.decoded.pixels is not None
            pixels[row] = ready.answer.decoded.pixels
        future = model.submit(self._encode, pixels)
        future.add_done_callback(lambda _: pool.ring())
        self.running.append((batch, future))

    def _encode(self, pixels: np.ndarray) -> Features:
        began = time.monotonic()
        features = self.engine().encode_images(pixels)
        self.model_seconds += time.monotonic() - began
        return features

    def _commit_finished(self, *, wait: bool) -> None:
        while self.running and (wait or self.running[0][1].done()):
            batch, future = self.running.popleft()
            self._commit(batch, future.result())
        if len(self.copies) >= self.settings.batch_size and not self.running:
            self._commit_copies()

    def _commit(self, batch: list[Ready], features: Features) -> None:
        """Record a batch; contents that became known meanwhile get no second row."""
        files = [new_file(ready) for ready in batch]
        fresh = [row for row, file in enumerate(files) if file.digest not in {f.digest for f in files[:row]} and self._is_new(file.digest)]
        tokens = features.tokens[fresh] if features.tokens is not None and self.settings.tokens else None
        stages = features.stages[fresh] if features.stages is not None else None
        self.store.add(self.space, Batch(files, features.pooled[fresh], tokens, [files[row].digest for row in fresh], stages))
        again = len(self.replaced.intersection(self.store.catalogue.content_of(files[row].digest) for row in fresh))
        for ready, file in zip(batch, files, strict=True):
            content = self.store.catalogue.content_of(file.digest)
            self.embedded.add(content)
            self.gallery.add(content, ready.file.shown)
        self.report.new += len(fresh) - again
        self.report.again += again
        self.report.copies += len(batch) - len(fresh)
        self.progress.advance(len(batch))

    def _is_new(self, digest: bytes) -> bool:
        content = self.store.catalogue.content_of(digest)
        return content == 0 or content not in self.embedded

    def _commit_copies(self) -> None:
        """Record files whose content is in the store already (or has just come there)."""
        if not self.copies:
            return
        self.store.add(self.space, Batch([new_file(ready) for ready in self.copies]))
        for ready in self.copies:
            assert ready.answer.decoded is not None
            self.gallery.add(self.store.catalogue.content_of(ready.answer.decoded.digest), ready.file.shown)
        self.report.copies += len(self.copies)
        self.progress.advance(len(self.copies))
        self.copies = []


def new_file(ready: Ready) -> NewFile:
    decoded = ready.answer.decoded
    assert decoded is not None
    return NewFile(ready.file.folder, ready.file.name, decoded.stamp, decoded.digest, decoded.facts)


def worker_options(backbone: Backbone, settings: Settings, *, allow_truncated: bool = False) -> WorkerOptions:
    """Return what a decoding process keeps to: the tower's input and the limits of the settings."""
    options = DecodeOptions(backbone.input, settings.max_megapixels * MEGA, allow_truncated=allow_truncated)
    return WorkerOptions(options, settings.time_limit_photo, settings.memory_limit_photo << 20)


def reader(backbone: Backbone, settings: Settings, *, allow_truncated: bool = False) -> Reader:
    """Return what reads single photos, within the same limits."""
    return Reader(worker_options(backbone, settings, allow_truncated=allow_truncated))
