"""Annotation files of the published benchmarks -> `Benchmark`, in their official layouts or as one flat JSONL (also gzipped).

A photo is known by its file name without extension, so that any copy of a benchmark's pictures serves. The layouts are in
docs/commands/evaluate-composition.md.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankclip.errors import InputError, reason
from rankclip.evaluation import triplets

FASHIONIQ_CATEGORIES = ("dress", "shirt", "toptee")
GENECIS_TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
GENECIS_WORDS = {"focus_object": "with {}", "change_object": "with {}", "focus_attribute": "the same {}", "change_attribute": "{}"}
CROP_GROWTH = 0.7  # GeneCIS: share of a box's size that is added before cropping


@dataclass(frozen=True, slots=True)
class Case:
    """One query. texts: forms of the same instruction, joined with equal weights. gallery: its own small one (target first), or empty."""

    number: int
    reference: str
    texts: tuple[str, ...]
    targets: tuple[str, ...] = ()  # right photos, the main one first; empty where labels are withheld
    group: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    gallery: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Queries that share a gallery. crops: photo name -> picture name and box (left, top, width, height in px), where photos are cut out."""

    kind: str  # a row of READERS
    name: str
    cases: tuple[Case, ...]
    gallery: tuple[str, ...]
    crops: dict[str, tuple[str, tuple[float, float, float, float]]] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        return all(case.targets for case in self.cases)


def read(kind: str, path: Path, split: str) -> list[Benchmark]:
    """Read a benchmark's annotations.

    kind: fashioniq, cirr, circo, genecis or triplets. path: the official folder, or one file. split: val, test, ...
    Raises InputError naming the file that is missing or malformed.
    """
    try:
        return READERS[kind](path, split)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: not {kind} annotations ({type(error).__name__}: {error})", hint="docs/commands/evaluate-composition.md shows the layouts"
        ) from error


def load(path: Path) -> Any:
    """Read JSON, JSON Lines, or either gzipped."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8")
        if ".jsonl" in path.suffixes:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}", hint="name the folder of the official annotations") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error


def union(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in the order they came."""
    return tuple(dict.fromkeys(names))


# ---------------------------------------------------------------- fashioniq


def fashioniq(path: Path, split: str) -> list[Benchmark]:
    """captions/cap.CATEGORY.SPLIT.json and image_splits/split.CATEGORY.SPLIT.json: two captions a query, joined in both orders."""
    found = []
    for category in FASHIONIQ_CATEGORIES:
        if path.is_file():
            rows = [row for row in load(path) if row["category"] == category and row.get("official_split", split) == split]
            gallery = union(name for row in rows for name in (row["candidate"], row["target"]))  # the smaller "VAL split" gallery
        else:
            rows = load(path / "captions" / f"cap.{category}.{split}.json")
            gallery = union(load(path / "image_splits" / f"split.{category}.{split}.json"))
        cases = [Case(i, row["candidate"], both_orders(row["captions"]), (row["target"],) if row.get("target") else ()) for i, row in enumerate(rows)]
        found.append(Benchmark("fashioniq", category, tuple(cases), gallery))
    return found


def both_orders(captions: list[str]) -> tuple[str, ...]:
    """Join two captions in both orders; ends are cleaned as the official code does."""
    parts = [caption.strip(".?, ") for caption in captions if caption.strip(".?, ")]
    return tuple(dict.fromkeys((" and ".join(parts), " and ".join(reversed(parts)))))


# ---------------------------------------------------------------- cirr, circo


def cirr(path: Path, split: str) -> list[Benchmark]:
    """captions/cap.rc2.SPLIT.json and image_splits/split.rc2.SPLIT.json."""
    rows = load(path) if path.is_file() else load(path / "captions" / f"cap.rc2.{split}.json")
    cases = []
    for row in rows:
        target = row.get("target_hard") or row.get("target")
        group = row["members"] if "members" in row else row["img_set"]["members"]
        cases.append(Case(int(row["pairid"]), row["reference"], (row["caption"],), (target,) if target else (), tuple(group)))
    named = union(name for case in cases for name in (case.reference, *case.targets, *case.group))
    gallery = named if path.is_file() else union(load(path / "image_splits" / f"split.rc2.{split}.json"))
    return [Benchmark("cirr", split, tuple(cases), gallery)]


def circo(path: Path, split: str) -> list[Benchmark]:
    """annotations/SPLIT.json; the gallery is every picture of COCO's unlabelled 2017 set that is there."""
    rows = load(path) if path.is_file() else load(path / "annotations" / f"{split}.json")
    cases = [
        Case(int(row["id"]), coco(row["reference_img_id"]), (row["relative_caption"],), truths(row), (), tuple(row.get("semantic_aspects", ()))) for row in rows
    ]
    return [Benchmark("circo", split, tuple(cases), ())]


def truths(row: dict[str, Any]) -> tuple[str, ...]:
    """The right photos, the main one first."""
    if "gt_img_ids" not in row:
        return ()
    return union(coco(one) for one in (row["target_img_id"], *row["gt_img_ids"]))


def coco(number: int) -> str:
    return f"{int(number):012d}"


# ---------------------------------------------------------------- genecis


def genecis(path: Path, split: str) -> list[Benchmark]:
    """TASK.json for the four tasks (those that are there), or one file named after its task."""
    files = (
        [path] if path.is_file() else [file for task in GENECIS_TASKS for file in (path / f"{task}.json", path / "genecis" / f"{task}.json") if file.is_file()]
    )
    if not files:
        raise InputError(f"{path}: none of {', '.join(f'{task}.json' for task in GENECIS_TASKS)}")
    return [genecis_task(file) for file in files]


def genecis_task(path: Path) -> Benchmark:
    task = next((task for task in GENECIS_TASKS if task in path.name), "")
    if not task:
        raise InputError(f"{path}: the name says none of the tasks {', '.join(GENECIS_TASKS)}")
    crops: dict[str, tuple[str, tuple[float, float, float, float]]] = {}
    cases = []
    for i, row in enumerate(load(path)):
        reference, target, *gallery = (cut_out(one, crops) for one in (row["reference"], row["target"], *row["gallery"]))
        cases.append(Case(i, reference, (GENECIS_WORDS[task].format(row["condition"]),), (target,), gallery=(target, *gallery)))
    return Benchmark("genecis", task, tuple(cases), union(name for case in cases for name in (case.reference, *case.gallery)), crops)


def cut_out(one: Any, crops: dict[str, tuple[str, tuple[float, float, float, float]]]) -> str:
    """The name of a photo: a COCO number, or a box of a VisualGenome picture, which is noted in `crops`."""
    if not isinstance(one, dict):
        return coco(one)
    if one.get("instance_bbox") is None:
        return coco(one["val_image_id"] if "val_image_id" in one else one["image_id"])
    left, top, width, height = (float(value) for value in one["instance_bbox"])
    name = f"{one['image_id']}_{left:g}_{top:g}_{width:g}_{height:g}"
    crops[name] = (str(one["image_id"]), (left, top, width, height))
    return name


def grown(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """GeneCIS' crop of a box: left and top move out by 0.7 of its size, and from there it is 1.7 times as large, within the picture.

    >>> grown((10, 10, 10, 20), (100, 100))
    (3, 0, 20, 34)
    """
    left, top, width, height = box
    x, y = max(0.0, left - CROP_GROWTH * width), max(0.0, top - CROP_GROWTH * height)
    return int(x), int(y), int(min(x + (1 + CROP_GROWTH) * width, size[0])), int(min(y + (1 + CROP_GROWTH) * height, size[1]))


# ---------------------------------------------------------------- any triplets


def any_triplets(path: Path, split: str) -> list[Benchmark]:
    """A triplet file; the gallery is every photo that it names. Lines without a target photo are left out."""
    cases = [Case(i, row.reference, (row.instruction,), row.targets) for i, row in enumerate(triplets.read(path)) if row.targets]
    if not cases:
        raise InputError(f"{path}: no line names a target photo", hint="captions alone train a composer, photos measure it")
    return [Benchmark("triplets", path.stem, tuple(cases), union(name for case in cases for name in (case.reference, *case.targets)))]


READERS: dict[str, Callable[[Path, str], list[Benchmark]]] = {
    "fashioniq": fashioniq, "cirr": cirr, "circo": circo, "genecis": genecis, "triplets": any_triplets,
}  # fmt: skip
