"""One look at the disk, compared with the store: what is unchanged, moved, remembered as unreadable, or must be read."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field
from functools import partial

from rankclip.photos.discover import Listing, Walk
from rankclip.store.keys import KnownFile, State, state
from rankclip.store.store import Store, View
from rankclip.types import FileStamp, Photo


@dataclass(slots=True)
class Gallery:
    """The readable photos of some roots: content numbers and paths as the user sees them, side by side."""

    contents: list[int] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def add(self, content: int, shown: str) -> None:
        self.contents.append(content)
        self.shown.append(shown)


@dataclass(slots=True)
class Survey:
    """What one look at the disk found, compared with the store."""

    gallery: Gallery = field(default_factory=Gallery)
    moved: list[tuple[str, str, FileStamp, int]] = field(default_factory=list)
    pending: list[Photo] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    unchanged: int = 0
    gone: int = 0  # known, below the roots, and not on the disk


def survey(walk: Walk, store: Store | None, view: View | None, *, retry: bool = False, force: bool = False) -> Survey:
    """Compare every candidate with the store: one `stat` each, nothing is read."""
    found = Survey()
    embedded: Container[int] = view.embedded if view is not None and not force else ()
    listed: set[str] = set()
    for listing in walk.listings():
        known = store.catalogue.files_in(listing.folder) if store is not None else {}
        if listing.whole:
            listed.add(listing.folder)
            found.gone += _gone(listing, known)
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
                found.pending.append(Photo(listing.folder, entry.name, entry.shown, FileStamp.of(facts)))
    if store is not None and listed:
        found.gone += _gone_below(store, [os.path.abspath(root) for root in walk.roots], listed)
    return found


def _gone(listing: Listing, known: dict[str, KnownFile]) -> int:
    """Count the known photos of a folder that are gone from it (those only left out this time are still there)."""
    names = {entry.name for entry in listing.entries}
    return sum(file.content != 0 and not os.path.lexists(f"{listing.folder}/{name}") for name, file in known.items() if name not in names)


def _gone_below(store: Store, roots: list[str], listed: set[str]) -> int:
    """Count the known photos of folders that are gone as a whole."""
    gone = [folder for folder in store.catalogue.folders().values()
            if folder not in listed and any(folder.startswith(root.rstrip("/") + "/") for root in roots) and not os.path.lexists(folder)]  # fmt: skip
    return sum(file.content != 0 for folder in gone for file in store.catalogue.files_in(folder).values())


def _at_inode(store: Store | None, facts: os.stat_result) -> KnownFile | None:
    return store.catalogue.file_at_inode(facts.st_dev, facts.st_ino) if store is not None else None
