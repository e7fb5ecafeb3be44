"""Label files: which photo has which value, or which of two photos wins. CSV, TSV or JSONL; every fault names file and line."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rankclip.errors import InputError, reason

PATH_NAMES = ("path", "filepath", "file", "photo", "image")
VALUE_NAMES = ("value", "label", "score", "y")
TEXT_NAMES = ("instruction", "title")
PAIR_NAMES = ("winner", "loser")
COLUMNS = (*PATH_NAMES, *VALUE_NAMES, *TEXT_NAMES, *PAIR_NAMES, "unit", "cname", "sample_weights_by_class", "split", "group")


@dataclass(frozen=True, slots=True)
class Label:
    """One photo's value for one instruction. `place` is file and line, for messages."""

    path: str
    value: float
    instruction: str
    unit: str
    place: str
    split: str = ""  # train | val where the file says so


@dataclass(frozen=True, slots=True)
class Duel:
    """One comparison: the winner shows more of what the instruction names."""

    winner: str
    loser: str
    instruction: str
    place: str


@dataclass(frozen=True, slots=True)
class LabelFile:
    labels: tuple[Label, ...]
    duels: tuple[Duel, ...]

    def check_there(self) -> None:
        """Raise InputError, with file and line, for the first photo that is not there."""
        for named, place in self.places.items():
            if not os.path.lexists(named):
                raise InputError(f"{place}: {named} is not there", hint="correct the path, or leave the row out; paths start at the label file's folder")

    @property
    def places(self) -> dict[str, str]:
        """The first place that names each photo."""
        found = {label.path: label.place for label in reversed(self.labels)}
        return found | {path: duel.place for duel in reversed(self.duels) for path in (duel.winner, duel.loser)}

    @property
    def paths(self) -> list[str]:
        """All photos named, each once, in the file's order."""
        named = [label.path for label in self.labels] + [path for duel in self.duels for path in (duel.winner, duel.loser)]
        return list(dict.fromkeys(named))


def read(path: str | os.PathLike[str], *, instruction: str = "", unit: str = "") -> LabelFile:
    """Read a label file. Relative photo paths start at the file's own folder.

    instruction: for files whose rows name none. Raises InputError with file and line for the first bad row.

    >>> read("ages.csv", instruction="Sort by age", unit="years").labels[0].value  # doctest: +SKIP
    34.0
    """
    source = Path(path)
    labels: list[Label] = []
    duels: list[Duel] = []
    for place, row in rows(source):
        text = pick(row, TEXT_NAMES) or instruction
        if not text:
            raise InputError(f"{place}: no instruction", hint='add a column "instruction", or give --instruction "Sort by age"')
        if row.get("winner") and row.get("loser"):
            duels.append(Duel(located(source, row["winner"]), located(source, row["loser"]), text, place))
        else:
            labels.append(one_label(source, row, place, text, unit))
    if not labels and not duels:
        raise InputError(f"{source}: no rows", hint="a label file has the columns path and value, or winner and loser")
    if labels and duels:
        raise InputError(f"{source}: some rows have a value and some a winner and loser", hint="keep the two kinds in separate files")
    return LabelFile(tuple(labels), tuple(duels))


def one_label(source: Path, row: dict[str, str], place: str, text: str, unit: str) -> Label:
    photo, value = pick(row, PATH_NAMES), pick(row, VALUE_NAMES)
    if not photo:
        raise InputError(f"{place}: no path", hint=f"the columns are {', '.join(sorted(row))}; one of {', '.join(PATH_NAMES)} is needed")
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"{place}: {value!r} is not a number", hint="every row needs a value") from None
    if not math.isfinite(number):
        raise InputError(f"{place}: the value is {value}", hint="leave out rows without a value")
    return Label(located(source, photo), number, text, row.get("unit") or unit, place, row.get("split", ""))


def pick(row: dict[str, str], names: tuple[str, ...]) -> str:
    """Return the first column of these names that has something in it."""
    return next((row[name].strip() for name in names if row.get(name, "").strip()), "")


def located(source: Path, photo: str) -> str:
    return photo if os.path.isabs(photo) or source.parent == Path(".") else os.path.join(source.parent, photo)


def rows(source: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield "file:line" and the row as text."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{source}: {reason(error)}") from error
    yield from json_rows(source, text) if source.suffix in (".jsonl", ".ndjson") else table_rows(source, text)


def json_rows(source: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{source}:{number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(f"{source}:{number}: not a JSON object", hint='for example {"path": "a.jpg", "value": 3}')
            yield f"{source}:{number}", {key: "" if value is None else str(value) for key, value in row.items()}


def table_rows(source: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """CSV or TSV; without a known column name in the first line, the columns are path and value."""
    separator = "\t" if source.suffix == ".tsv" or ("\t" in text.partition("\n")[0]) else ","
    lines = list(csv.reader(text.splitlines(), delimiter=separator))
    if not lines:
        return
    header = [name.strip().lower() for name in lines[0]]
    named = any(name in COLUMNS for name in header)
    names = header if named else ["path", "value", "instruction"][: len(header)]
    for number, cells in enumerate(lines[named:], 1 + named):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InputError(f"{source}:{number}: {len(cells)} columns, {len(names)} expected", hint=f"columns: {', '.join(names)}")
        yield f"{source}:{number}", dict(zip(names, cells, strict=True))
