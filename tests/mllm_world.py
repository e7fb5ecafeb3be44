"""A world of coloured shapes in which a composer can be seen to learn: "make it red" on a blue circle finds the red circle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (240, 20, 20), "green": (20, 220, 20), "blue": (20, 40, 240), "yellow": (240, 240, 20), "pink": (240, 20, 240), "cyan": (20, 240, 240),
           "white": (250, 250, 250), "gray": (110, 110, 110)}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross", "bar", "ring", "pole", "corner")
SIDE, COPIES = 32, 10
SHADES = 40  # how far each channel of a colour may be from the above: no combination can be learnt by heart
FURTHER = 75  # Euclidean, than any shade of a colour: 69
HELD_OUT = tuple(zip(COLOURS, SHAPES, strict=True))  # every colour and every shape is seen, these eight together never


def name(colour: str, shape: str, copy: int) -> str:
    return f"{colour}_{shape}_{copy}.png"


def shade(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """One of the shades of a colour."""
    red, green, blue = np.clip(np.array(COLOURS[colour]) + rng.integers(-SHADES, SHADES + 1, 3), 0, 255).tolist()
    return red, green, blue


def draw(fill: tuple[int, int, int], shape: str, rng: np.random.Generator) -> Image.Image:
    """One shape on black, a little moved and scaled."""
    picture = Image.new("RGB", (SIDE, SIDE))
    pen = ImageDraw.Draw(picture)
    x, y, r = *(16 + rng.integers(-1, 2, 2)).tolist(), int(rng.integers(11, 14))
    box = [(x - r, y - r), (x + r, y + r)]
    match shape:
        case "circle":
            pen.ellipse(box, fill=fill)
        case "ring":
            pen.ellipse(box, outline=fill, width=4)
        case "triangle":
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
        case "corner":
            pen.polygon([(x - r, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
        case "square":
            pen.rectangle(box, fill=fill)
    if shape in ("cross", "pole"):
        pen.rectangle([(x - 3, y - r), (x + 3, y + r)], fill=fill)
    if shape in ("cross", "bar"):
        pen.rectangle([(x - r, y - 3), (x + r, y + 3)], fill=fill)
    return picture


def tinted(shape: str, rng: np.random.Generator) -> Image.Image:
    """A shape in a colour that has no name here, further than any shade from the one that it is never seen in."""
    never = np.array([COLOURS[colour] for colour, held in HELD_OUT if held == shape][0])
    while (tint := rng.integers(0, 256, 3)).max() < 100 or np.linalg.norm(tint - never) < FURTHER:
        pass
    return draw(tuple(tint.tolist()), shape, rng)


def confetti(colour: str, rng: np.random.Generator) -> Image.Image:
    """Small rectangles in a shade of one of the colours: none of the shapes."""
    picture, fill = Image.new("RGB", (SIDE, SIDE)), shade(colour, rng)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 7)):
        (x, y), (w, h) = rng.integers(0, SIDE - 6, 2).tolist(), rng.integers(4, 13, 2).tolist()
        pen.rectangle([(x, y), (x + w, y + h)], fill=fill)
    return picture


def changes(colour: str, shape: str) -> Iterator[tuple[str, str, str]]:
    """Everything that can be asked of a shape, with the colour and the shape that it becomes."""
    yield from ((f"make it {new}", new, shape) for new in COLOURS if new != colour)
    yield from ((f"make it a {new}", colour, new) for new in SHAPES if new != shape)


def make(folder: Path, *, copies: int = COPIES, others: int = 0, seed: int = 0) -> tuple[Path, Path]:
    """Draw all pictures; returns a caption file and a triplet file. The held-out combinations are only looked for in validation.

    others: pictures of each shape without a colour's name, and of each colour without a shape, for the captions alone.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    combinations = list(itertools.product(COLOURS, SHAPES))
    for colour, shape in combinations:
        for copy in range(copies):
            draw(shade(colour, rng), shape, rng).save(folder / name(colour, shape, copy))
    seen = [one for one in combinations if one not in HELD_OUT]
    captions = [{"path": name(c, s, i), "caption": f"a {c} {s}", "split": "train"} for c, s in seen for i in range(copies)]
    for text, paint in [(f"a {s}", partial(tinted, s)) for s in SHAPES] + [(f"something {c}", partial(confetti, c)) for c in COLOURS]:
        for copy in range(others):
            path = f"{text.replace(' ', '_')}_{copy}.png"
            paint(rng).save(folder / path)
            captions.append({"path": path, "caption": text, "split": "train"})
    triplets = []
    for (colour, shape), copy in itertools.product(seen, range(copies)):
        for instruction, *target in changes(colour, shape):
            row = {"reference": name(colour, shape, copy), "instruction": instruction, "caption": "a {} {}".format(*target), "original": f"a {colour} {shape}"}
            if tuple(target) not in HELD_OUT:
                triplets.append({**row, "split": "train"})
            elif copy == 0:
                triplets.append({**row, "split": "val", "target": [name(*target, i) for i in range(2)]})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)) + "\n")
    (folder / "triplets.jsonl").write_text("\n".join(map(json.dumps, triplets)) + "\n")
    return folder / "captions.jsonl", folder / "triplets.jsonl"
