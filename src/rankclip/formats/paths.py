"""Plain paths, best first: one a line, or ended by NUL (`-0`), which any file name survives."""

from __future__ import annotations

from typing import BinaryIO

from rankclip.formats.base import FormatOptions, raw
from rankclip.types import Ranking


def write(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write the paths in one go: a million of them are one system call away."""
    end = b"\0" if options.null else b"\n"
    if ranking.paths:
        out.write(end.join(map(raw, ranking.paths)) + end)
