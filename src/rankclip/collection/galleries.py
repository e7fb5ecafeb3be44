"""Which photos are ordered: those seen on the disk just now, or those the store remembers. Both give contents and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rankclip.collection.survey import Gallery
from rankclip.photos.sniff import RAW_EXTENSIONS, extension
from rankclip.store.store import Store, View


class Photos(Protocol):
    """The photos that are ordered."""

    @property
    def contents(self) -> np.ndarray:
        """Content numbers, int64 [G]."""
        ...

    def paths(self, index: np.ndarray) -> list[str]:
        """Return the paths at some positions, as the user sees them."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Photos found by a look at the disk."""

    contents: np.ndarray
    shown: list[str]

    @classmethod
    def of(cls, *galleries: Gallery) -> Seen:
        contents = [content for gallery in galleries for content in gallery.contents]
        return cls(np.array(contents, np.int64), [path for gallery in galleries for path in gallery.shown])

    def paths(self, index: np.ndarray) -> list[str]:
        return [self.shown[i] for i in index.tolist()]


class Remembered:
    """Photos of some roots as the store has them (`--no-scan`): the disk is not looked at, files may be gone."""

    def __init__(self, store: Store, roots: Sequence[str]) -> None:
        self.files = store.snapshot()
        places = [(os.fsencode(store.catalogue.stored_folder(os.path.abspath(root))), os.fsencode(root.rstrip("/") or "/")) for root in roots]
        spans = [(span, place) for place in places for span in self._spans(place[0])]
        # a file is shown through the first root that holds it
        self.where = np.concatenate([np.arange(*span) for span, _ in spans] or [np.empty(0, np.int64)])
        self.root = np.concatenate([np.full(span[1] - span[0], number) for number, (span, _) in enumerate(spans)] or [np.empty(0, np.int64)])
        if len(spans) > 1:
            self.where, first = np.unique(self.where, return_index=True)
            self.root = self.root[first]
        self.cuts = [(len(stored), shown) for _, (stored, shown) in spans]
        self.contents = self.files.contents[self.where]

    def _spans(self, stored: bytes) -> list[tuple[int, int]]:
        """Positions in the sorted files of a file, or of what lies below a folder."""
        if stored in (b"/", b"."):
            stored = stored.rstrip(b"/")
        spans = [(self._place(stored), self._place(stored + b"\0")), (self._place(stored + b"/"), self._place(stored + b"0"))]  # "0" follows "/"
        return [span for span in spans if span[0] < span[1]]

    def _place(self, path: bytes) -> int:
        """The first position whose path is not before `path`."""
        low, high = 0, len(self.files)
        while low < high:
            middle = (low + high) // 2
            if self._stored(middle) < path:
                low = middle + 1
            else:
                high = middle
        return low

    def _stored(self, position: int) -> bytes:
        return self.files.paths[self.files.starts[position] : self.files.starts[position + 1]]

    def paths(self, index: np.ndarray) -> list[str]:
        where, data, decode = self.where[index], self.files.paths, os.fsdecode
        starts, ends = self.files.starts[where].tolist(), self.files.starts[where + 1].tolist()
        if len(self.cuts) == 1:  # one root: the common case, and a million paths pass here
            cut, shown = self.cuts[0]
            lead = decode(shown)
            return [lead + decode(data[start + cut : end]) for start, end in zip(starts, ends, strict=True)]
        return [
            decode(self.cuts[root][1] + data[start + self.cuts[root][0] : end])
            for root, start, end in zip(self.root[index].tolist(), starts, ends, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The photos of a gallery that have an embedding. places: int64 [G], positions in the gallery; rows: int64 [G], rows of the view."""

    gallery: Photos
    places: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, gallery: Photos, view: View) -> Embedded:
        rows = view.rows_of(gallery.contents)  # int64 [all], -1 where there is no embedding
        places = np.flatnonzero(rows >= 0)
        return cls(gallery, places, rows[places])

    @property
    def missing(self) -> int:
        """How many photos of the gallery have no embedding."""
        return len(self.gallery.contents) - len(self.places)

    def paths(self, index: np.ndarray) -> list[str]:
        """Return the paths of some of them, as the user sees them."""
        return self.gallery.paths(self.places[index])

    def contents(self, index: np.ndarray) -> np.ndarray:
        """Content numbers of some of them, int64."""
        return self.gallery.contents[self.places[index]]


def without_copies(gallery: Photos) -> Seen:
    """Keep one path for each content (the first by path), and one of a RAW and JPEG pair."""
    everything = np.arange(len(gallery.contents))
    names = gallery.paths(everything)
    by_path = sorted(everything.tolist(), key=lambda i: os.fsencode(names[i]))
    developed = {os.path.splitext(names[i])[0] for i in by_path if extension(names[i]) not in RAW_EXTENSIONS}
    kept: list[int] = []
    contents: set[int] = set()
    for i in by_path:
        stem, kind = os.path.splitext(names[i])[0], extension(names[i])
        content = int(gallery.contents[i])
        if content not in contents and not (kind in RAW_EXTENSIONS and stem in developed):
            contents.add(content)
            kept.append(i)
    return Seen(gallery.contents[kept], [names[i] for i in kept])
