"""Trains the composer head that ships with rankclip-mini, measures it, and writes its pack.

    python examples/train_composer/triplets.py ../shared/data runs/composer
    python examples/train_composer/train.py runs/composer --kind combiner --members 2 --set epochs=14 --set patience=14

Needs about 14,000 photos embedded once (10 minutes on two cores) and then reads only the store. Prints, for each part of the triplets apart,
what needs no training, the head, their paired difference, and how often the reference itself would have come first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import triplets as making

from rankclip.collection import Collection
from rankclip.collection.composition import NEAR
from rankclip.evaluation import composition as metrics
from rankclip.evaluation import triplets
from rankclip.evaluation.composition import Values
from rankclip.heads import packs
from rankclip.heads.composer import GRAPH, ComposerHead
from rankclip.training import composer, composer_gather, composer_job, runs
from rankclip.training.composer import Config, Outcome
from rankclip.training.composer_data import Data, baselines, measured
from rankclip.training.models import composer as models
from rankclip.types import Features

NAME, LICENCE = "composer-mini", "CC BY-NC 4.0"
PARTS = ("fashion", "edits", "swaps")
SHOP = "fashion/"
NEUTRAL_PHOTOS, NEUTRAL_PLACES = 400, 200
LIMITS = (
    "Trained on shop photos with attribute changes and on photos with instructions that rules made from captions; changes of style, camera or counts above "
    "five were rare. What its training photos do not show, such as a rocket, it may miss. Text in other languages than English means "
    "nothing to it."
)
SAID = ("R@1", "R@5", "R@10", "R@50", "reference first")


class Talk:
    """Prints what the recipe says."""

    def start(self, total: int | None, what: str) -> None: ...
    def advance(self, count: int = 1) -> None: ...
    def done(self) -> None: ...

    def note(self, message: str) -> None:
        print(message, flush=True)


def part_of(data: Data, part: str, parts_of: dict[str, list[str]], names: list[str]) -> Data:
    """The same data, validated on one part alone: its own triplets over all photos of its kind, shop photos or others."""
    train, val = (np.flatnonzero(np.array(parts_of[split]) == part) for split in ("train", "val"))
    gallery = np.array([row for row in data.gallery.tolist() if names[row].startswith(SHOP) == (part == making.FASHION)], np.int64)
    some = data.train.some(train)
    return dataclasses.replace(
        data, val=data.val.some(val), gallery=gallery, train=some, train_gallery=np.unique(np.concatenate([some.reference, some.target[some.target >= 0]]))
    )


def of_head(head: ComposerHead, data: Data) -> Values:
    """Measure the written pack itself, through ONNX Runtime."""
    texts = data.instructions

    def scores(rows: np.ndarray) -> np.ndarray:
        some = data.val.some(rows)
        tokens = None if data.photos.tokens is None else data.photos.tokens[some.reference].astype(np.float32)
        asked = some.instruction
        query = head.compose(
            Features(data.photos.pooled[some.reference], tokens), texts.states[asked].astype(np.float32), texts.real[asked], texts.pooled[asked]
        )
        return query @ data.photos.pooled[data.gallery].T

    return measured(data, data.val, data.gallery, scores)


def row(values: Values) -> dict[str, dict[str, float]]:
    return {name: composer.figure_row(metrics.figure(values[name])) for name in SAID}


def report(head: ComposerHead, data: Data) -> dict[str, object]:
    """What needs no training, the head, and the paired difference to the best of the others."""
    found = {name: (strength, values) for name, (strength, values) in baselines(data).items()}
    mine = of_head(head, data)
    best = max(found, key=lambda name: found[name][1]["R@10"].mean())
    out: dict[str, object] = {name: row(values) | {"strength": strength} for name, (strength, values) in found.items()}
    gain = composer.figure_row(metrics.difference(mine["R@10"], found[best][1]["R@10"]))
    return out | {"head": row(mine), "best without training": best, "gain": gain, "queries": len(mine["R@10"]), "gallery": len(data.gallery)}


def trained(data: Data, folder: Path, config: Config, members: int) -> Outcome:
    """Train one head for each seed; several become one."""
    base = baselines(data)
    found = [composer.train(data, folder / str(seed), dataclasses.replace(config, seed=seed), progress=Talk(), base=base) for seed in range(members)]
    if members == 1:
        return found[0]
    model = models.Mean([one.model for one in found])
    shown = data if config.kind in models.TOKEN_READERS else composer.without_tokens(data)
    return dataclasses.replace(found[0], model=model, graph=composer.export(model, shown), parameters=sum(one.parameters for one in found))


def unchanged(head: ComposerHead, data: Data) -> dict[str, object]:
    """How the head itself orders photos where no change is asked for: Spearman with image search over its first photos.

    In the tool the parser keeps such instructions from the head.
    """
    rng, values = np.random.default_rng(0), []
    vectors, texts = data.photos.pooled[data.gallery], data.instructions
    for reference in rng.permutation(np.unique(data.val.reference))[:NEUTRAL_PHOTOS].tolist():
        photo = data.photos.pooled[reference]  # [D]
        tokens = None if data.photos.tokens is None else data.photos.tokens[[reference]].astype(np.float32)
        cosines = vectors @ photo  # [G]
        near = np.flatnonzero(cosines <= NEAR)
        first = near[np.argsort(-cosines[near])[:NEUTRAL_PLACES]]
        row = [data.wordings[str(rng.choice(composer.NEUTRAL))]]
        query = head.compose(Features(photo[None], tokens), texts.states[row].astype(np.float32), texts.real[row], texts.pooled[row])[0]
        values.append(np.corrcoef(np.argsort(np.argsort(cosines[first])), np.argsort(np.argsort(vectors[first] @ query)))[0, 1])
    return {"Spearman": composer.figure_row(metrics.figure(np.array(values))), "queries": len(values), "gallery": len(data.gallery)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what triplets.py wrote")
    parser.add_argument("--parts", default=",".join(PARTS), help="which triplets to learn from and to be measured on")
    parser.add_argument("--kind", default="transformer")
    parser.add_argument("--members", type=int, default=1, help="so many heads, trained with one seed each, averaged in one file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--store", default="", help="store with the photos (default: in the folder)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the pack there (default: in the folder)")
    given = parser.parse_args()
    parts = given.parts.split(",")
    import torch

    torch.set_num_threads(given.threads)
    config = runs.configured(Config(kind=given.kind), dict(one.split("=", 1) for one in given.set), "--set")

    # ------------------------------------------------------------ data
    root = given.folder / "photos"
    read = {part: triplets.read(given.folder / f"{part}.jsonl") for part in parts}
    rows = [one for some in read.values() for one in some]
    parts_of = {split: [part for part, some in read.items() for one in some if one.split == split] for split in ("train", "val")}
    paths = composer_job.paths_of(rows, [], root)
    collection = Collection(*paths, store=given.store or str(given.folder / "store"), threads=given.threads, workers=1, progress=Talk())
    data, left = composer_gather.gather(rows, [], collection, root)
    names = list(dict.fromkeys(name for one in rows for name in (one.reference, *one.targets)))
    print(*composer_job.described(data, config), *left, sep="\n", flush=True)
    assert not left, "rows and parts must stay in step"

    # ------------------------------------------------------------ training, pack
    outcome = trained(data, given.folder / f"run-{given.kind}-{'-'.join(parts)}", config, given.members)
    card = composer_job.card(NAME, data, outcome, config, collection.backbone.space, given.folder / "fashion.jsonl")
    origin = (
        f"{len(data.train):,} triplets over {len(data.photos.pooled):,} photos of {', '.join((making.FASHION, *making.CAPTIONED))}; non-commercial research",
    )
    card = dataclasses.replace(card, licence=LICENCE, data=origin, limits=LIMITS, figures={})
    folder = given.output or given.folder / NAME
    pack = packs.write(folder, card, {GRAPH: outcome.graph})

    # ------------------------------------------------------------ figures of the written pack, each part over its own photos
    figures: dict[str, object] = {part: report(ComposerHead(pack), part_of(data, part, parts_of, names)) for part in parts}
    figures["no change"] = unchanged(ComposerHead(pack), data)
    packs.write(folder, dataclasses.replace(card, figures=figures), {GRAPH: outcome.graph})
    print(json.dumps(figures, indent=1))
    print(f"{folder}: {len(outcome.graph) / 1e6:.1f} MB, {outcome.parameters:,} parameters")


if __name__ == "__main__":
    main()
