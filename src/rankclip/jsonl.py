"""JSON Lines that somebody else wrote: one object a line, every fault named by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankclip.errors import InputError


def read(path: Path, *, option: str = "", expected: str = "", hint: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a line stands ("pairs.jsonl, line 3") and its object; empty lines are left out.

    option: names the file in messages where a command has several. expected: said of a line that is no JSON object, instead of just that.
    Raises InputError for a file that cannot be read and for the first line that is no object.

    >>> for place, row in read(Path("pairs.jsonl")): print(place, row["text"])  # doctest: +SKIP
    pairs.jsonl, line 1 brighter
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {path}: {getattr(error, 'strerror', None) or error}".lstrip()) from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: {expected or 'not JSON'} ({error})", hint=hint) from error
        if not isinstance(found, dict):
            raise InputError(f"{place}: {expected or 'not a JSON object'}", hint=hint)
        yield place, found
