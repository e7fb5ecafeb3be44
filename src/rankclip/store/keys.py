"""The only definition of "this photo is already embedded in this space".

Everything that must decide whether a photo needs work asks `state`; two skip rules would be no skip rule.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container
from dataclasses import dataclass


class State(enum.Enum):
    """What has to happen with a file."""

    UNCHANGED = "unchanged"  # nothing: one `stat` has told
    MOVED = "moved"  # record the new path; its content is embedded
    REMEMBERED = "remembered"  # failed before and has not changed since
    PENDING = "pending"  # read it: new, changed, or not yet in this space


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalogue remembers of a path (or of an inode, for a file that moved)."""

    size: int
    mtime_ns: int
    content: int  # 0: the file could not be read


def same(known: KnownFile, size: int, mtime_ns: int) -> bool:
    """Tell whether a file is as it was. Inode and device are left out: they change when a disk is mounted again."""
    return known.size == size and known.mtime_ns == mtime_ns


def state(
    size: int, mtime_ns: int, at_path: KnownFile | None, at_inode: Callable[[], KnownFile | None], embedded: Container[int], *, retry: bool = False
) -> State:
    """Decide what a file needs.

    size, mtime_ns: what `stat` says now. at_path: what is known of its path. at_inode: asks what is known of a file with its device and inode (only
    called if the path tells nothing). embedded: the content ids that have a row in the space. retry: read again what failed before.

    >>> state(10, 5, KnownFile(10, 5, 7), lambda: None, {7})
    <State.UNCHANGED: 'unchanged'>
    >>> state(10, 6, KnownFile(10, 5, 7), lambda: None, {7})
    <State.PENDING: 'pending'>
    """
    if at_path is not None and same(at_path, size, mtime_ns):
        if at_path.content == 0:
            return State.PENDING if retry else State.REMEMBERED
        return State.UNCHANGED if at_path.content in embedded else State.PENDING
    if at_path is None and (moved := at_inode()) is not None and same(moved, size, mtime_ns) and moved.content in embedded:
        return State.MOVED
    return State.PENDING
