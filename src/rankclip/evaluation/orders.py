"""Label sets in their official layouts, and the measurement of an order against them.

| set | what is read | label | instruction |
|---|---|---|---|
| csv | any label file (`labels.read`) | its values | its own, or --instruction |
| utkface | a folder of `AGE_GENDER_RACE_DATE.jpg` | age in years | Sort by age |
| adience | `fold_*_data.txt` beside `faces/` or `aligned/` | class 0 ... 7 of eight age groups | Sort by age |
| hci | folders named by decade, 1930s ... 1970s | decade 0 ... 4 | Sort by the year the photo was taken |
| koniq | `koniq10k_scores_and_distributions.csv` beside `1024x768/` or `512x384/` | MOS, 1 ... 5 | Rank the technical quality of the photos |
| ava | `AVA.txt` (counts of the scores 1 ... 10) beside `images/` | mean score | Sort by beauty |
| coco-rem | an `instances_*.json` beside the pictures | count of each class | Rank the number of {class} |

Pictures are the user's: none is fetched. Where they come from is said when they are not there.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip.collection import Collection
from rankclip.errors import InputError
from rankclip.evaluation import labels
from rankclip.evaluation import ranking as metrics
from rankclip.evaluation.figure import Figure

AGE, QUALITY = "Sort by age", "Rank the technical quality of the photos"
ADIENCE_GROUPS = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))  # years
DECADES = ("1930s", "1940s", "1950s", "1960s", "1970s")
SOURCES = {
    "utkface": "UTKFace: ask its authors (susanqq.github.io/UTKFace), non-commercial research only",
    "adience": "Adience: register at the Open University of Israel's Adience page for faces.tar.gz and the five fold files",
    "hci": "Historical Color Images: Palermo et al. 2012, Carnegie Mellon's page of the paper",
    "koniq": "KonIQ-10k: database.mmsp-kn.de",
    "ava": "AVA: the list of scores is public, the photos belong to dpchallenge.com",
    "coco-rem": "COCO-REM annotations with COCO 2017 pictures from cocodataset.org",
}


@dataclass(frozen=True, slots=True)
class Row:
    path: str
    value: float


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels for one instruction."""

    name: str
    instruction: str
    rows: tuple[Row, ...]
    classes: bool = False  # labels are ordinal classes: accuracy makes sense
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How well an order agrees with labels. values, predictions: float64 [N]."""

    name: str
    instruction: str
    method: str
    photos: int
    missing: int
    figures: dict[str, Figure]
    values: np.ndarray
    predictions: np.ndarray


# ---------------------------------------------------------------- layouts


def read(kind: str, source: Path, *, images: Path | None = None, instruction: str = "") -> list[LabelSet]:
    """Read a label set. Raises InputError with the file, or with where the set comes from."""
    if kind not in LAYOUTS:
        raise InputError(f"unknown label set {kind!r}", hint=f"valid: {', '.join(LAYOUTS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder", hint=SOURCES.get(kind, ""))
    found = LAYOUTS[kind](source, images or (source if source.is_dir() else source.parent), instruction)
    if not any(one.rows for one in found):
        raise InputError(f"{source}: no labelled photos in the layout of {kind}", hint=SOURCES.get(kind, ""))
    return found


def read_csv(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for label in labels.read(source, instruction=instruction).labels:
        groups[label.instruction, label.unit].append(Row(label.path, label.value))
    return [LabelSet(source.name, text, tuple(rows), unit=unit) for (text, unit), rows in groups.items()]


def read_utkface(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    named = re.compile(r"(\d{1,3})_[01]_[0-4]_\d+.*\.jpg", re.I)
    rows = [Row(str(path), float(match[1])) for path in sorted(images.rglob("*.jpg")) if (match := named.fullmatch(path.name))]
    return [LabelSet("UTKFace", instruction or AGE, tuple(rows), unit="years")]


def read_adience(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    """One set a fold; ages that the lists give as a single year go to their group, as the field does."""
    files = sorted(source.glob("fold_*_data.txt")) if source.is_dir() else [source]
    return [LabelSet(f"Adience {file.stem}", instruction or AGE, tuple(adience_rows(file, images)), classes=True) for file in files]


def adience_rows(file: Path, images: Path) -> Iterable[Row]:
    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines(), delimiter="\t"):
        years = [int(part) for part in re.findall(r"\d+", row["age"] or "")]
        if not years:
            continue
        middle = sum(years) / len(years)
        group = next((number for number, (low, high) in enumerate(ADIENCE_GROUPS) if low <= middle <= high), None)
        tail = f"{row['user_id']}/{{}}.{row['face_id']}.{row['original_image']}"
        places = (
            images / "aligned" / tail.format("landmark_aligned_face"),
            images / "faces" / tail.format("coarse_tilt_aligned_face"),
            images / tail.format("landmark_aligned_face"),
        )
        if group is not None:
            yield Row(str(next((place for place in places if place.exists()), places[0])), float(group))


def read_hci(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    rows = [Row(str(path), float(number)) for number, name in enumerate(DECADES) for path in sorted((images / name).glob("*.*"))]
    return [LabelSet("HCI", instruction or "Sort by the year the photo was taken", tuple(rows), classes=True)]


def read_koniq(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    file = source / "koniq10k_scores_and_distributions.csv" if source.is_dir() else source
    folder = next((images / name for name in ("1024x768", "512x384") if (images / name).is_dir()), images)
    rows = [Row(str(folder / row["image_name"]), float(row["MOS"])) for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    return [LabelSet("KonIQ-10k", instruction or QUALITY, tuple(rows))]


def read_ava(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    file = source / "AVA.txt" if source.is_dir() else source
    folder, rows = (images / "images" if (images / "images").is_dir() else images), []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) < 12:
            raise InputError(f"{file}:{number}: {len(parts)} columns, at least 12 expected", hint="AVA.txt has an index, an id, ten counts and tags")
        votes = np.array(parts[2:12], float)
        rows.append(Row(str(folder / f"{parts[1]}.jpg"), float(votes @ np.arange(1, 11) / votes.sum())))
    return [LabelSet("AVA", instruction or "Sort by beauty", tuple(rows))]


def read_coco(source: Path, images: Path, instruction: str) -> list[LabelSet]:
    """One set a class, over the pictures that hold it: correlations are taken within a class and then averaged."""
    given = json.loads(source.read_text(encoding="utf-8"))
    names = {one["id"]: one["file_name"] for one in given["images"]}
    classes = {one["id"]: one["name"] for one in given["categories"]}
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for one in given["annotations"]:
        counts[one["category_id"]][one["image_id"]] += 1
    template = instruction or "Rank the number of {}"
    rows = {kind: tuple(Row(str(images / names[image]), float(count)) for image, count in sorted(per.items())) for kind, per in sorted(counts.items())}
    return [LabelSet(f"COCO-REM {classes[kind]}", template.replace("{}", classes[kind]), found) for kind, found in rows.items()]


LAYOUTS: dict[str, Callable[[Path, Path, str], list[LabelSet]]] = {
    "csv": read_csv, "utkface": read_utkface, "adience": read_adience, "hci": read_hci, "koniq": read_koniq, "ava": read_ava, "coco-rem": read_coco,
}  # fmt: skip


# ---------------------------------------------------------------- measurement


def measure(collection: Collection, one: LabelSet, *, method: str = "auto", partial: bool = False, scan: bool = True) -> Report:
    """Rank the labelled photos by the set's instruction and compare with the labels.

    Errors in the labels' unit (MAE, accuracy) are only given where the method gives values; photos without the head's subject count too.
    Raises InputError when photos are missing and `partial` is not set.
    """
    found = collection.rank(one.instruction, method=method, scan=scan)
    predicted = found.values if found.values is not None else found.scores
    by_path = dict(zip(found.paths, np.asarray(predicted, float).tolist(), strict=True))
    rows = [row for row in one.rows if row.path in by_path]
    missing = len(one.rows) - len(rows)
    if not rows or (missing and not partial):
        raise InputError(
            f"{one.name}: {missing:,} of {len(one.rows):,} photos are not there or cannot be read",
            hint="see where they come from in docs/ranking.md, or --partial",
        )
    y, p = np.array([row.value for row in rows]), np.array([by_path[row.path] for row in rows])
    return measured_by(found.method, one, missing, y, p, in_unit=found.values is not None)


def measured_by(method: str, one: LabelSet, missing: int, y: np.ndarray, p: np.ndarray, *, in_unit: bool) -> Report:
    """Measure what a method predicted, float64 [N], against the labels. in_unit: the predictions are in the labels' unit, so that errors mean something."""
    errors = {"MAE"} | ({"accuracy"} if one.classes else set()) if in_unit else set()
    wanted = [name for name in metrics.METRICS if name not in ("MAE", "accuracy") or name in errors]
    figures = {name: metrics.with_interval(metrics.METRICS[name], y, p, rounds=rounds_for(name, len(y))) for name in wanted}
    return Report(one.name, one.instruction, method, len(y), missing, figures, y, p)


def rounds_for(name: str, photos: int) -> int:
    """Fewer bootstrap rounds for what is quadratic in the photos."""
    return 1_000 if name in ("SRCC", "PLCC", "MAE", "accuracy") else 200 if photos <= 1_000 else 20


def mean_over(reports: list[Report]) -> tuple[dict[str, float], int]:
    """Unweighted mean over sets (classes, folds), and how many sets have one distinct label: those have no correlation."""
    skipped = sum(np.ptp(report.values) == 0 for report in reports)
    names = reports[0].figures
    return {name: float(np.nanmean([report.figures[name].value for report in reports])) for name in names}, int(skipped)
