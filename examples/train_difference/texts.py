"""Does text alone help the map? Sentences of Spot-the-diff and editing requests, whose photos we have not, as further rows of the closed form.

    python examples/train_difference/texts.py DATA SHARED --store DIR [--left-out FILE] [--pairs 60000] [--rare 120000]

A sentence's sides give a direction d in text space. Three targets for it: `anchor`, d itself, at the scale of the map; `pseudo`, the mean of the 20
training photos nearest to each phrase of the first side, less that of the second; `own`, the anchor on training sentences instead of the texts,
as a control. Prints sign accuracy on validation sentences with the paired difference to the map without texts (95 % interval by bootstrap over
photos), the attribute tests, and how often another person's wording of an editing request is the nearest (341 held-out requests).
"""

from __future__ import annotations

import argparse
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankclip.collection import Collection
from rankclip.evaluation import signs
from rankclip.heads.difference import normalised, sided
from rankclip.heads.sides import read
from rankclip.settings import Settings
from rankclip.training.comparing import BOOTSTRAPS, DifferenceJob, gather, in_parts, read_captions_file, read_pairs_file
from rankclip.training.difference import Config, Sentences, accuracy
from rankclip.training.generator.frames import tokens
from rankclip.types import Silent

STRENGTHS = (0.03, 0.1, 0.3, 1.0)  # of the texts' rows beside those of the photos, by mean square
NEAREST = 20  # training photos that stand for a phrase


@dataclass(frozen=True, slots=True)
class Rows:
    """Second moments of inputs and targets, float64 [D, D] each."""

    cross: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, inputs: np.ndarray, targets: np.ndarray) -> Rows:
        x, y = inputs.astype(np.float64), targets.astype(np.float64)
        return cls(x.T @ y / len(x), x.T @ x / len(x))

    @property
    def scale(self) -> float:
        return float(np.trace(self.cross) / np.trace(self.square))

    def joined(self, other: Rows, strength: float, *, scale: float) -> Rows:
        """Add rows at a share of the mean square; `scale` is what their best multiple of the identity is brought to."""
        share = strength * np.trace(self.square) / np.trace(other.square)
        return Rows(self.cross + share * other.cross * scale / other.scale, self.square + share * other.square)

    def solved(self, config: Config) -> np.ndarray:
        """The map as `finetune difference` starts it, mixed with the identity: float32 [D, D]."""
        eye = np.eye(len(self.square))
        pull = config.ridge * np.trace(self.square) / len(eye) ** 0.5
        found = np.linalg.solve(self.square + (pull + 1e-10) * eye, self.cross + pull * self.scale * eye)
        return np.asarray(config.average * found + (1 - config.average) * eye * np.trace(found) / len(eye), np.float32)


def texts_of(shared: Path, pack: str, split: str, key: str) -> list[list[str]]:
    with gzip.open(shared / f"data/composed_text/{pack}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [row[key] for row in map(json.loads, lines) if row["split"] == split]


class World:
    """Sentences, photos and texts, embedded once."""

    def __init__(self, options: argparse.Namespace) -> None:
        settings = Settings(store=options.store, threads=1)
        left_out = options.left_out.read_text().strip() if options.left_out else ""
        job = DifferenceJob(settings, Silent(), threading.Event(), name="texts", run=None,
                            changes={"pairs": options.pairs, "rare": options.rare, "left_out": left_out})  # fmt: skip
        self.config = job.config
        rows, given = read_captions_file(options.data / options.captions), read_pairs_file(options.data / options.given)
        paths = list(dict.fromkeys([*(row.path for row in rows), *(path for one in given for path in (one.a, one.b))]))
        self.tests = signs.read("jsonl", options.data / options.tasks)
        collection = Collection(*paths, *sorted({path for test in self.tests for path in test.paths}), settings=settings)
        self.library = gather(collection, rows, paths, job.banned)
        self.train, self.val, _ = job.sentences(self.library, given)
        self.memory: dict[str, np.ndarray] = {}
        self.tower = collection.text_engine.encode_texts
        phrases = phrases_of(self.train.texts)
        self.centre = self.embed(phrases).mean(axis=0)
        told = [one for pack, key in (("spot_the_diff", "sentences"), ("image_editing_request", "requests"))
                for some in texts_of(options.shared, pack, "train", key) for one in some]  # fmt: skip
        self.texts = [one for one in dict.fromkeys(told) if not job.banned & set(tokens(one)) and any((*read(one).first, *read(one).second))]
        self.asked = [some for some in texts_of(options.shared, "image_editing_request", "valid", "requests") if len(some) == 3]
        with collection.opened(scan=False) as (_, view, gallery):
            at = dict(zip(gallery.paths(np.arange(len(gallery.contents))), view.rows_of(gallery.contents).tolist(), strict=True))
            self.sides = [[view.read_embeddings(np.array([at[path] for path in side])) for side in (test.high, test.low)] for test in self.tests]

    def embed(self, texts: list[str]) -> np.ndarray:
        missing = [text for text in dict.fromkeys(texts) if text not in self.memory]
        self.memory.update(zip(missing, in_parts(self.tower, missing, Silent()), strict=True) if missing else ())
        return np.stack([self.memory[text] for text in texts])

    def inputs(self, texts: list[str]) -> np.ndarray:
        return sided(texts, self.embed, self.centre)


def phrases_of(texts: list[str]) -> list[str]:
    return sorted({phrase for text in texts for side in (read(text).first, read(text).second) for phrase in side})


def pseudo(world: World) -> np.ndarray:
    """What photos near to the phrases of both sides differ in: float32 [T, D]."""
    photos = world.library.photos[~world.library.val]
    phrases = phrases_of(world.texts)
    near = np.stack([photos[np.argpartition(-(photos @ vector), NEAREST)[:NEAREST]].mean(axis=0) for vector in world.embed(phrases)])
    known = dict(zip(phrases, near - near.mean(axis=0), strict=True))
    return sided(world.texts, lambda some: np.stack([known[one] for one in some]), np.zeros(photos.shape[1], np.float32))


def candidates(world: World) -> Iterator[tuple[str, np.ndarray]]:
    """Name and map of each way, the one without texts first."""
    x, y = world.inputs(world.train.texts), world.train.differences(world.library.photos)
    photos = Rows.of(x, y)
    yield "photos alone", photos.solved(world.config)
    d = world.inputs(world.texts)
    some = x[np.random.default_rng(0).permutation(len(x))[: len(d)]]
    for name, rows in (("anchor", Rows.of(d, d)), ("pseudo", Rows.of(d, pseudo(world))), ("own", Rows.of(some, some))):
        for strength in STRENGTHS:
            yield f"{name} {strength:g}", photos.joined(rows, strength, scale=photos.scale).solved(world.config)


def paired(world: World, right: np.ndarray, other: np.ndarray, val: Sentences) -> list[float]:
    """95 % interval of the difference of two accuracies."""
    rng, count = np.random.default_rng(0), len(world.library.paths)
    found = []
    for _ in range(BOOTSTRAPS):
        drawn = rng.multinomial(count, np.full(count, 1 / count))
        weights = drawn[val.a] * drawn[val.b]
        found.append(float((weights * (right.astype(float) - other)).sum() / max(1, weights.sum())))
    return [round(float(np.quantile(found, q)), 4) for q in (0.025, 0.975)]


def paraphrases(world: World, embed: Callable[[list[str]], np.ndarray]) -> float:
    worded = [normalised(embed([some[k] for some in world.asked])) for k in range(3)]
    return float(np.mean([((worded[i] @ worded[j].T).argmax(axis=1) == np.arange(len(world.asked))).mean() for i in range(3) for j in range(3) if i != j]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--captions", default="captions.jsonl")
    parser.add_argument("--given", default="pairs.jsonl")
    parser.add_argument("--tasks", default="tasks.jsonl")
    parser.add_argument("--store", default="")
    parser.add_argument("--left-out", type=Path)
    parser.add_argument("--pairs", type=int, default=60_000)
    parser.add_argument("--rare", type=int, default=120_000)
    world = World(parser.parse_args())
    print(json.dumps({"sentences": len(world.train), "texts": len(world.texts), "val": len(world.val)}), flush=True)
    x, wanted = world.inputs(world.val.texts), world.val.differences(world.library.photos)
    first = None
    for name, matrix in candidates(world):
        right = ((x @ matrix) * wanted).sum(axis=1) > 0
        first = right if first is None else first

        def embed(texts: list[str], matrix: np.ndarray = matrix) -> np.ndarray:
            return normalised(world.inputs(texts) @ matrix)

        tests = {test.name: round(signs.report(test, high, low, embed, name).accuracy, 3) for test, (high, low) in zip(world.tests, world.sides, strict=True)}
        print(json.dumps({"way": name, "one sentence": round(accuracy(x @ matrix, wanted), 4), "less photos alone": paired(world, right, first, world.val),
                          "paraphrases": round(paraphrases(world, embed), 3), **tests}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
