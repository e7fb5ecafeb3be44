"""Triplet files: one JSON object a line, a reference photo, an instruction, and what is right.

    {"reference": "shoes/1.jpg", "instruction": "in red instead of blue", "target": "shoes/7.jpg"}
    {"reference": "dog.jpg", "instruction": "the same but in snow", "caption": "a dog in the snow"}

`target` is a photo or a list of equally right ones, `caption` says in words what the target shows; one of the two must be there.
`original` says what the reference shows, `split` (train, val) which part a line belongs to. Paths are relative to the file's folder, or to
the one that is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip import jsonl
from rankclip.errors import InputError

KEYS = ("reference", "instruction", "target", "caption", "original")


@dataclass(frozen=True, slots=True)
class Triplet:
    """One line. Paths as given; `targets` and `caption` may be empty, but not both."""

    reference: str
    instruction: str
    targets: tuple[str, ...] = ()
    caption: str = ""
    original: str = ""
    split: str = ""  # train | val; empty: by a hash of the reference's name


def read(path: Path) -> list[Triplet]:
    """Read a triplet file. Raises InputError naming file and line.

    >>> read(Path("triplets.jsonl"))[0].instruction  # doctest: +SKIP
    'in red instead of blue'
    """
    found = [parsed(row, place) for place, row in jsonl.read(path)]
    if not found:
        raise InputError(f"{path}: no triplets in it", hint='a line looks like: {"reference": "a.jpg", "instruction": "in red", "target": "b.jpg"}')
    return found


def parsed(row: dict[str, Any], place: str) -> Triplet:
    """Read one line; unknown keys are ignored, so that files may carry more."""
    targets = row.get("target", [])
    targets = [targets] if isinstance(targets, str) else targets
    texts = {name: row.get(name, "") for name in ("reference", "instruction", "caption", "original")}
    for name, value in texts.items():
        if not isinstance(value, str) or (name == "reference" and not value):
            raise InputError(f"{place}: {name!r} must be a {'path' if name == 'reference' else 'text'}", hint=f"keys of a line: {', '.join(KEYS)}")
    if not isinstance(targets, list) or not all(isinstance(target, str) and target for target in targets):
        raise InputError(f"{place}: 'target' must be a path or a list of paths")
    if not targets and not texts["caption"]:
        raise InputError(f"{place}: neither 'target' nor 'caption': nothing says what is right")
    return Triplet(texts["reference"], texts["instruction"], tuple(targets), texts["caption"], texts["original"], str(row.get("split", "")))
