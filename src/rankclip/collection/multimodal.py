"""A multimodal language model as composer: it reads the reference and the instruction together; alone, or as a second judge of the first photos.

In a store that it has embedded, its query is searched with like any other. Where its space is absent, the composer of the store's own model chooses
the first photos, the language model reads those few, and both orders are joined by their reciprocal ranks.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rankclip import scoring
from rankclip.backbones import specs
from rankclip.backbones.checkpoints import PREFIX
from rankclip.backbones.specs import Backbone
from rankclip.errors import InputError, Interrupted, PhotoError
from rankclip.registry import ENGINES, load, resolve
from rankclip.scoring import Order
from rankclip.settings import Settings
from rankclip.store.store import View
from rankclip.types import Progress

NAME = "mllm"
JUDGED = 20  # first photos that are read again: at 45 s a photo on a CPU this is a quarter of an hour
FUSION = 60  # k of reciprocal rank fusion (Cormack et al. 2009)
AT_ONCE = 4  # photos between two steps of the bar


def is_asked(composer: str) -> bool:
    """Whether a composer's name means a language model: "mllm" or "mllm:NAME"."""
    return composer == NAME or composer.startswith(PREFIX)


def find(composer: str) -> Backbone:
    """Return the model that "mllm:NAME" names; "mllm" alone is the only one that is here.

    Raises InputError where that leaves a choice, ModelError where the model is not here.
    """
    if composer != NAME:
        return specs.find(composer)
    here = [name for name in specs.installed() if name.startswith(PREFIX)]
    if len(here) != 1:
        raise InputError(f"--composer mllm: which model? {len(here)} are known here{': ' if here else ''}{', '.join(here)}",
                         hint="name it: --composer mllm:NAME, where NAME is a folder or a model of rankclip models list")  # fmt: skip
    return specs.find(here[0])


@dataclass(frozen=True, slots=True)
class Asked:
    """What is composed: weighted photos (by path) and weighted instructions."""

    photos: tuple[tuple[float, str], ...]
    texts: tuple[tuple[float, str], ...]


class Judge:
    """One language model, loaded when first needed."""

    def __init__(self, backbone: Backbone, settings: Settings, engine: Any = None) -> None:
        self.backbone, self.settings = backbone, settings
        self.known: dict[tuple[str, str], np.ndarray] = {}  # (path, instruction) -> float32 [D]
        self.judged: dict[str, np.ndarray] = {}  # path -> float32 [D]: the next instruction brings many of the same photos
        if engine is not None:
            self.engine = engine

    @cached_property
    def engine(self) -> Any:
        return resolve(ENGINES, NAME, what="engine")(self.backbone, self.settings)

    @cached_property
    def reader(self) -> Any:
        """What reads photos for this model: in a process of its own, within the limits of the settings (`photos.pool.Reader`)."""
        found = load("rankclip.collection.embedding").reader(self.backbone, self.settings, allow_truncated=True)
        weakref.finalize(self, found.close)
        return found

    def query(self, asked: Asked) -> np.ndarray:
        """Embed every photo with every instruction, weighted: float32 [D], unit."""
        total = np.zeros(self.backbone.width, np.float64)
        weights, texts = np.array([weight for weight, _ in asked.texts]), [text for _, text in asked.texts]
        for weight, path in asked.photos:
            self.read(path, texts)
            total += weight * (weights @ np.stack([self.known[path, text] for text in texts]))  # [D]
        return scoring.unit(total)

    def read(self, path: str, texts: Sequence[str]) -> None:
        """Embed one photo with many instructions at once, which then share what the photo costs; those that are known are left out."""
        missing = [text for text in dict.fromkeys(texts) if (path, text) not in self.known]
        if missing:
            found = self.engine.encode_changes(self.pixels(path), missing)
            self.known.update({(path, text): row for text, row in zip(missing, found, strict=True)})

    def photos(self, view: View, contents: np.ndarray, paths: Sequence[str], progress: Progress, cancel: threading.Event) -> np.ndarray:
        """Embed some photos, those that the store has in this space from there: float32 [K, D], unit rows.    contents: int64 [K].

        Raises Interrupted within AT_ONCE photos of the wish to stop.
        """
        rows = view.rows_of(contents)
        self.judged.update({paths[i]: view.read_embeddings(rows[i : i + 1])[0] for i in np.flatnonzero(rows >= 0).tolist()})
        missing = [path for path in paths if path not in self.judged]
        progress.start(len(missing), f"photos read by {self.backbone.name}")
        for start in range(0, len(missing), AT_ONCE):
            if cancel.is_set():
                raise self._stopped()
            some = missing[start : start + AT_ONCE]
            self.judged.update(zip(some, self.engine.encode_images(np.stack([self.pixels(path) for path in some])).pooled, strict=True))
            progress.advance(len(some))
        progress.done()
        return np.stack([self.judged[path] for path in paths])

    def _stopped(self) -> Interrupted:
        error = Interrupted(f"stopped while {self.backbone.name} read photos", signal_number=2)
        error.hint = f"what it read is not kept; rankclip embed --model {self.backbone.name} keeps it"
        return error

    def pixels(self, path: str) -> np.ndarray:
        """Decode a photo to this model's input, uint8 [S, S, 3]. Raises InputError for one that cannot be read."""
        try:
            decoded: np.ndarray = self.reader.read(path).pixels
        except PhotoError as error:
            raise InputError(f"{error.path}: {error.reason}", hint="embed again, so that the store knows what is there") from error
        return decoded


def fused(order: Order, cosines: np.ndarray) -> Order:
    """Join an order with a second one of its first places: the sum of 1 / (60 + rank) over both; photos after those keep their order.

    order: the first judge's. cosines: float [K], the second judge's, of the first K places.

    >>> fused(Order(np.arange(3), np.zeros(3), np.arange(1, 4)), np.array([0.1, 0.9])).index.tolist()
    [0, 1, 2]
    """
    size = len(cosines)
    scores = 1 / (FUSION + order.ranks.astype(np.float64))  # [all]
    second = np.empty(size, np.int64)
    second[np.argsort(-cosines, kind="stable")] = np.arange(1, size + 1)
    scores[:size] += 1 / (FUSION + second)
    along = np.concatenate([np.argsort(-scores[:size], kind="stable"), np.arange(size, len(scores))])
    return Order(order.index[along], np.round(scores[along], scoring.DIGITS), order.ranks)
