"""The packs as training examples: which photo, which true sentences, which measured values.

Everything is decoded once into memory (20,000 small photos: 2 GB). A photo's sentences are what the contrastive loss may pair it with; its values
(age, count, opinion score, memorability) feed the auxiliary readings of the tokens. caltech101 is for testing only.
"""

from __future__ import annotations

import io
import math
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from sentences import CAPTION_PACKS, PHOTO_TEMPLATES, rows, with_article

N_TEMPLATES = 3  # of PHOTO_TEMPLATES, for labels used as captions
LONGEST = 256  # longest side kept in memory; the packs are 60 ... 420 px
# how often a photo of this pack is drawn, relative to a captioned one
SHARES = {"utkface": 0.35, "faces": 0.35, "fashion": 0.5, "quality": 0.7, "memorability": 0.7, "photos_exif": 0.3, "tinyimagenet": 0.8, "concepts": 1.3}


@dataclass(frozen=True, slots=True)
class Example:
    pack: str
    path: str
    split: str
    group: str
    texts: tuple[str, ...]
    aspect: float | None = None  # natural width / height where the stored picture is stretched and it is known
    values: dict[str, float] = field(default_factory=dict)
    label: str = ""


def load_rows(data: Path, pack: str) -> list[Example]:
    """Turn a pack's rows into examples."""
    aspects = natural_aspects(data) if pack.startswith("flickr8k") else {}
    return [
        Example(pack, row["path"], row["split"], row["group"], tuple(texts_of(pack, row)), aspects.get(row.get("source_name", "")),
                values_of(pack, row), row.get("label_text", ""))
        for row in rows(data / f"{pack}.jsonl")
    ]  # fmt: skip


def natural_aspects(data: Path) -> dict[str, float]:
    return {row["source_name"]: row["natural_aspect"] for row in rows(data / "flickr8k_aspect.jsonl")}


def texts_of(pack: str, row: dict) -> list[str]:
    if pack == "ade_rooms":
        return row["captions"] + [PHOTO_TEMPLATES[0].format(with_article(row["label_text"]))]
    if pack in CAPTION_PACKS:
        return row["captions"]
    if pack == "concepts":
        return [template.format(row["label_text"]) for template in PHOTO_TEMPLATES[:N_TEMPLATES]] + list(row.get("also", []))
    if pack == "tinyimagenet":
        return [PHOTO_TEMPLATES[i % 2].format(with_article(name)) for name in row["synonyms"] for i in range(2)]
    if pack == "fashion":
        what, whose = f"{row['colour']} {row['type']}".lower(), row["gender"].lower()
        return [row["title"], f"{what} for {whose}", f"a product photo of {what} for {whose}, {row['usage']} wear"]
    if pack in ("utkface", "faces"):
        who = {"male": "man", "female": "woman"}.get(row["gender_label"], "person")
        years = "1 year" if row["age"] == 1 else f"{row['age']} years"
        return [f"a {row['age']} year old {who}", f"a face of a person who is {years} old"]
    if pack == "counting":
        return count_texts(row)
    return []


NUMBER_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
PLURALS = {"person": "people", "playing cards": "playing cards", "fruits": "fruits"}


def count_texts(row: dict) -> list[str]:
    if row["dataset"].startswith("COCO"):
        found = [(count, PLURALS.get(name, name + "s")) for name, count in row["counts"].items()]
    else:
        noun = {"blood cells and platelets": "blood cells", "fluorescent cells": "cells", "fruits": next(iter(row["counts"]), "fruit") + "s"}
        found = [(row["count"], noun.get(row["count_of"], row["count_of"]))]
    found = [(count, noun) for count, noun in found if count > 1]
    words = [NUMBER_WORDS[count] if count <= 12 else "dozens of" if count < 100 else "hundreds of" for count, _ in found]
    return [f"a photo of {word} {noun}" for word, (_, noun) in zip(words, found, strict=True)]


def values_of(pack: str, row: dict) -> dict[str, float]:
    """Values on comparable scales, about 0 ... 1."""
    if pack in ("utkface", "faces"):
        return {"age": row["age"] / 100}
    if pack == "counting":
        return {"count": math.log2(1 + row["count"]) / 8}
    if pack == "quality":
        return {"quality": row["mos"]}
    if pack == "memorability":
        return {"memorability": row["memorability"]}
    return {}


def load_photos(data: Path, pack: str) -> dict[str, np.ndarray]:
    """Decode a pack: path -> uint8 RGB [H, W, 3]."""
    photos = {}
    with tarfile.open(data / f"{pack}.tar") as tar:
        for member in tar:
            if member.isfile():
                picture = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                if max(picture.size) > LONGEST:
                    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BICUBIC)
                photos[member.name] = np.asarray(picture)
    return photos


# ---------------------------------------------------------------- views


def plain_view(photo: np.ndarray, size: int, *, aspect: float | None = None, mode: str = "squash") -> np.ndarray:
    """Make the tower's input as the shipped preprocessing does: uint8 [S, S, 3]."""
    picture = unstretched(photo, aspect)
    if mode == "crop":
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def unstretched(photo: np.ndarray, aspect: float | None) -> Image.Image:
    picture = Image.fromarray(photo)
    if aspect is None or abs(aspect - picture.width / picture.height) < 0.02:
        return picture
    wide = (round(picture.height * aspect), picture.height) if aspect > 1 else (picture.width, round(picture.width / aspect))
    return picture.resize(wide, Image.Resampling.BICUBIC)


@dataclass(frozen=True, slots=True)
class Augment:
    smallest: float = 0.5  # share of the area that a random crop keeps at least
    ratio: float = 4 / 3  # the crop's aspect may differ from the photo's by this factor: squashed and natural views both occur
    jitter: float = 0.15  # brightness and contrast; colour is left alone, texts name it
    blur: float = 0.15  # chance of a degradation whose strength is an auxiliary target


def random_view(photo: np.ndarray, size: int, rng: np.random.Generator, augment: Augment, *, flip: bool = True) -> tuple[np.ndarray, float]:
    """Cut, resize, flip, jitter and sometimes degrade. Returns uint8 [S, S, 3] and the degradation's strength 0 ... 1."""
    picture = Image.fromarray(photo)
    picture = picture.crop(random_box(picture.size, rng, augment)).resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, dtype=np.float32)
    if flip and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    strength = 0.0
    if rng.random() < augment.blur:
        pixels, strength = degraded(pixels, rng)
    gain, shift = 1 + rng.uniform(-augment.jitter, augment.jitter), 255 * rng.uniform(-augment.jitter, augment.jitter) / 2
    return np.clip(pixels * gain + shift, 0, 255).astype(np.uint8), strength


def random_box(size: tuple[int, int], rng: np.random.Generator, augment: Augment) -> tuple[int, int, int, int]:
    width, height = size
    area = width * height * rng.uniform(augment.smallest, 1.0)
    aspect = width / height * math.exp(rng.uniform(-1, 1) * math.log(augment.ratio))
    wide = min(width, round(math.sqrt(area * aspect)))
    high = min(height, round(math.sqrt(area / aspect)))
    left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
    return left, top, left + wide, top + high


def degraded(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Blur, noise or coarse JPEG of random strength (0 ... 1)."""
    strength = float(rng.uniform(0.2, 1.0))
    kind = int(rng.integers(3))
    if kind == 0:
        from PIL import ImageFilter

        soft = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(4 * strength))
        return np.asarray(soft, dtype=np.float32), strength
    if kind == 1:
        return pixels + rng.normal(0, 40 * strength, pixels.shape).astype(np.float32), strength
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=round(40 - 36 * strength))
    return np.asarray(Image.open(buffer), dtype=np.float32), strength


class Views(Dataset):
    """Random views for one epoch: the same (seed, epoch, position) always gives the same view, so that a resumed run sees what it would have seen."""

    def __init__(self, examples: list[Example], photos: dict[str, np.ndarray], order: np.ndarray, size: int, seed: int, augment: Augment) -> None:
        self.examples, self.photos, self.order, self.size, self.seed, self.augment = examples, photos, order, size, seed, augment

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[np.ndarray, float, int]:
        index = int(self.order[position])
        example = self.examples[index]
        rng = np.random.default_rng([self.seed, position, index])
        sided = any(word in text.lower().split() for text in example.texts for word in ("left", "right"))
        view, strength = random_view(self.photos[example.pack + "/" + example.path], self.size, rng, self.augment, flip=not sided)
        return view, strength, index
