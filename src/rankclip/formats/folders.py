"""A folder in order: numbered links or copies (0001_name.jpg), so that any file manager shows the ranking."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankclip.errors import InputError, reason
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
    """Make numbered symbolic links; those of an earlier run are replaced. Returns how many. Raises InputError as `check` does."""
    return _place(ranking, folder, os.symlink, links=True)


def copy_to(ranking: Ranking, folder: str) -> int:
    """Copy the photos under numbered names into a new or empty folder. Returns how many. Raises InputError as `check` does."""
    return _place(ranking, folder, shutil.copy2, links=False)


def check(folder: str, *, links: bool) -> list[str]:
    """Return the links of an earlier run in a folder, which may be replaced; nothing is written.

    Raises InputError for a folder that holds anything that is not ours to remove, or that cannot be listed.
    """
    if not os.path.lexists(folder):
        return []
    with _named(folder):
        found = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    others = [path for path in found if not (links and NUMBERED.match(os.path.basename(path)) and os.path.islink(path))]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(f"{folder}: not empty ({os.path.basename(others[0])!r}{more})", hint="name a new or empty folder")
    return found


def _place(ranking: Ranking, folder: str, put: Callable[[str, str], object], *, links: bool) -> int:
    count = 0
    with _named(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path in check(folder, links=links):
            os.unlink(path)
        for placement in placements(ranking, folder):
            put(placement.source, placement.target)
            count += 1
    return count


@contextmanager
def _named(folder: str) -> Iterator[None]:
    """Turn the system's refusals into one line: a full or read-only disk, a photo that is gone."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and isinstance(error.filename, str) and os.path.isdir(folder):
            raise InputError(
                f"{error.filename}: cannot be copied ({reason(error)})", hint="leave out --no-scan: then photos that are gone are left out"
            ) from error
        raise InputError(f"{folder}: cannot be written ({reason(error)})", hint="name a folder on a disk with room that you may write to") from error
