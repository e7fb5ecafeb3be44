"""Trains the composer head that ships with rankclip-mini, measures it, and writes its pack.

    python examples/train_composer/triplets.py ../shared/data runs/composer
    python examples/train_composer/train.py runs/composer

The settings that stand here are those of the pack that ships. Needs about 14,000 photos embedded once and then reads only the store: 14 minutes on
one core in all. Prints, for each part of the triplets apart, what needs no training, the head, their paired difference, and how often the
reference itself would have come first. `--measure PACK` trains nothing: it measures a pack that is there and writes the figures into its card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import triplets as making

from rankclip.collection import Collection
from rankclip.collection.composition import NEAR
from rankclip.composing import Composition, Material, head_composition
from rankclip.evaluation import composition as metrics
from rankclip.evaluation import triplets
from rankclip.evaluation.composition import Values
from rankclip.heads import packs
from rankclip.heads.composer import GRAPH, ComposerHead
from rankclip.heads.packs import Pack
from rankclip.instructions.roles import read_roles
from rankclip.scoring import phrase_embedding
from rankclip.training import composer, composer_gather, composer_job, runs
from rankclip.training.composer import Config, Outcome
from rankclip.training.composer_data import Data, Memo, as_told, baselines, composed
from rankclip.training.models import composer as models
from rankclip.types import Features, Space

NAME, LICENCE = "composer-mini", "CC BY-NC 4.0"
SHIPPED = Config("flow", epochs=10, patience=10)
MEMBERS = 1
PARTS = ("fashion", "edits", "swaps")
LIKE = {"without": "edits"}  # measured, never trained on -> where the strengths of the untrained composers come from
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
    train, val = (np.flatnonzero(np.array(parts_of[split]) == name) for split, name in (("train", LIKE.get(part, part)), ("val", part)))
    gallery = np.array([row for row in data.gallery.tolist() if names[row].startswith(SHOP) == (part == making.FASHION)], np.int64)
    some = data.train.some(train)
    return dataclasses.replace(
        data, val=data.val.some(val), gallery=gallery, train=some, train_gallery=np.unique(np.concatenate([some.reference, some.target[some.target >= 0]]))
    )


def of_head(head: ComposerHead, data: Data) -> Values:
    """Measure the written pack itself, through ONNX Runtime, just as `compose-search` runs it."""
    val, texts, memo = data.val, data.instructions, Memo(data.embed)
    told = as_told(data, val.instruction)

    def compose(place: int) -> Composition:
        reference, roles = val.reference[[place]], read_roles(texts.names[int(val.instruction[place])])
        photo, row = data.photos.pooled[reference], told[[place]]
        tokens = None if data.photos.tokens is None else data.photos.tokens[reference].astype(np.float32)
        query = head.compose(Features(photo, tokens), texts.states[row].astype(np.float32), texts.real[row], texts.pooled[row])[0]
        learnt, text = (query, phrase_embedding(roles.wanted, memo)) if roles.wanted else (None, None)
        return head_composition(Material(photo[0], text, (roles,), learnt=learnt, beside=(roles.beside_head,)), memo)

    return composed(data, val, data.gallery, compose)


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


@dataclass(frozen=True, slots=True)
class Gathered:
    """All parts as one. names: photos, in the order of the data's rows. parts_of: the part of each triplet, by side."""

    data: Data
    names: list[str]
    parts_of: dict[str, list[str]]
    space: Space


def gathered(folder: Path, parts: list[str], store: str, threads: int) -> Gathered:
    """Embed what the store lacks; put the triplets and every photo of the validation side into tables."""
    read = {part: triplets.read(folder / f"{part}.jsonl") for part in (*parts, *(name for name, like in LIKE.items() if like in parts))}
    rows = [one for some in read.values() for one in some]
    gallery, root = composer_gather.read_captions(folder / "gallery.jsonl"), folder / "photos"
    collection = Collection(*composer_job.paths_of(rows, gallery, root), store=store or str(folder / "store"), threads=threads, workers=1, progress=Talk())
    data, left = composer_gather.gather(rows, gallery, collection, root)
    assert not left, "rows and parts must stay in step"
    parts_of = {side: [part for part, some in read.items() for one in some if one.split == side] for side in ("train", "val")}
    names = dict.fromkeys(name for one in rows for name in (one.reference, *one.targets)) | dict.fromkeys(one.path for one in gallery)
    assert len(names) == len(data.photos.pooled), "every photo is there"
    return Gathered(data, list(names), parts_of, collection.backbone.space)


def made(given: argparse.Namespace, found: Gathered, config: Config) -> Pack:
    """Train, and write the pack."""
    seen = np.flatnonzero([part not in LIKE for part in found.parts_of["val"]])
    data = dataclasses.replace(found.data, val=found.data.val.some(seen))
    print(*composer_job.described(data, config), sep="\n", flush=True)
    outcome = trained(data, given.folder / f"run-{config.kind}-{given.parts.replace(',', '-')}", config, given.members)
    card = composer_job.card(NAME, data, outcome, config, found.space, given.folder / "fashion.jsonl")
    origin = (
        f"{len(data.train):,} triplets over {len(data.photos.pooled):,} photos of {', '.join((making.FASHION, *making.CAPTIONED))}; non-commercial research",
    )
    card = dataclasses.replace(card, licence=LICENCE, data=origin, limits=LIMITS, figures={})
    print(f"{len(outcome.graph) / 1e6:.1f} MB, {outcome.parameters:,} parameters")
    return packs.write(given.output or given.folder / NAME, card, {GRAPH: outcome.graph})


def figures_of(head: ComposerHead, found: Gathered) -> dict[str, object]:
    """Each part over all validation photos of its kind, and what the head does where no change is asked for."""
    parts = list(dict.fromkeys(found.parts_of["val"]))
    figures: dict[str, object] = {part: report(head, part_of(found.data, part, found.parts_of, found.names)) for part in parts}
    return figures | {"no change": unchanged(head, found.data)}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what triplets.py wrote")
    parser.add_argument("--parts", default=",".join(PARTS), help="which triplets to learn from and to be measured on")
    parser.add_argument("--kind", default=SHIPPED.kind, help=f"{', '.join(models.KINDS)} (default: %(default)s)")
    parser.add_argument("--members", type=int, default=MEMBERS, help="so many heads, one seed each, averaged in one file (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of the recipe")
    parser.add_argument("--store", default="", help="store with the photos (default: in the folder)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the pack there (default: in the folder)")
    parser.add_argument("--measure", type=Path, metavar="PACK", help="train nothing: measure this pack, and write the figures into its card")
    return parser.parse_args()


def main() -> None:
    given = options()
    import torch

    torch.set_num_threads(given.threads)
    config = runs.configured(dataclasses.replace(SHIPPED, kind=given.kind), dict(one.split("=", 1) for one in given.set), "--set")
    found = gathered(given.folder, given.parts.split(","), given.store, given.threads)
    pack = packs.read(given.measure) if given.measure else made(given, found, config)
    figures = figures_of(ComposerHead(pack), found)
    packs.write(pack.folder, dataclasses.replace(pack.card, figures=figures), {GRAPH: pack.file(GRAPH).read_bytes()})
    print(json.dumps(figures, indent=1))
    print(pack.folder)


if __name__ == "__main__":
    main()
