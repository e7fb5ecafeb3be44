"""Photos and labels for the shipped adapter: the packs unpacked, degraded copies of clean photos, and one label file for all tasks.

Every row of labels.jsonl: path, value, instruction, unit, split (train | val, as the packs have it), group (near-duplicates share one), task.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

AGE, QUALITY, MEMORABLE = "Sort by age", "Rank the technical quality of the photos", "Sort by memorability"
BRIGHT, COLOUR = "Sort by brightness", "Sort by colourfulness"
COUNT = "Rank the number of {}"
COCO_CLASSES = {"person": "people", "car": "cars", "chair": "chairs", "cup": "cups", "dining table": "dining tables", "truck": "trucks", "bowl": "bowls"}
CLEAN_PACKS = ("flickr8k_more", "coco_captions", "captions2", "ade_rooms")
ORIGINAL, LEAST, WORST = 75.0, 12.0, 10.0  # quality given to a clean photo, what the weakest fault takes from it, and what the strongest leaves
MEGAPIXELS, SIZE_SHARES = (0.0, 0.3, 1.0, 3.0, 12.0), (0.35, 0.25, 0.22, 0.13, 0.05)  # 0: the photo's own size
STRENGTHS = {"train": 2, "val": 4}  # copies of one photo with one fault
SENSOR_NOISE = 8.0  # levels, at most, in an enlarged photo without a fault
SAVED = 92  # JPEG quality
CAPTIONED = ("flickr8k_more", "coco_captions", "captions2")
PERSON = re.compile(
    r"\b(m[ae]n|wom[ae]n|boys?|girls?|child(ren)?|kids?|bab(y|ies)|toddlers?|infants?|people|persons?|lad(y|ies)|guys?|gentlem[ae]n|couples?|famil(y|ies)|crowds?|players?|"
    r"teams?|riders?|skiers?|surfers?|skat\w*|bikers?|cyclists?|climbers?|hikers?|workers?|brides?|grooms?|teens?|teenagers?|adults?|mothers?|fathers?|friends?|some(one|body)|"
    r"he|she|his|her|they|hands?|faces?|chefs?|players?|snowboarders?|swimmers?|dancers?|singers?|audience|students?|soldiers?|cowboys?|police\w*|fire(m[ae]n|fighters?))\b", re.I)  # fmt: skip
FACE = re.compile(
    r"\b(faces?|smil\w+|laugh\w*|grin\w*|portraits?|glasses|beard\w*|mustache|moustache|close-?up|looks? (at|into)|looking (at|into) the camera|hair\w*)\b",
    re.I,
)
LIFELESS = ("animal", "food", "plant", "vehicle", "texture", "weather", "season", "document")  # kinds of concepts without people


@dataclass(frozen=True, slots=True)
class Degradation:
    """A synthetic fault; strength 0 ... 1 is spread evenly over what a person can tell."""

    name: str

    def apply(self, image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
        side = min(image.size)
        if self.name == "blur":
            return image.filter(ImageFilter.GaussianBlur(side * 0.0006 * (1 + 12 * strength)))
        if self.name == "noise":
            return grainy(image, 6 + 54 * strength, 1 if rng.random() < 0.5 else 3, rng)
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
    return grainy(big, float(rng.uniform(0, SENSOR_NOISE)), 1, rng)


def grainy(image: Image.Image, strength: float, channels: int, rng: np.random.Generator) -> Image.Image:
    """Add normal noise, the same in all channels or its own in each. strength: levels of 255."""
    grain = rng.standard_normal((image.height, image.width, channels), np.float32) * np.float32(strength)
    return Image.fromarray(np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8))


def degraded(shared: Path, out: Path, count: int, seed: int = 0) -> Iterator[dict]:
    """Make clean photos of five sizes, each with copies that have two of the faults, at two strengths (four for what measures); yields label rows.

    Faults are applied at the photo's own size, so that a large one is reduced with them, as a camera's file is. Photos of the same fault at
    different strengths differ in strength alone.
    """
    sources = [row for pack in CLEAN_PACKS for row in unpack(shared, out, pack)]
    (out / "degraded").mkdir(exist_ok=True)
    for number in np.random.default_rng(seed).permutation(len(sources))[:count].tolist():
        row, draw = sources[number], np.random.default_rng([seed, number])
        megapixels = float(draw.choice(MEGAPIXELS, p=SIZE_SHARES))
        chosen = sorted(draw.permutation(len(KINDS))[:2].tolist())
        strengths = {kind: draw.uniform(0.05, 1, STRENGTHS[row["split"]]).round(2).tolist() for kind in chosen}
        copies = [(None, 0.0), *((kind, strength) for kind in chosen for strength in sorted(strengths[kind]))]
        paths = [out / "degraded" / f"{number:05}_{KINDS[kind].name if kind is not None else 'clean'}_{strength:.2f}.jpg" for kind, strength in copies]
        if not all(path.exists() for path in paths):
            image = enlarged(Image.open(out / row["path"]).convert("RGB"), megapixels, draw)
            for (kind, strength), path in zip(copies, paths, strict=True):
                copy = image if kind is None else KINDS[kind].apply(image, strength, np.random.default_rng([seed, number, kind]))
                copy.save(path, "JPEG", quality=SAVED)
        for (kind, strength), path in zip(copies, paths, strict=True):
            yield label(path.relative_to(out), ORIGINAL - (0 if kind is None else fall(strength)), QUALITY, "of 100", row, "degradation")


def fall(strength: float) -> float:
    """By how much a fault lowers quality, of 100."""
    return LEAST + (ORIGINAL - LEAST - WORST) * strength


def portraits(shared: Path, out: Path, count: int, seed: int = 1) -> Iterator[dict]:
    """Put faces of the training split into rooms and landscapes: in people's photos a face is a part of the picture, in UTKFace all of it."""
    faces = [row for pack in ("utkface", "faces") for row in unpack(shared, out, pack) if row["split"] == "train"]
    behind = [row for row in (*unpack(shared, out, "ade_rooms"), *unpack(shared, out, "memorability")) if row["split"] == "train"]
    (out / "portraits").mkdir(exist_ok=True)
    for number in np.random.default_rng(seed).permutation(len(faces))[:count].tolist():
        draw = np.random.default_rng([seed, number])
        path = out / "portraits" / f"{Path(faces[number]['path']).stem}.jpg"
        if not path.exists():
            face, scene = (Image.open(out / row["path"]).convert("RGB") for row in (faces[number], behind[draw.integers(len(behind))]))
            with_face(scene, face, draw).save(path, "JPEG", quality=88)
        yield label(path.relative_to(out), faces[number]["age"], AGE, "years", faces[number], "age")


def with_face(scene: Image.Image, face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paste a face, a quarter to three quarters of the picture's height, with a soft oval edge, above shoulders of one colour."""
    width, height = scene.size
    size = round(height * rng.uniform(0.25, 0.75))
    left, top = round(rng.uniform(0.1, 0.9) * max(1, width - size)), round(rng.uniform(0.02, 0.45) * (height - size))
    oval = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(oval).ellipse((size // 4, 0, 4 * size - size // 4, 4 * size), fill=255)
    body = ImageDraw.Draw(scene)
    body.ellipse((left - 0.45 * size, top + 0.85 * size, left + 1.45 * size, top + 3.5 * size), fill=tuple(rng.integers(20, 220, 3).tolist()))
    scene.paste(face.resize((size, size)), (left, top), oval.resize((size, size)).filter(ImageFilter.GaussianBlur(size / 40)))
    return scene


def subjects(shared: Path, out: Path) -> Iterator[dict]:
    """Photos that show a face, and photos without anybody, as their captions and labels tell; rows of path, face and split."""
    for pack in CAPTIONED:
        for row in unpack(shared, out, pack):
            texts = [text for text in row["captions"] if PERSON.search(text)]
            if not texts or (len(texts) == len(row["captions"]) and any(FACE.search(text) for text in texts)):
                yield {"path": row["path"], "face": bool(texts), "split": row["split"]}
    for row in unpack(shared, out, "concepts"):
        if row["kind"] in LIFELESS:
            yield {"path": row["path"], "face": False, "split": row["split"]}
    for row in unpack(shared, out, "fashion"):
        if row["master"] == "Footwear" or row["sub"] in ("Bags", "Watches", "Wallets", "Belts"):
            yield {"path": row["path"], "face": False, "split": row["split"]}
    for pack, face in (("utkface", True), ("faces", True), ("memorability", False)):
        yield from ({"path": row["path"], "face": face, "split": row["split"]} for row in unpack(shared, out, pack))


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


def write(shared: Path, out: Path, *, degradations: int = 1_500, faces_in_scenes: int = 900) -> Path:
    """Write labels.jsonl (returned) and subjects.jsonl. Computed labels (brightness, colourfulness) are added from the store by the training script."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [label(row["path"], row["age"], AGE, "years", row, "age") for pack in ("utkface", "faces") for row in unpack(shared, out, pack)]
    rows += [label(row["path"], 100 * row["mos"], QUALITY, "of 100", row, "quality") for row in unpack(shared, out, "quality")]
    rows += [label(row["path"], 100 * row["memorability"], MEMORABLE, "of 100", row, "memorability") for row in unpack(shared, out, "memorability")]
    rows += [*counts(shared, out), *degraded(shared, out, degradations), *portraits(shared, out, faces_in_scenes)]
    for name, found in (("labels", rows), ("subjects", [*subjects(shared, out)])):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return out / "labels.jsonl"
