"""A table for people: rank, score, file as a link that a terminal can open."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rankclip.formats.base import FormatOptions, clock, is_text, printable
from rankclip.types import Hit, Ranking

PLAIN_WIDTH = 80


def write(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write the table, as wide as the terminal."""
    text = io.StringIO()
    console = Console(file=text, width=options.width or PLAIN_WIDTH, force_terminal=options.colour, color_system="standard" if options.colour else None,
                      no_color=not options.colour, highlight=False, markup=False, emoji=False, legacy_windows=False)  # fmt: skip
    console.print(table(ranking, links=options.colour))
    if len(ranking) < ranking.gallery:
        console.print(f" {len(ranking):,} of {ranking.gallery:,} photos; --all shows every one", style="dim")
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))


def table(ranking: Ranking, *, links: bool) -> Table:
    """Build the rich table of a ranking."""
    found = Table(box=SIMPLE_HEAD, pad_edge=False, expand=False)
    found.add_column("rank", justify="right", no_wrap=True)
    with_values = ranking.values is not None
    found.add_column(ranking.unit or "value" if with_values else ranking.meaning, justify="right", no_wrap=True)
    if ranking.taken is None:
        found.add_column("better than", justify="right", no_wrap=True)
    found.add_column("photo", overflow="fold")
    for hit in ranking:
        better = [] if ranking.taken is not None else ["" if hit.percentile is None else f"{hit.percentile:.0f} %"]
        found.add_row(str(hit.rank), score_text(hit, with_values=with_values), *better, path_text(hit.path, links=links))
    return found


def score_text(hit: Hit, *, with_values: bool) -> str:
    if hit.applies is False:
        return "does not apply"
    if hit.taken_at is not None:
        return clock(hit.taken_at)
    if not with_values:
        return f"{hit.score:+.3f}"
    if hit.value is None:
        return "unknown"
    spread = f" ± {(hit.interval[1] - hit.interval[0]) / 2:.2g}" if hit.interval is not None else ""
    return f"{hit.value:.3g}{spread}"


def path_text(path: str, *, links: bool) -> Text:
    shown = Text(printable(path))
    if links and is_text(path):
        shown.stylize(f"link {Path(os.path.abspath(path)).as_uri()}")
    return shown
