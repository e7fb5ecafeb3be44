"""One look at the disk, compared with the store: what is unchanged, moved, remembered as unreadable, or must be read."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field
from functools import partial

from rankclip.photos.discover import Walk
from rankclip.store.keys import KnownFile, State, state
from rankclip.store.store import Store, View
from rankclip.types import FileStamp


@dataclass(slots=True)
class Gallery:
    """The readable photos of some roots: content numbers and paths as the user sees them, side by side."""

    contents: list[int] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def add(self, content: int, shown: str) -> None:
        self.contents.append(content)
        self.shown.append(shown)


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that must be read."""

    folder: str
    name: str
    shown: str
    stamp: FileStamp

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder != "/" else f"/{self.name}"


@dataclass(slots=True)
class Survey:
    """What one look at the disk found, compared with the store."""

    gallery: Gallery = field(default_factory=Gallery)
    moved: list[tuple[str, str, FileStamp, int]] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    unchanged: int = 0


def survey(walk: Walk, store: Store | None, view: View | None, *, retry: bool = False, force: bool = False) -> Survey:
    """Compare every candidate with the store: one `stat` each, nothing is read."""
    found = Survey()
    embedded: Container[int] = view.embedded if view is not None and not force else ()
    for listing in walk.listings():
        known = store.catalogue.files_in(listing.folder) if store is not None else {}
        for entry in listing.entries:
            facts, at_path = entry.stat, known.get(entry.name)
            at_inode = partial(_at_inode, store, facts)
            what = state(facts.st_size, facts.st_mtime_ns, at_path, at_inode, embedded, retry=retry)
            if what is State.UNCHANGED and at_path is not None:
                found.unchanged += 1
                found.gallery.add(at_path.content, entry.shown)
            elif what is State.MOVED and (moved := at_inode()) is not None:
                found.moved.append((listing.folder, entry.name, FileStamp.of(facts), moved.content))
                found.gallery.add(moved.content, entry.shown)
            elif what is State.REMEMBERED:
                found.remembered.append(entry.shown)
            else:
                found.pending.append(Pending(listing.folder, entry.name, entry.shown, FileStamp.of(facts)))
    return found


def _at_inode(store: Store | None, facts: os.stat_result) -> KnownFile | None:
    return store.catalogue.file_at_inode(facts.st_dev, facts.st_ino) if store is not None else None
