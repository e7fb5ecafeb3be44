"""What becomes of plain search when a difference head is installed: classes found without examples, photos found by their captions.

Three ways to read the same texts: `before`, as `rank` reads them without the head; `after`, as `rank` reads them with it, where only what compares takes
the head's path; `through`, the head's path for every text, which is what tuning the only tower would mean (as Sam et al. 2025 report it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankclip import jsonl
from rankclip.collection import Collection, ranking
from rankclip.collection.classifying import TEMPLATE
from rankclip.collection.differences import find
from rankclip.errors import InputError, NothingToDo
from rankclip.heads.difference import DifferenceHead
from rankclip.instructions import parse
from rankclip.instructions.grammar import prompts
from rankclip.scoring import Embed

KINDS = ("classes", "captions")
BOOTSTRAPS = 1_000
AT_ONCE = 512  # texts


@dataclass(frozen=True, slots=True)
class Photo:
    """A line of the file: a class, or captions."""

    path: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """How often the right one comes first, as a share with its 95 % interval over photos, on each text path; a head that is not there has no `through`."""

    name: str
    photos: int
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    through: tuple[float, float, float] | tuple[()]
    head: str


def read(kind: str, source: Path) -> list[Photo]:
    """Read `path` with `label` (or `label_text`), or with `captions`; rows of a training split are left out. Raises InputError naming the line."""
    wanted = "label" if kind == "classes" else "captions"
    if not source.is_file():
        raise InputError(
            f"{source}: no such file", hint='one object a line: {"path": "dog.jpg", "' + wanted + '": ' + ('"dog"}' if kind == "classes" else '["a dog"]}')
        )
    photos = []
    for place, row in jsonl.read(source):
        texts = row.get("captions") if kind == "captions" else row.get("label_text", row.get("label"))
        said = [texts] if isinstance(texts, str) else texts
        if not isinstance(row.get("path"), str) or not isinstance(said, list) or not said or not all(isinstance(one, str) for one in said):
            raise InputError(f'{place}: needs "path" and "{wanted}"')
        if row.get("split", "val") != "train":
            photos.append(Photo(str(source.parent / row["path"]), tuple(said)))
    if not photos:
        raise InputError(f"{source}: no photo that is not for training")
    return photos


def measure(collection: Collection, kind: str, photos: Sequence[Photo]) -> list[Found]:
    """Embed what is new and search on each path."""
    head = find(collection)
    with collection.opened() as (_, view, gallery):
        rows = view.rows_of(gallery.contents)
        place = dict(zip(gallery.paths(np.arange(len(rows))), rows.tolist(), strict=True))
        known = [one for one in photos if place.get(one.path, -1) >= 0]
        if len(known) < 2:
            raise NothingToDo(f"{len(known)} of {len(photos)} photos could be read, two are needed")
        seen = view.read_embeddings(np.array([place[one.path] for one in known]))  # float32 [N, D]
        tower = remembered(collection.text_engine.encode_texts)
        paths: list[Embed] = [asked(tower, None), asked(tower, head)] + ([head.embedder(tower)] if head is not None else [])
        searched = [dict(classes(known, seen, path) if kind == "classes" else retrieval(known, seen, path)) for path in paths]
    found = []
    for name, right in searched[0].items():
        figures = [interval(one[name]) for one in searched]
        found.append(Found(name, len(right), figures[0], figures[1], figures[2] if head is not None else (), head.pack.name if head is not None else "none"))
    return found


def remembered(embed: Embed) -> Embed:
    """Embed every text once: a tower in int8 gives a text a slightly different embedding in other company."""
    memory: dict[str, np.ndarray] = {}

    def known(texts: list[str]) -> np.ndarray:
        missing = [text for text in dict.fromkeys(texts) if text not in memory]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            memory.update(zip(some, embed(some), strict=True))
        return np.stack([memory[text] for text in texts])

    return known


def asked(embed: Embed, head: DifferenceHead | None) -> Embed:
    """Return what `rank` would look for: texts -> query vectors, float32 [Q, D]."""

    def queries(texts: list[str]) -> np.ndarray:
        read = [parse(text) for text in texts]
        embed([prompt for one in read for end in (one.first, one.last) if end for prompt in prompts(end)])  # all at once
        chosen = [ranking.choose(one, "auto", head) for one in read]
        return np.stack([ranking.make_query(choice, one, embed, (), head).vector for choice, one in zip(chosen, read, strict=True)])

    return queries


def classes(photos: Sequence[Photo], seen: np.ndarray, embed: Embed) -> Iterator[tuple[str, np.ndarray]]:
    """Whether each photo is nearest to its own class: float [N].    seen: float32 [N, D]."""
    names = sorted({one.texts[0] for one in photos})
    labels = np.array([names.index(one.texts[0]) for one in photos])
    vectors = embed([TEMPLATE.format(name if name.startswith(("a ", "an ", "the ")) else article(name)) for name in names])  # [C, D]
    yield f"top-1 of {len(names)} classes", ((seen @ vectors.T).argmax(axis=1) == labels).astype(float)


def article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def retrieval(photos: Sequence[Photo], seen: np.ndarray, embed: Embed) -> Iterator[tuple[str, np.ndarray]]:
    """Whether each photo is found by its first caption, as the first and among the first ten: float [N] each."""
    scores = embed([one.texts[0] for one in photos]) @ seen.T  # [N, N]
    above = (scores > np.diag(scores)[:, None]).sum(axis=1)  # [N], how many are nearer than the right one
    for count in (1, 10):
        yield f"text to image R@{count}", (above < count).astype(float)


def interval(right: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % interval by bootstrap over photos.    right: float [N]."""
    drawn = np.random.default_rng(0).multinomial(len(right), np.full(len(right), 1 / len(right)), BOOTSTRAPS) @ right / len(right)
    return float(right.mean()), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def record(found: Found) -> dict[str, Any]:
    return {name: [round(one, 4) for one in value] if isinstance(value, tuple) else value for name, value in asdict(found).items()}


def lines(found: Found) -> list[str]:
    """Say the figures to a person."""
    paths = [(name, getattr(found, name)) for name in ("before", "after", "through") if getattr(found, name)]
    told = ", ".join(f"{name} {value:.1%} ({low:.1%} to {high:.1%})" for name, (value, low, high) in paths)
    return [f"{found.name}, {found.photos:,} photos: {told}; head {found.head}"]
