"""`classify`: sort photos into named classes without training, with comparing sentences where two classes are easily confused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankclip import jsonl, scoring
from rankclip.errors import InputError, NothingToDo
from rankclip.scoring import unit

if TYPE_CHECKING:
    from rankclip.collection.collection import Collection

TEMPLATE = "This is a photo of {}."
ALPHAS = (1.0, 0.975, 0.95, 0.9, 0.85, 0.8)  # what `alpha=None` chooses from
ALIKE = 3  # pairs that are proposed


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """comparative: JSONL of a, b, text ("a has ..., while b has ..."). alpha: 1 takes the class names alone; None chooses without labels."""

    comparative: str = ""
    alpha: float | None = 0.9
    symmetric: bool = False

    def check(self) -> None:
        if self.alpha is not None and not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"--alpha must be from 0 to 1, got {self.alpha:g}")


@dataclass(frozen=True, slots=True)
class Classification:
    """Photos with their class. best: int64 [N], positions in classes. probabilities: float32 [N, C]. alike: pairs that could be confused."""

    paths: list[str]
    classes: tuple[str, ...]
    best: np.ndarray
    probabilities: np.ndarray
    alpha: float
    alike: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class Compared:
    """A sentence that tells class a from class b."""

    a: str
    b: str
    text: str


def classify(collection: Collection, classes: Sequence[str], options: ClassifyOptions, *, scan: bool) -> Classification:
    """Give each photo the class with the nearest embedding. Raises InputError for fewer than two classes."""
    options.check()
    names = tuple(dict.fromkeys(name.strip() for name in classes if name.strip()))
    if len(names) < 2:
        raise InputError("at least two classes are needed", hint="one name a line in the file of --classes")
    compared = read_compared(Path(options.comparative), names) if options.comparative else []
    with collection.opened(scan=scan) as (store, view, gallery):
        rows = view.rows_of(gallery.contents)
        places = np.flatnonzero(rows >= 0)
        if not len(places):
            raise NothingToDo("no photos found", hint="give a folder that holds photos")
        photos = view.read_embeddings(rows[places])  # [N, D]
        embed = collection.text_embedder(store)
        plain = embed([TEMPLATE.format(name) for name in names])  # [C, D]
        differences = compared_embeddings(collection, embed, compared)
        corrected = corrector(plain, names, compared, differences, symmetric=options.symmetric)
        scale = collection.backbone.logit_scale
        half = photos[:: 2 if len(photos) > 1 else 1]
        alpha = 1.0 if not compared else options.alpha if options.alpha is not None else chosen_alpha(half, corrected, scale, ALPHAS)
        shares = probabilities(photos, corrected(alpha), scale)
        close = tuple((names[a], names[b]) for a, b in alike(plain, probabilities(photos, plain, scale), ALIKE))
        return Classification(gallery.paths(places), names, shares.argmax(axis=1), shares, alpha, close)


def corrector(
    plain: np.ndarray, names: Sequence[str], compared: Sequence[Compared], differences: np.ndarray, *, symmetric: bool
) -> Callable[[float], np.ndarray]:
    """Return alpha -> class embeddings, float32 [C, D]."""
    pairs = [(names.index(one.a), names.index(one.b)) for one in compared]
    return lambda alpha: compared_classes(plain, pairs, differences, alpha, symmetric=symmetric)


def compared_embeddings(collection: Collection, embed: scoring.Embed, compared: Sequence[Compared]) -> np.ndarray:
    """Embed comparing sentences, by the difference head where one is installed: float32 [K, D]."""
    from rankclip.collection.differences import find

    if not compared:
        return np.empty((0, collection.backbone.width), np.float32)
    head = find(collection)
    return (embed if head is None else head.embedder(embed))([one.text for one in compared])


def read_compared(path: Path, names: Sequence[str]) -> list[Compared]:
    """Read comparing sentences. Raises InputError naming the line."""
    rows, needs = [], 'needs a JSON object with "a", "b" and "text"'
    for place, found in jsonl.read(path, option="--comparative", expected=needs):
        try:
            one = Compared(str(found["a"]), str(found["b"]), str(found["text"]))
        except KeyError as error:
            raise InputError(f"{place}: {needs}") from error
        for name in (one.a, one.b):
            if name not in names:
                raise InputError(f"{place}: {name!r} is not one of the classes")
        rows.append(one)
    return rows


# ---------------------------------------------------------------- arithmetic


def compared_classes(classes: np.ndarray, pairs: Sequence[tuple[int, int]], differences: np.ndarray, alpha: float, *, symmetric: bool = False) -> np.ndarray:
    """Correct class embeddings by what tells some of them apart: float32 [C, D], unit rows.

    classes: float32 [C, D], unit rows. pairs: (a, b) for each row of differences, float32 [K, D], unit: "a has ..., while b has ...".
    u_b is the mean over its pairs of t_a - d_ab ("b is a without the difference"), then t_b = unit(alpha t_b + (1 - alpha) u_b).
    symmetric: the first class of a pair changes too, with t_b + d_ab. alpha = 1 changes nothing.    Source: Sam et al. 2025, section 6.
    """
    told: dict[int, list[np.ndarray]] = {}
    for (a, b), difference in zip(pairs, differences, strict=True):
        told.setdefault(b, []).append(classes[a] - difference)
        if symmetric:
            told.setdefault(a, []).append(classes[b] + difference)
    result = classes.copy()
    for place, rows in told.items() if alpha != 1.0 else ():
        result[place] = unit(alpha * classes[place] + (1 - alpha) * np.mean(rows, axis=0))
    return result


def probabilities(photos: np.ndarray, classes: np.ndarray, scale: float) -> np.ndarray:
    """Softmax of the scaled cosines: float32 [N, C].    photos: float32 [N, D]. classes: float32 [C, D]."""
    logits = scale * photos @ classes.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def alike(classes: np.ndarray, shares: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Choose pairs of classes that could be confused, without labels: the nearest in name of those that share the most of each other's photos.

    classes: float32 [C, D], unit rows. shares: float32 [N, C], probabilities of unlabelled photos. Returns pairs (a, b), a < b, each of which
    is the class with which the other is in doubt the most.
    """
    doubts = shares.T @ shares - np.diag(np.full(len(classes), np.inf, np.float32))  # [C, C]
    most = doubts.argmax(axis=1)
    pairs = [(a, int(b)) for a, b in enumerate(most) if a < b and most[b] == a]
    return sorted(pairs, key=lambda pair: (-float(classes[pair[0]] @ classes[pair[1]]), pair))[:count]


def chosen_alpha(photos: np.ndarray, classes: Callable[[float], np.ndarray], scale: float, alphas: Sequence[float]) -> float:
    """Choose alpha without labels: the one with the largest mean of the likeliest class's probability; ties go to the larger alpha.

    photos: float32 [N, D]. classes: alpha -> float32 [C, D]. scale: multiplies the cosine before the softmax.
    """
    best, best_mean = 1.0, -1.0
    for alpha in sorted(alphas, reverse=True):
        likeliest = float(probabilities(photos, classes(alpha), scale).max(axis=1).mean())
        if likeliest > best_mean + 1e-9:
            best, best_mean = alpha, likeliest
    return best
