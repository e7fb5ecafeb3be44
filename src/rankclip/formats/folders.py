"""A folder in order: numbered links or copies (0001_name.jpg), so that any file manager shows the ranking."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rankclip.errors import InputError
from rankclip.types import Ranking

NUMBERED = re.compile(r"^\d{4,}_")
LONGEST_NAME = 255  # bytes, on every common file system


@dataclass(frozen=True, slots=True)
class Placement:
    """One photo and where it goes."""

    source: str
    target: str


def placements(ranking: Ranking, folder: str) -> Iterator[Placement]:
    """Say what goes where, best first."""
    digits = max(4, len(str(ranking.gallery)))
    for hit in ranking:
        name = os.fsdecode(f"{hit.rank:0{digits}d}_".encode() + os.fsencode(os.path.basename(hit.path))[-(LONGEST_NAME - digits - 1) :])
        yield Placement(os.path.abspath(hit.path), os.path.join(folder, name))


def link_to(ranking: Ranking, folder: str) -> int:
    """Make numbered symbolic links; those of an earlier run are replaced. Returns how many."""
    _prepare(folder, replace=lambda path: os.path.islink(path))
    return _place(ranking, folder, os.symlink)


def copy_to(ranking: Ranking, folder: str) -> int:
    """Copy the photos under numbered names into a new or empty folder. Returns how many."""
    _prepare(folder, replace=lambda path: False)
    return _place(ranking, folder, shutil.copy2)


def _prepare(folder: str, *, replace: Callable[[str], bool]) -> None:
    """Make the folder; refuse one that holds anything that is not ours to remove."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = [os.path.join(folder, name) for name in os.listdir(folder)]
    others = [path for path in found if not (NUMBERED.match(os.path.basename(path)) and replace(path))]
    if others:
        raise InputError(f"{folder}: not empty ({os.path.basename(others[0])!r} and {len(others) - 1} more)", hint="name a new or empty folder")
    for path in found:
        os.unlink(path)


def _place(ranking: Ranking, folder: str, put: Callable[[str, str], object]) -> int:
    count = 0
    for placement in placements(ranking, folder):
        put(placement.source, placement.target)
        count += 1
    return count
