"""From triplet or caption files to what the composer's recipe learns from: features out of the store, texts, a split by photo."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip import jsonl
from rankclip.collection import Collection, features
from rankclip.engines.base import text_states
from rankclip.errors import InputError
from rankclip.evaluation.triplets import Triplet
from rankclip.instructions.roles import read_roles
from rankclip.training.composer import DESCRIBE, NEUTRAL
from rankclip.training.composer_data import Data, Photos, Texts, Triplets
from rankclip.training.generator import Described, Edit, EditOptions, describe, edits, swaps

VALIDATION = 0.15  # of the photos
MOST = {"train": 100_000, "val": 5_000}  # triplets that are made from captions
TEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Captioned:
    """A photo with captions, for stage 1 and for the rule-based writer."""

    path: str
    captions: tuple[str, ...]
    split: str = ""


def read_captions(path: Path) -> list[Captioned]:
    """Read JSONL with `path` and `captions` (or `caption`). Raises InputError naming file and line."""
    found = []
    example = '{"path": "a.jpg", "captions": ["a dog"]}'
    for place, row in jsonl.read(path, expected="expected path and captions", hint=example):
        try:
            captions = [row["caption"]] if "caption" in row else row["captions"]
            if not captions or not all(isinstance(one, str) and one.strip() for one in captions):
                raise ValueError("no caption")
            found.append(Captioned(str(row["path"]), tuple(captions), str(row.get("split", ""))))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place}: expected path and captions ({error})", hint=example) from error
    if not found:
        raise InputError(f"{path}: no captions in it")
    return found


def triplets_from_captions(photos: Sequence[Captioned], *, seed: int = 0) -> list[Triplet]:
    """Write triplets by rule from the captions; each part of the split on its own, at most MOST of each.

    A third of the training triplets has a whole caption as its instruction, so that a head does not unlearn to follow a text.
    """
    rng = random.Random(seed)
    found = []
    for split, most in MOST.items():
        some = [photo for photo in photos if split_of(photo.path, photo.split) == split]
        made = edit_triplets(some, split, rng, edits) + edit_triplets(some, split, rng, swaps)
        found += rng.sample(made, min(most, len(made)))
        if split == "train":
            found += told_triplets(some, split, rng)[: len(found) // 2]
    return found


Changes = Callable[[Sequence[Described], random.Random, EditOptions], Iterable[Edit]]


def edit_triplets(photos: Sequence[Captioned], split: str, rng: random.Random, make: Changes, options: EditOptions = EditOptions()) -> list[Triplet]:
    """All changes that a generator (`edits` or `swaps`) asks of some photos of one part.

    >>> photos = [Captioned("a.jpg", ("a dog on a beach",)), Captioned("b.jpg", ("a dog in the snow",))]
    >>> edit_triplets(photos, "train", random.Random(0), edits)[0].targets
    ('b.jpg',)
    """
    made = make([describe(photo.path, photo.captions) for photo in photos], rng, options)
    return [Triplet(photos[edit.reference].path, edit.text, tuple(photos[place].path for place in edit.right), photos[edit.right[0]].captions[0],
                    photos[edit.reference].captions[0], split) for edit in made]  # fmt: skip


def told_triplets(photos: Sequence[Captioned], split: str, rng: random.Random) -> list[Triplet]:
    """Each photo's last caption as what is asked of another photo, in an order by lot: whatever the reference shows, the text says everything.

    >>> photos = [Captioned("a.jpg", ("a dog", "a brown dog")), Captioned("b.jpg", ("a cat",))]
    >>> [(one.reference, one.instruction) for one in sorted(told_triplets(photos, "train", random.Random(0)), key=str)]
    [('a.jpg', 'a cat'), ('b.jpg', 'a brown dog')]
    """
    order = rng.sample(photos, len(photos))
    pairs = zip(order, [*order[1:], *order[:1]], strict=True)
    return [Triplet(one.path, other.captions[-1], (other.path,), other.captions[0], one.captions[0], split) for one, other in pairs if one is not other]


def split_of(path: str, given: str) -> str:
    """The part a photo belongs to: what the file says, else by a hash of its name, so that it never changes."""
    if given:
        return "val" if given.startswith(("val", "test", "dev")) else "train"
    digest = hashlib.blake2b(os.path.basename(path).encode("utf-8", "surrogateescape"), digest_size=4).digest()
    return "val" if int.from_bytes(digest) < VALIDATION * 2**32 else "train"


# ---------------------------------------------------------------- tables


def gather(rows: Sequence[Triplet], captioned: Sequence[Captioned], collection: Collection, root: Path) -> tuple[Data, list[str]]:
    """Embed what the store lacks, then read features and texts; returns the data and what was left out, in words.

    rows: triplets, paths below `root`. captioned: photos with captions for stage 1, may be empty. collection: opened on those paths.
    Raises InputError when no photo of the triplets can be read.
    """
    with collection.opened() as (store, view, gallery):
        shown = [os.path.abspath(path) for path in gallery.paths(np.arange(len(gallery.contents)))]
        content = {path: number for path, number in zip(shown, gallery.contents.tolist(), strict=True) if view.rows_of(np.array([number]))[0] >= 0}
        names = dict.fromkeys(name for row in rows for name in (row.reference, *row.targets))
        names |= dict.fromkeys(photo.path for photo in captioned)
        there = [name for name in names if os.path.abspath(root / name) in content]
        table = features.read(store, view, np.array([content[os.path.abspath(root / name)] for name in there], np.int64))
        tokens = table.tokens(np.arange(len(table))).astype(np.float16) if view.token_rows and (table.token_rows >= 0).all() else None
        row_of = {name: i for i, name in enumerate(there)}
        usable = [row for row in rows if row.reference in row_of and (any(name in row_of for name in row.targets) or (row.caption and not row.targets))]
        if not usable:
            raise InputError(f"none of the photos of {len(rows):,} triplets is below {root}", hint="name their folder with --images")
        data = tables(usable, [one for one in captioned if one.path in row_of], row_of, Photos(table.pooled, tokens), collection)
    left = [f"{len(rows) - len(usable):,} triplets left out: their photos are missing or cannot be read"] if len(usable) < len(rows) else []
    if tokens is None and view.space.patches:
        left.append("some photos have no patch tokens in the store, so none are read; embed with --tokens to use them")
    return data, left


def tables(rows: Sequence[Triplet], captioned: Sequence[Captioned], row_of: dict[str, int], photos: Photos, collection: Collection) -> Data:
    """Put texts and triplets into tables."""
    said = list(dict.fromkeys([*(row.instruction for row in rows), *DESCRIBE, *NEUTRAL]))
    wordings = list(dict.fromkeys([*said, *filter(None, (read_roles(text).for_head for text in said))]))  # what a head is told of them, too
    shows = dict.fromkeys(text for row in rows for text in (row.caption, row.original) if text)
    captions = list(shows | dict.fromkeys(one.captions[0] for one in captioned))
    caption_of = {text: i for i, text in enumerate(captions)}
    wording_of = {text: i for i, text in enumerate(wordings)}
    splits = [split_of(row.reference, row.split) for row in rows]
    train, val = ([row for row, part in zip(rows, splits, strict=True) if part == wanted] for wanted in ("train", "val"))
    width = photos.pooled.shape[1]
    described = [(row_of[one.path], caption_of[one.captions[0]]) for one in captioned if split_of(one.path, one.split) == "train"]
    described += [pair for row in train for pair in pairs_of(row, row_of, caption_of)]
    return Data(
        photos, text_table(wordings, collection), collection.embed_texts(captions) if captions else np.zeros((1, width), np.float32),
        as_rows(train, row_of, wording_of, caption_of), as_rows(val, row_of, wording_of, caption_of), searched(rows, captioned, row_of), in_use(train, row_of),
        np.array(list(dict.fromkeys(described)), np.int64).reshape(-1, 2), collection.embed_texts, wording_of,
    )  # fmt: skip


def pairs_of(row: Triplet, row_of: dict[str, int], caption_of: dict[str, int]) -> list[tuple[int, int]]:
    """What a triplet says about its photos: (photo, caption) for the reference and the first target."""
    found = [(row_of[row.reference], caption_of[row.original])] if row.original else []
    return found + ([(row_of[row.targets[0]], caption_of[row.caption])] if row.caption and row.targets and row.targets[0] in row_of else [])


def searched(rows: Sequence[Triplet], captioned: Sequence[Captioned], row_of: dict[str, int]) -> np.ndarray:
    """The photos that validation searches, int64 [G], sorted: those of its side, in a triplet or not; all of them where the file tells no sides."""
    if not all(row.split for row in rows):
        return np.arange(len(row_of))
    alone = [row_of[one.path] for one in captioned if split_of(one.path, one.split) == "val"]
    return np.union1d(in_use([row for row in rows if split_of(row.reference, row.split) == "val"], row_of), np.array(alone, np.int64))


def in_use(rows: Sequence[Triplet], row_of: dict[str, int]) -> np.ndarray:
    """The photos that some triplets name, int64 [G], sorted."""
    return np.array(sorted({row_of[name] for row in rows for name in (row.reference, *row.targets) if name in row_of}), np.int64)


def as_rows(rows: Sequence[Triplet], row_of: dict[str, int], wording_of: dict[str, int], caption_of: dict[str, int]) -> Triplets:
    """Triplets as numbers into the tables."""
    right = tuple(tuple(row_of[name] for name in row.targets if name in row_of and name != row.reference) for row in rows)
    labels: dict[object, int] = {}
    label = [labels.setdefault(frozenset(some) if some else (row.caption,), len(labels)) for row, some in zip(rows, right, strict=True)]

    def column(values: list[int]) -> np.ndarray:
        return np.array(values, np.int64)

    return Triplets(
        reference=column([row_of[row.reference] for row in rows]),
        instruction=column([wording_of[row.instruction] for row in rows]),
        target=column([some[0] if some else -1 for some in right]),
        caption=column([caption_of.get(row.caption, -1) for row in rows]),
        original=column([caption_of.get(row.original, -1) for row in rows]),
        label=column(label),
        right=right,
    )


def text_table(texts: Sequence[str], collection: Collection) -> Texts:
    """Embed instructions, with the states of their tokens."""
    states, real = [], []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some, mask = text_states(collection.text_engine, list(texts[start : start + TEXTS_AT_ONCE]))
        states.append(some.astype(np.float16))
        real.append(mask)
    longest = max(part.shape[1] for part in real)
    padded = [np.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0))) for part in states]
    return Texts(tuple(texts), collection.embed_texts(list(texts)), np.concatenate(padded),
                 np.concatenate([np.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in real]))  # fmt: skip
