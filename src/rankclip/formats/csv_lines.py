"""Columns with a header: comma-separated with quotes where needed, or tab-separated with escapes instead of quotes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from rankclip.formats.base import FormatOptions, printable
from rankclip.types import Ranking

COLUMNS = ("rank", "score", "percentile", "value", "unit", "path")


def rows(ranking: Ranking) -> Iterator[list[str]]:
    yield list(COLUMNS)
    for hit in ranking:
        value = hit.taken_at or "" if hit.value is None else f"{hit.value:.4g}"
        percentile = "" if hit.percentile is None else f"{hit.percentile:.2f}"
        yield [str(hit.rank), f"{hit.score:.6f}", percentile, value, ranking.unit, hit.path]


def write_csv(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write RFC 4180 lines; bytes of a path that are not UTF-8 come out as they are."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows(ranking))
    out.write(text.getvalue().encode("utf-8", "surrogateescape"))


def write_tsv(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write lines that `cut` and `awk` can take apart: a tab or newline in a path is escaped."""
    for row in rows(ranking):
        out.write("\t".join([*row[:-1], printable(row[-1])]).encode("utf-8", "surrogateescape") + b"\n")
