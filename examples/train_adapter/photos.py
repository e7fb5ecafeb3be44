"""Photos and labels for the shipped adapter: the packs unpacked, degraded copies of clean photos, and one label file for all tasks.

Every row of labels.jsonl: path, value, instruction, unit, split (train | val, as the packs have it), group (near-duplicates share one), task.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

AGE, QUALITY, MEMORABLE = "Sort by age", "Rank the technical quality of the photos", "Sort by memorability"
BRIGHT, COLOUR = "Sort by brightness", "Sort by colourfulness"
COUNT = "Rank the number of {}"
COCO_CLASSES = {"person": "people", "car": "cars", "chair": "chairs", "cup": "cups", "dining table": "dining tables", "truck": "trucks", "bowl": "bowls"}
CLEAN_PACKS = ("flickr8k_more", "coco_captions", "captions2", "ade_rooms")
ORIGINAL, WORST = 75.0, 10.0  # quality given to a clean photo and to its strongest degradation


@dataclass(frozen=True, slots=True)
class Degradation:
    """A synthetic fault; strength 0 ... 1 is spread evenly over what a person can tell."""

    name: str

    def apply(self, image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
        side = min(image.size)
        if self.name == "blur":
            return image.filter(ImageFilter.GaussianBlur(side * 0.0006 * (1 + 12 * strength)))
        if self.name == "noise":
            x = np.asarray(image, np.float32)
            grain = rng.normal(0, 6 + 54 * strength, (*x.shape[:2], 1 if rng.random() < 0.5 else 3))
            return Image.fromarray(np.clip(x + grain, 0, 255).astype(np.uint8))
        if self.name == "compression":
            data = io.BytesIO()
            small = image.resize((max(32, image.width // 3), max(32, image.height // 3))) if side > 600 else image
            small.save(data, "JPEG", quality=int(26 - 22 * strength))
            return Image.open(data).convert("RGB").resize(image.size)
        gain = (1 + 2.2 * strength) if rng.random() < 0.5 else 1 / (1 + 4 * strength)  # exposure
        return Image.fromarray(np.clip(np.asarray(image, np.float32) * gain, 0, 255).astype(np.uint8))


KINDS = tuple(Degradation(name) for name in ("blur", "noise", "compression", "exposure"))


def unpack(shared: Path, out: Path, pack: str) -> list[dict]:
    """Unpack a pack once; returns its rows."""
    rows = [json.loads(line) for line in (shared / "data" / f"{pack}.jsonl").read_text().splitlines()]
    if not (out / rows[0]["path"]).exists():
        with tarfile.open(shared / "data" / f"{pack}.tar") as archive:
            archive.extractall(out, filter="data")
    return rows


def enlarged(image: Image.Image, megapixels: float, rng: np.random.Generator) -> Image.Image:
    """Enlarge like a camera's file: bicubic, with fine sensor noise, so that the pixel facts see large photos too."""
    factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    if factor <= 1:
        return image
    big = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    x = np.asarray(big, np.float32) + rng.normal(0, 3.0, (big.height, big.width, 1))
    return Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))


def degraded(shared: Path, out: Path, count: int, seed: int = 0) -> Iterator[dict]:
    """Make clean photos with four degraded copies each; yields label rows."""
    sources = [row for pack in CLEAN_PACKS for row in unpack(shared, out, pack)]
    rng = np.random.default_rng(seed)
    for number in rng.permutation(len(sources))[:count].tolist():
        row, draw = sources[number], np.random.default_rng([seed, number])
        image = Image.open(out / row["path"]).convert("RGB")
        image = enlarged(image, float(draw.choice([0.0, 0.0, 0.3, 1.0, 3.0])), draw)
        folder = out / "degraded"
        folder.mkdir(exist_ok=True)
        for kind in (None, *KINDS):
            strength = 0.0 if kind is None else float(draw.uniform(0.05, 1))
            path = folder / f"{number:05}_{kind.name if kind else 'clean'}_{strength:.2f}.jpg"
            if not path.exists():
                (kind.apply(image, strength, draw) if kind else image).save(path, "JPEG", quality=92)
            value = ORIGINAL if kind is None else ORIGINAL - 12 - (ORIGINAL - 12 - WORST) * strength
            yield label(path.relative_to(out), value, QUALITY, "of 100", row, "degradation")


def label(path: Path | str, value: float, instruction: str, unit: str, row: dict, task: str) -> dict:
    return {
        "path": str(path),
        "value": round(float(value), 4),
        "instruction": instruction,
        "unit": unit,
        "split": row["split"],
        "group": row["group"],
        "task": task,
    }


def counts(shared: Path, out: Path) -> Iterator[dict]:
    """One task for each thing that is counted; photos of the same series without it are its zeros."""
    for row in unpack(shared, out, "counting"):
        name, found = row["dataset"], row["counts"]
        if name.startswith("COCO"):
            for thing, plural in COCO_CLASSES.items():
                yield label(row["path"], found.get(thing, 0), COUNT.format(plural), "", row, "count coco")
        elif name.startswith("fruit"):
            for thing in ("apple", "banana", "orange"):
                yield label(row["path"], found.get(thing, 0), COUNT.format(thing + "s"), "", row, "count fruit")
        else:
            plural = "playing cards" if "cards" in name else "blood cells" if "BCCD" in name else "cells"
            yield label(row["path"], row["count"], COUNT.format(plural), "", row, f"count {plural}")


def write(shared: Path, out: Path, *, degradations: int = 350) -> Path:
    """Write labels.jsonl; returns its path. Computed labels (brightness, colourfulness) are added from the store by the training script."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [label(row["path"], row["age"], AGE, "years", row, "age") for pack in ("utkface", "faces") for row in unpack(shared, out, pack)]
    rows += [label(row["path"], 100 * row["mos"], QUALITY, "of 100", row, "quality") for row in unpack(shared, out, "quality")]
    rows += [label(row["path"], 100 * row["memorability"], MEMORABLE, "of 100", row, "memorability") for row in unpack(shared, out, "memorability")]
    rows += [*counts(shared, out), *degraded(shared, out, degradations)]
    path = out / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
