"""Compare the recipes of `finetune difference` on the same sentences about the same photos, and choose by validation.

    python examples/train_difference/recipes.py DATA --store DIR --tower weights/rankclip-mini-text.safetensors [--recipes map,whole] [--train 20000]

DATA is what prepare.py wrote. Prints a line a recipe: sign accuracy of one sentence and of the reversed pair on validation sentences (both
orders, 95 % interval by bootstrap over photos), and what becomes of plain search when it goes through the same text path: top-1 of the
classes of caltech101, whose photos nothing is trained on, and text to image R@1 on validation photos with captions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rankclip.collection import Collection
from rankclip.heads.difference import normalised, sided
from rankclip.scoring import Embed
from rankclip.settings import Settings
from rankclip.training import difference, runs
from rankclip.training.comparing import DifferenceJob, Library, Measure, gather, in_parts, read_captions_file, read_pairs_file
from rankclip.training.difference import Config, Data, Sentences
from rankclip.training.generator import Told
from rankclip.types import Silent

TEMPLATE = "a photo of {}"
# name -> what is set; at 500 times the rate, 40 steps go as far as the thousands of the authors
RECIPES: dict[str, dict[str, object]] = {
    "map": {},
    "map, not averaged": {"average": 1.0},
    "map, mse": {"loss": "mse", "average": 1.0},
    "map, ridge alone": {"epochs": 0, "average": 1.0},
    "whole": {"recipe": "whole", "average": 1.0},
    "authors": {"recipe": "authors"},
    "authors, rate x 500": {"recipe": "authors", "rate": 5e-6},
    "lowrank": {"recipe": "lowrank"},
    "control": {"recipe": "control"},
}


@dataclass(frozen=True, slots=True)
class World:
    """What all recipes share. searches: a plain text path -> figures of plain search."""

    collection: Collection
    library: Library
    train: Sentences
    val: Sentences
    told: list[Told]
    back: list[str]
    known: Embed
    searches: Callable[[Embed], dict[str, float]]


def picked(sentences: Sentences, places: np.ndarray) -> Sentences:
    return Sentences(sentences.a[places], sentences.b[places], [sentences.texts[i] for i in places])


def in_twos(count: int, most: int, seed: int) -> np.ndarray:
    """Choose whole pairs of a sentence and its reverse, which lie side by side: int64 [at most `most`]."""
    twos = np.sort(np.random.default_rng(seed).permutation(count // 2)[: most // 2])
    return np.stack([2 * twos, 2 * twos + 1], axis=1).ravel()


def prepared(data: Path, options: argparse.Namespace) -> World:
    settings = Settings(store=options.store, threads=1)
    job = DifferenceJob(settings, Silent(), threading.Event(), name="compared", run=None, changes={})
    rows, given = read_captions_file(data / options.captions), read_pairs_file(data / options.pairs)
    extra = [json.loads(line) for line in Path(options.classes).read_text().splitlines()]
    folder = Path(options.class_photos)
    paths = list(dict.fromkeys([*(row.path for row in rows), *(path for one in given for path in (one.a, one.b))]))
    collection = Collection(*paths, *(str(folder / row["path"]) for row in extra), settings=settings)
    library = gather(collection, rows, paths, frozenset())
    train, val, told = job.sentences(library, given)
    places = in_twos(len(val), options.val, 1)
    told = [told[i] for i in places]
    memory: dict[str, np.ndarray] = {}

    def known(texts: list[str]) -> np.ndarray:
        missing = [text for text in dict.fromkeys(texts) if text not in memory]
        memory.update(zip(missing, in_parts(collection.text_engine.encode_texts, missing, Silent()), strict=True) if missing else ())
        return np.stack([memory[text] for text in texts])

    with collection.opened(scan=False) as (_, view, gallery):
        at = dict(zip(gallery.paths(np.arange(len(gallery.contents))), view.rows_of(gallery.contents).tolist(), strict=True))
        places_of = [at[str(folder / row["path"])] for row in extra]
        photos = view.read_embeddings(np.array(places_of))  # [N, D]
    names = sorted({row["label_text"] for row in extra})
    labels = np.array([names.index(row["label_text"]) for row in extra])
    held = [i for i in np.flatnonzero(library.val) if len(library.captions[i]) >= 3]

    def searches(embed: Embed) -> dict[str, float]:
        classes = embed([TEMPLATE.format(name) for name in names])  # [C, D]
        captions = embed([library.captions[i][0] for i in held])  # [H, D]
        found = (captions @ library.photos[held].T).argmax(axis=1)
        return {"caltech101": float(((photos @ classes.T).argmax(axis=1) == labels).mean()), "R@1": float((found == np.arange(len(held))).mean())}

    return World(collection, library, train, picked(val, places), told, [one.sentence.reversed().text for one in told], known, searches)


def report(world: World, name: str, embed: Embed, plain: Embed, seconds: float) -> dict[str, object]:
    """Figures of one text path. embed: for comparing sentences. plain: for plain search through the same weights."""
    wanted = world.val.differences(world.library.photos)
    directions, back = embed(world.val.texts), embed(world.back)
    one, two = (directions * wanted).sum(axis=1), ((normalised(directions) - normalised(back)) * wanted).sum(axis=1)
    measure = Measure(world.library, world.val, world.told, world.known, np.zeros(directions.shape[1], np.float32))
    shown = {"recipe": name, "one": (one > 0).mean(), "one_interval": measure.interval(one > 0), "reversed": (two > 0).mean(),
             "reversed_interval": measure.interval(two > 0), "geometry": float(1 - (normalised(directions) * normalised(wanted)).sum(axis=1).mean()),
             **world.searches(plain), "seconds": seconds}  # fmt: skip
    return {key: round(float(value), 4) if isinstance(value, float) else value for key, value in shown.items()}


def trained(world: World, name: str, options: argparse.Namespace) -> dict[str, object]:
    """Train one recipe on the shared sentences and measure it."""
    changes = RECIPES[name]
    preset = difference.PRESETS.get(str(changes.get("recipe", "map")), {})
    config = replace(Config(), **{**preset, **changes, "tower": options.tower, "pairs": 0})
    towers = config.recipe not in ("map", "whole")
    limit = options.tower_train if towers else options.train
    train = picked(world.train, in_twos(len(world.train), limit, 0)) if limit else world.train
    centre = np.zeros(world.library.photos.shape[1], np.float32)
    if not towers and config.recipe == "map":
        from rankclip.heads.sides import read

        phrases = sorted({phrase for text in train.texts for side in (read(text).first, read(text).second) for phrase in side})
        centre = world.known(phrases).mean(axis=0)

    def inputs(texts: list[str]) -> np.ndarray:
        return world.known(texts) if config.recipe == "whole" else sided(texts, world.known, centre)

    captions = [(i, text) for i, texts in enumerate(world.library.captions) if not world.library.val[i] for text in texts[:1]]
    captions = [captions[i] for i in np.random.default_rng(0).permutation(len(captions))[: limit or len(captions)]]
    began = time.monotonic()
    held = picked(world.val, in_twos(len(world.val), 200, 2)) if towers else world.val  # what a tower is looked at after each epoch; all of them at the end
    with tempfile.TemporaryDirectory() as folder:
        team = runs.join_team("cpu")
        found = difference.train(Data(world.library.photos, train, held, captions), config, Path(folder), inputs=inputs,
                                 backbone=world.collection.backbone, team=team, progress=Silent())  # fmt: skip
        seconds = time.monotonic() - began
        if found.matrix is not None:
            matrix = found.matrix
            return report(world, name, lambda texts: inputs(texts) @ matrix, lambda texts: normalised((world.known(texts) - centre) @ matrix), seconds)
        graph = Path(folder) / "tower.onnx"
        graph.write_bytes(found.graph)
        embed = runner(graph, world.collection.backbone.context)
        return report(world, name, embed, embed, seconds)


def runner(graph: Path, context: int) -> Embed:
    """Run an exported tower: texts -> float32 [Q, D]."""
    import onnxruntime

    from rankclip.backbones.tokens import END, tokenize

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def encode(texts: list[str]) -> np.ndarray:
        ids = tokenize(texts, context=context)
        return np.asarray(session.run(["direction"], {"ids": ids[:, : int((ids == END).argmax(axis=1).max()) + 1]})[0])

    return lambda texts: in_parts(encode, texts, Silent(), 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--captions", default="captions.jsonl")
    parser.add_argument("--pairs", default="pairs.jsonl")
    parser.add_argument("--classes", required=True, help="caltech101.jsonl")
    parser.add_argument("--class-photos", required=True, help="the folder that its paths are in")
    parser.add_argument("--store", default="")
    parser.add_argument("--tower", default="weights/rankclip-mini-text.safetensors")
    parser.add_argument("--recipes", default=";".join(RECIPES), help="names with semicolons between")
    parser.add_argument("--train", type=int, default=0, help="sentences the maps learn from at most, 0 for all")
    parser.add_argument("--tower-train", type=int, default=10_000, help="sentences a tower learns from at most")
    parser.add_argument("--val", type=int, default=4_000, help="validation sentences")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = prepared(options.data, options)
    print(json.dumps({"photos": len(world.library.paths), "train": len(world.train), "val": len(world.val)}), flush=True)
    print(json.dumps(report(world, "untuned", world.known, world.known, 0.0)), flush=True)
    for name in options.recipes.split(";"):
        print(json.dumps(trained(world, name, options)), flush=True)


if __name__ == "__main__":
    main()
