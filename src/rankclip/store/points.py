"""Named places where a kill would hurt most: a test sets `hook` and proves that it does not.

`reach` costs one call of an empty function; nothing else in the store knows about tests.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "migration",  # the tables are made, not committed
    "rows-written",  # a batch's bytes are in the files, the transaction has not begun
    "batch-commit",  # the transaction is whole, not committed
    "synced",  # the files are on the disk, the mark is not
    "score-written",  # a score file is written beside the old one
    "prune-commit",  # files are forgotten, not committed
    "compact-written",  # the new files are written beside the old ones
    "compact-commit",  # the catalogue names the new files, not committed
    "compact-done",  # committed; the old files are still there
    "repair-commit",  # damaged rows are dropped, not committed
)


def _nothing(point: str) -> None:
    pass


hook: Callable[[str], None] = _nothing


def reach(point: str) -> None:
    assert point in POINTS, point
    hook(point)
