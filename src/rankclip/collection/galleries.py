"""Which photos are ordered: those seen on the disk just now, or those the store remembers. Both give contents and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rankclip.collection.embedding import Gallery
from rankclip.photos.sniff import RAW_EXTENSIONS, extension
from rankclip.store.store import Store


@dataclass(frozen=True, slots=True)
class Seen:
    """Photos found by a look at the disk."""

    contents: np.ndarray  # int64 [G]
    shown: list[str]

    @classmethod
    def of(cls, *galleries: Gallery) -> Seen:
        contents = [content for gallery in galleries for content in gallery.contents]
        return cls(np.array(contents, np.int64), [path for gallery in galleries for path in gallery.shown])

    def paths(self, index: np.ndarray) -> list[str]:
        return [self.shown[i] for i in index.tolist()]


class Remembered:
    """Photos of some roots as the catalogue has them (`--no-scan`): the disk is not looked at, files may be gone."""

    def __init__(self, store: Store, roots: Sequence[str]) -> None:
        self.store, self.roots = store, roots
        names = {number: shown for number, shown in self._folders() if shown is not None}
        self._shown = names
        self.files, self.contents = store.catalogue.locations(names)
        self._add_single_files()

    def _folders(self) -> list[tuple[int, str | None]]:
        """Pair every folder with its path as the user would see it, None where no root holds it."""
        roots = [(os.path.abspath(root), root.rstrip("/") or root) for root in self.roots if not os.path.isfile(root)]
        return [(number, shown_below(path, roots)) for number, path in self.store.catalogue.folders().items()]

    def _add_single_files(self) -> None:
        for root in self.roots:
            if os.path.isfile(root):
                folder, name = os.path.split(os.path.abspath(root))
                number = self.store.catalogue.folder_id(folder)
                files, contents = self.store.catalogue.locations([number])
                for file, content in zip(files.tolist(), contents.tolist(), strict=True):
                    if file not in self._known and self.store.catalogue.where([file])[file][1] == name:
                        self._shown.setdefault(number, os.path.split(root)[0] or ".")
                        self.files, self.contents = np.append(self.files, file), np.append(self.contents, content)

    @cached_property
    def _known(self) -> set[int]:
        return set(self.files.tolist())

    def paths(self, index: np.ndarray) -> list[str]:
        files = self.files[index].tolist()
        found = self.store.catalogue.where(files)
        return [joined(self._shown[folder], name) for folder, name in (found[file] for file in files)]


def shown_below(path: str, roots: list[tuple[str, str]]) -> str | None:
    """Return a folder's path through the first root that holds it."""
    for absolute, shown in roots:
        if path == absolute:
            return shown
        inside = absolute.rstrip("/") + "/"
        if path.startswith(inside):
            return joined(shown, path[len(inside) :])
    return None


def joined(folder: str, name: str) -> str:
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def without_copies(gallery: Seen | Remembered) -> Seen:
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
