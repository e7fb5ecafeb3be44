"""A world of coloured shapes in which a composer can be seen to learn: "make it red" on a blue circle finds the red circle."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (230, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220), "yellow": (240, 220, 40), "pink": (250, 120, 190), "white": (250, 250, 250)}
SHAPES = ("circle", "square", "triangle", "cross", "bar", "ring")
SIDE, COPIES = 32, 10
HELD_OUT = tuple((colour, SHAPES[i]) for i, colour in enumerate(COLOURS))  # every colour and every shape is seen, these six together never


def name(colour: str, shape: str, copy: int) -> str:
    return f"{colour}_{shape}_{copy}.png"


def draw(colour: str, shape: str, rng: np.random.Generator) -> Image.Image:
    """One shape on black, a little moved and scaled."""
    picture = Image.new("RGB", (SIDE, SIDE))
    pen, fill = ImageDraw.Draw(picture), COLOURS[colour]
    x, y, r = *(16 + rng.integers(-2, 3, 2)), int(rng.integers(10, 13))
    box = [(int(x - r), int(y - r)), (int(x + r), int(y + r))]
    match shape:
        case "circle":
            pen.ellipse(box, fill=fill)
        case "square":
            pen.rectangle(box, fill=fill)
        case "triangle":
            pen.polygon([(int(x), int(y - r)), (int(x - r), int(y + r)), (int(x + r), int(y + r))], fill=fill)
        case "cross":
            pen.rectangle([(int(x - 3), int(y - r)), (int(x + 3), int(y + r))], fill=fill)
            pen.rectangle([(int(x - r), int(y - 3)), (int(x + r), int(y + 3))], fill=fill)
        case "bar":
            pen.rectangle([(int(x - r), int(y - 3)), (int(x + r), int(y + 3))], fill=fill)
        case "ring":
            pen.ellipse(box, outline=fill, width=4)
    return picture


def make(folder: Path, *, copies: int = COPIES) -> tuple[Path, Path]:
    """Draw all pictures; returns a caption file and a triplet file. The held-out combinations are only looked for in validation."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    combinations = list(itertools.product(COLOURS, SHAPES))
    for colour, shape in combinations:
        for copy in range(copies):
            draw(colour, shape, rng).save(folder / name(colour, shape, copy))
    captions = [{"path": name(c, s, i), "caption": f"a {c} {s}", "split": "train"} for c, s in combinations if (c, s) not in HELD_OUT for i in range(copies)]
    triplets = []
    for (colour, shape), new in itertools.product(combinations, COLOURS):
        if new == colour or (colour, shape) in HELD_OUT:
            continue
        split = "val" if (new, shape) in HELD_OUT else "train"
        for copy in range(copies if split == "train" else 1):
            row = {"reference": name(colour, shape, copy), "instruction": f"make it {new}", "caption": f"a {new} {shape}", "original": f"a {colour} {shape}"}
            target = [name(new, shape, i) for i in range(2)] if split == "val" else []
            triplets.append({**row, "split": split, **({"target": target} if target else {})})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)) + "\n")
    (folder / "triplets.jsonl").write_text("\n".join(map(json.dumps, triplets)) + "\n")
    return folder / "captions.jsonl", folder / "triplets.jsonl"
