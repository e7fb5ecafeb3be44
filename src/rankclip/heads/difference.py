"""The difference head at work: sentences that compare two photos -> directions in image space. NumPy and ONNX Runtime.

Only the text side is trained, so every stored embedding stays valid. Two text paths are kept apart: plain texts go through the backbone as
before, comparing sentences through the head. Two forms, told by the card:

    map     e(s) = unit(M (mean f(phrases of the first photo) - mean f(phrases of the second))): the sentence's two sides are read by rules
            (`sides`), embedded by the backbone, centred, and mapped by one matrix. Swapping the photos in the sentence flips e exactly.
    whole   e(s) = unit(M f(s)): the matrix alone, for comparison
    tower   e(s) = unit(tower(token ids of s)): a text tower of its own, as the authors train it

A pack may also hold `axes.npz`: the vocabulary's axes, read once, so that `diff` needs no text tower at all.
Source: Sam et al. 2025 (PC-CLIP) for training text alone on image differences; the map and the reading of sides are ours.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from rankclip.backbones.tokens import END, tokenize
from rankclip.errors import ModelError
from rankclip.heads.packs import Pack

MATRIX, GRAPH, AXES = "head.npz", "head.onnx", "axes.npz"
FORMS = ("map", "whole", "tower")
TEXTS_AT_ONCE = 64
READING = 1  # raise it where `sides` or `changes` read a sentence otherwise than before: what stores remember is then read again

Embed = Callable[[list[str]], np.ndarray]  # texts -> float32 [Q, D], unit rows


@dataclass(frozen=True, slots=True)
class DifferenceConfig:
    """The head's part of its card. Slopes turn a z into a probability; the threshold is the |z| that similar photos reach by chance."""

    form: str = "map"
    context: int = 77
    slope: float = 1.0  # for axes read by the head
    plain_slope: float = 1.0  # for axes from plain texts
    threshold: float = 2.5
    plain_groups: tuple[str, ...] = ()  # groups of attributes in which validation found plain texts better
    vocabulary: str = ""  # digest of the vocabulary that axes.npz was read from
    recipe: dict[str, Any] = field(default_factory=dict)  # the training run's configuration


@dataclass(frozen=True, slots=True)
class Axes:
    """The vocabulary's axes, and its phrases as plain texts. All of it over the training photos.

    vectors: float32 [V, D], unit. spread: float32 [V], of the difference of random pairs. sights: float32 [P, D], unit. usual, unusual: float32
    [P], mean and standard deviation of the cosine with each phrase. needed: float32 [P], how many of those above what is usual a photo must be
    before it is told to show the phrase.
    """

    vectors: np.ndarray
    spread: np.ndarray
    sights: np.ndarray
    usual: np.ndarray
    unusual: np.ndarray
    needed: np.ndarray


@dataclass(frozen=True, slots=True)
class Weights:
    """matrix: float32 [D, D], e = (first - second) @ matrix. centre: float32 [D], mean embedding of the phrases it was trained on."""

    matrix: np.ndarray
    centre: np.ndarray


def sided(texts: list[str], embed: Embed, centre: np.ndarray) -> np.ndarray:
    """Embed both sides of comparing sentences and subtract: float32 [Q, D]; a side that says nothing counts as the centre.

    embed: plain phrases -> float32 [_, D]. centre: float32 [D].
    """
    from rankclip.heads.sides import read  # its rules take 30 ms to compile: only where a sentence is read

    sides = [read(text) for text in texts]
    phrases = list(dict.fromkeys(phrase for one in sides for phrase in (*one.first, *one.second)))
    rows = dict(zip(phrases, embed(phrases) - centre, strict=True)) if phrases else {}

    def mean(names: tuple[str, ...]) -> np.ndarray:
        return np.mean([rows[name] for name in names], axis=0) if names else np.zeros_like(centre)

    return np.stack([mean(one.first) - mean(one.second) for one in sides]).astype(np.float32)


class DifferenceHead:
    """A difference pack, its files loaded on demand.

    >>> DifferenceHead(pack).embedder(embed)(["The first photo is brighter, while the second is darker."]).shape  # doctest: +SKIP
    (1, 384)
    """

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        known = {one.name for one in fields(DifferenceConfig)}
        given = dict(pack.card.config)
        if unknown := sorted(set(given) - known):
            raise ModelError(f"{pack.folder}: the card's config has unknown keys: {', '.join(unknown)}", hint="update rankclip, or train the head again")
        given["plain_groups"] = tuple(given.get("plain_groups", ()))
        self.config = DifferenceConfig(**given)
        if self.config.form not in FORMS:
            raise ModelError(f"{pack.folder}: unknown form {self.config.form!r}", hint=f"this rankclip knows: {', '.join(FORMS)}")

    @property
    def key(self) -> str:
        """Names weights and rules in caches."""
        return f"{self.pack.name}|{self.pack.card.files[GRAPH if self.config.form == 'tower' else MATRIX][:16]}|{READING}"

    def prefers(self, group: str) -> bool:
        """Tell whether the head is to read a group of attributes: all but those in which validation found plain texts better."""
        return group not in self.config.plain_groups

    def embedder(self, embed: Embed) -> Embed:
        """Return the head's own text path: comparing sentences -> float32 [Q, D], unit rows.

        embed: the backbone's text path.
        """

        def compare(texts: list[str]) -> np.ndarray:
            if self.config.form == "tower":
                return np.concatenate([self._read(texts[i : i + TEXTS_AT_ONCE]) for i in range(0, len(texts), TEXTS_AT_ONCE)])
            inputs = sided(texts, embed, self.weights.centre) if self.config.form == "map" else embed(texts)  # [Q, D]
            return normalised(inputs @ self.weights.matrix)  # [Q, D] @ [D, D]

        return compare

    def _read(self, texts: list[str]) -> np.ndarray:
        ids = tokenize(texts, context=self.config.context)  # int64 [Q, T]
        longest = int((ids == END).argmax(axis=1).max()) + 1
        return normalised(self._session.run(["direction"], {"ids": ids[:, :longest]})[0])

    @cached_property
    def weights(self) -> Weights:
        with np.load(io.BytesIO(self.pack.file(MATRIX).read_bytes())) as found:
            return Weights(found["matrix"].astype(np.float32), found["centre"].astype(np.float32))

    @cached_property
    def axes(self) -> Axes | None:
        """The vocabulary's axes, where the pack holds them."""
        if AXES not in self.pack.card.files:
            return None
        with np.load(io.BytesIO(self.pack.file(AXES).read_bytes())) as found:
            vectors, sights = (normalised(found[name].astype(np.float32)) for name in ("vectors", "sights"))
            needed = found["needed"] if "needed" in found else np.zeros(len(sights), np.float32)  # packs of before have none
            return Axes(vectors, found["spread"], sights, found["usual"], found["unusual"], needed)

    @cached_property
    def _session(self) -> Any:
        return self.pack.session(GRAPH, threads=1)


def normalised(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length: float32 [..., D]; a zero row stays zero."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def packed(**arrays: np.ndarray) -> bytes:
    """Return arrays as the bytes of an .npz file, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def axes_file(axes: Axes) -> bytes:
    """Return `axes.npz`: vectors and sights as float16."""
    return packed(**{name: rows.astype(np.float16 if rows.ndim == 2 else np.float32) for name, rows in asdict(axes).items()})
