"""Ask ten things of four photo packs, write a contact sheet for each, and count how many of the first photos are right where labels say so.

    python examples/sheets.py --shared ../shared --out /tmp/sheets        (or: make sheets SHARED=../shared SHEETS=/tmp/sheets)

The packs' pictures may not be shipped, so the sheets belong outside the repository; docs/examples.md tells what they showed.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip import Collection
from rankclip.evaluation.ranking import srcc
from rankclip.formats import contact_sheet
from rankclip.formats.base import FormatOptions

TOP = 24  # photos on a sheet
Label = Callable[[dict], float]  # row of a pack -> 1 or 0 (right or not), or a number to be in order by


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask of a pack. label: what says whether a photo is right; None where only a person can tell."""

    pack: str
    text: str
    label: Label | None = None
    first: int = 6  # how many photos should be right; 0: all photos in the order of the label


QUESTIONS = (
    Question("caltech101", "a butterfly", lambda row: row["label_text"] == "butterfly"),
    Question("caltech101", "a grand piano", lambda row: row["label_text"] == "grand piano"),
    Question("caltech101", "a photo of a stop sign", lambda row: row["label_text"] == "stop sign"),
    Question("fashion", "red dresses first", lambda row: row["colour"] == "Red" and row["type"] == "Dresses"),
    Question("fashion", "a yellow t-shirt", lambda row: row["colour"] == "Yellow" and row["type"] == "Tshirts"),
    Question("fashion", "from black to white shoes", lambda row: row["colour"] == "Black" and "Shoes" in row["type"]),
    Question("counting", "playing cards on a table", lambda row: "cards" in row["dataset"]),
    Question("counting", "most people first", lambda row: row.get("counts", {}).get("person", 0), first=0),
    Question("photos_exif", "from night to day"),
    Question("photos_exif", "a landscape with mountains"),
)


def unpack(shared: Path, out: Path, pack: str) -> list[dict]:
    """Unpack a pack once; returns its rows."""
    if not (out / "photos" / pack).exists():
        with tarfile.open(shared / "data" / f"{pack}.tar") as packed:
            packed.extractall(out / "photos" / pack, filter="data")
    return [json.loads(line) for line in (shared / "data" / f"{pack}.jsonl").read_text().splitlines()]


def right(question: Question, ranking, rows: list[dict], folder: Path) -> str:
    """Say how far the order agrees with the labels."""
    if question.label is None:
        return "by eye"
    label = {str(folder / row["path"]): float(question.label(row)) for row in rows}
    found = np.array([label[path] for path in ranking.paths])
    if question.first:
        return f"{int(found[: question.first].sum())} of the first {question.first} ({int(found.sum())} in all)"
    return f"rank correlation {srcc(found, -np.arange(len(found), dtype=float)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--out", type=Path, required=True, help="where photos, store and sheets go; outside the repository")
    options = parser.parse_args()
    for number, question in enumerate(QUESTIONS, 1):
        rows, folder = unpack(options.shared, options.out, question.pack), options.out / "photos" / question.pack
        collection = Collection(folder, store=str(options.out / "store"))
        ranking = collection.rank(question.text)
        sheet = options.out / f"{number:02}-{question.pack}.html"
        with sheet.open("wb") as page:
            contact_sheet.write(collection.rank(question.text, scan=False, top=TOP), page, FormatOptions())
        print(f"{question.pack:12} {question.text:30} {ranking.method:11} {right(question, ranking, rows, folder):35} {sheet.name}", flush=True)


if __name__ == "__main__":
    main()
