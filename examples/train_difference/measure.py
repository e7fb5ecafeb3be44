"""Measure what the sign test does not: change in rendered scenes, near-duplicates, comparative prompting, arithmetic, what is left of plain search.

    python examples/train_difference/measure.py DATA SHARED --store DIR [--head DIR] [--parts language,changes,copies,telling,classes,arithmetic,searching]

DATA is what prepare.py wrote, SHARED the folder of the packs. Only photos that nothing was trained on are looked at: the validation side,
and caltech101. Prints one JSON object a part.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from rankclip import contrast
from rankclip.collection import Collection, classifying, differences
from rankclip.collection.differences import DiffOptions
from rankclip.collection.telling import Looks, attributes, tellable
from rankclip.contrast import z_scores
from rankclip.heads.difference import normalised, sided
from rankclip.heads.sides import read
from rankclip.scoring import phrase_embedding, unit
from rankclip.settings import Settings
from rankclip.training.comparing import DifferenceJob, gather, in_parts, read_captions_file, read_pairs_file
from rankclip.training.difference import Config, ridge
from rankclip.training.generator import describe
from rankclip.training.generator.words import lemma
from rankclip.training.sightings import CAPTIONS, mentions
from rankclip.types import Silent

FOLDS, BOOTSTRAPS, COPIES, PAIRS, NOUNS = 5, 1_000, 60, 1_500, 60
# the ten pairs of classes that `classify` proposes first on half of caltech101, without labels, and what tells them apart
TOLD = (
    ("a crocodile", "a head of a crocodile", "shows a whole body with legs and a tail", "shows only a head with teeth"),
    ("a flamingo", "a head of a flamingo", "shows a whole pink bird on long legs", "shows only a pink head with a bent beak"),
    ("a chair", "a windsor chair", "has a soft seat", "has a wooden back of thin rods"),
    ("a dragonfly", "a mayfly", "has two pairs of large spread wings", "has upright wings and a long thin tail"),
    ("a chandelier", "a lamp", "hangs from the ceiling with many lights", "stands on a table with a shade"),
    ("a ketch sailing boat", "a schooner", "is a small boat with two sails", "is a tall ship with many sails"),
    ("a pigeon", "a rooster", "is a grey bird", "has a red comb and colourful feathers"),
    ("a crayfish", "a lobster", "is small and lives in a river", "is large with heavy claws"),
    ("a rhino", "an elephant", "has a horn on its nose", "has a trunk and large ears"),
    ("a scissors", "a wrench", "has two blades and two rings", "is a metal tool with an open jaw"),
)
SWAPS = tuple(
    tuple(pair.split("/"))
    for pair in "dog/cat dog/horse beach/snow boy/girl man/woman bicycle/motorcycle car/bus grass/water kitchen/bathroom street/field red/blue black/white "
    "sitting/running soccer/basketball baseball/tennis shirt/dress".split()
)
WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0)


class World:
    """The collection, its photos with captions, and both text paths."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.data, self.shared = options.data, options.shared
        self.settings = Settings(store=options.store, threads=1, head=options.head)
        self.rows = [row for row in read_captions_file(options.data / options.captions) if row.val]
        self.given = options.data / options.pairs
        self.captions = options.data / options.captions
        self.memory: dict[str, np.ndarray] = {}
        self.collection = Collection(str(options.data / "photos"), settings=self.settings)
        self.head = differences.find(self.collection)
        assert self.head is not None

    def plain(self, texts: list[str]) -> np.ndarray:
        """Plain text path, float32 [Q, D]."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.memory]
        self.memory.update(zip(missing, in_parts(self.collection.text_engine.encode_texts, missing, Silent()), strict=True) if missing else ())
        return np.stack([self.memory[text] for text in texts])

    def tuned(self, texts: list[str]) -> np.ndarray:
        """The head's path, float32 [Q, D]."""
        assert self.head is not None
        return self.head.embedder(self.plain)(texts)

    def photos(self, paths: list[str]) -> np.ndarray:
        """Embeddings of photos in the store, float32 [N, D]."""
        with Collection(*dict.fromkeys(paths), settings=self.settings).opened() as (_, view, gallery):
            at = dict(zip(gallery.paths(np.arange(len(gallery.contents))), view.rows_of(gallery.contents).tolist(), strict=True))
            return view.read_embeddings(np.array([at[path] for path in paths]))


def interval(values: np.ndarray, groups: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean) -> list[float]:
    """95 % interval by bootstrap over groups."""
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    members = {name: np.flatnonzero(groups == name) for name in names}
    found = [statistic(values[np.concatenate([members[name] for name in rng.choice(names, len(names))])]) for _ in range(BOOTSTRAPS)]
    return [round(float(np.quantile(found, q)), 3) for q in (0.025, 0.975)]


def areas(scores: np.ndarray) -> float:
    """AUROC of rows (score, truth)."""
    high, low = scores[scores[:, 1] == 1, 0], scores[scores[:, 1] == 0, 0]
    return float(((high[:, None] > low) + 0.5 * (high[:, None] == low)).mean())


def changes(world: World) -> dict[str, object]:
    """clevr_change: the colour of one thing changes and the camera moves; five folds by scene, the map solved anew without the fold's scenes."""
    rows = [json.loads(line) for line in (world.shared / "data/clevr_change_pairs.jsonl").read_text().splitlines()]
    at = world.data / "photos/clevr_change"
    a, b = (world.photos([str(at / row[side]) for row in rows]) for side in ("a", "b"))  # before, after: [204, D]
    scene = np.array([row["a"] for row in rows])
    changed = np.array([row["changed"] for row in rows])
    said = np.array([row["changed"] and bool(row["text"]) for row in rows])
    job = DifferenceJob(world.settings, Silent(), threading.Event(), name="folds", run=None, changes={"pairs": 0, "rare": 30_000})
    captioned, given = read_captions_file(world.captions), read_pairs_file(world.given)
    paths = list(dict.fromkeys(row.path for row in captioned))
    library = gather(Collection(*paths, settings=world.settings), captioned, paths, frozenset())
    base, _, _ = job.sentences(library, [one for one in given if "clevr" not in one.a])
    phrases = sorted({phrase for text in base.texts for side in (read(text).first, read(text).second) for phrase in side})
    centre = world.plain(phrases).mean(axis=0)
    x, y = sided(base.texts, world.plain, centre), base.differences(library.photos)
    texts = [row["text"] or "nothing is said" for row in rows]
    mine, wanted = sided(texts, world.plain, centre), b - a
    fold = np.array([hash_of(name) % FOLDS for name in scene])
    tuned = np.zeros(len(rows))
    for number in range(FOLDS):
        train = said & (fold != number)
        matrix = ridge(np.concatenate([x, mine[train], -mine[train]]), np.concatenate([y, wanted[train], -wanted[train]]), Config().ridge)
        tuned[fold == number] = ((mine @ matrix) * wanted).sum(axis=1)[fold == number]
    untuned = (world.plain(texts) * wanted).sum(axis=1)
    back = [row.get("text_reverse") or "nothing is said" for row in rows]
    twin = ((world.plain(texts) - world.plain(back)) * wanted).sum(axis=1)
    distance = np.stack([1 - (a * b).sum(axis=1), changed.astype(float)], axis=1)
    shown: dict[str, object] = {"pairs": len(rows), "with a sentence": int(said.sum())}
    for name, values in (("one sentence, head", tuned), ("one sentence, untuned", untuned), ("reversed pair, untuned", twin)):
        shown[name] = [round(float((values[said] > 0).mean()), 3), *interval(values[said] > 0, scene[said])]
    shown["changed or only the camera moved, by distance, AUROC"] = [round(areas(distance), 3), *interval(distance, scene, areas)]
    return shown


def telling(world: World) -> dict[str, object]:
    """What two photos are told to show: do the captions of that photo, and not the other's, say it? Captions leave things out, so this is a lower bound.

    Beside it the same where every phrase is told that is visible enough, whatever captions say of it and however visible others are.
    """
    rows = [row for row in world.rows if len(row.captions) >= CAPTIONS]
    photos = world.photos([row.path for row in rows])
    pairs = [(int(a), int(b)) for a, b in np.random.default_rng(3).integers(0, len(rows), (PAIRS, 2)) if a != b]
    with differences.opened(world.collection, DiffOptions()) as comparer:
        seen, places = comparer.sights.seen(photos), {phrase: i for i, phrase in enumerate(comparer.phrases)}
        said = mentions(comparer.phrases, [row.captions for row in rows])  # bool [N, P]
        needed = comparer.head.axes.needed if comparer.head is not None and comparer.head.axes is not None else np.zeros(len(places), np.float32)
        sayable = said.any(axis=0)  # a phrase that no caption has cannot be checked
        names = {text: phrase for one in comparer.contrasts for text, phrase in ((one.less, one.last), (one.more, one.first))}
        shown: dict[str, object] = {"pairs": len(pairs)}
        for way, told in (("all that is visible", None), ("as shipped", [tellable(row, needed) for row in seen])):
            right, photo, told_pairs = [], [], 0
            for a, b in pairs:
                z = z_scores(photos[a], photos[b], comparer.axes, comparer.spread)
                looks = Looks(places, seen[a], seen[b], {"A": told[a], "B": told[b]} if told else {})
                found = attributes(comparer.contrasts, z, looks, least=comparer.threshold, count=5)
                told_pairs += bool(found)
                for side, text in (part.split(" ", 1) for one in found for part in one.text.split(", ")):
                    mine, other = (a, b) if side == "A" else (b, a)
                    place = places[names[text]]
                    if sayable[place]:
                        right.append(said[mine, place] and not said[other, place])
                        photo.append(mine)
            shown[way] = {"pairs told": round(told_pairs / len(pairs), 3), "checked": len(right), "confirmed": int(sum(right)),
                          "share": [round(float(np.mean(right)), 3), *interval(np.array(right, float), np.array(photo))]}  # fmt: skip
    return shown


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[-20:], "big") // 7 % 1_000_003


def language(world: World) -> dict[str, object]:
    """How people tell changes: `changes.jsonl` names a thing of held-out sentences and the photo that has it, read by eye. No photo is needed.

    Right: the sentence's direction agrees in sign with the thing's embedding. "choose" was looked at while the rules were written, "test" afterwards.
    Paraphrases: of 341 editing requests that three people worded, how often the other wording is the nearest of all.
    """
    packs = {name: read_texts(world.shared / f"data/composed_text/{name}.jsonl.gz") for name in ("image_editing_request", "spot_the_diff")}
    labels = [json.loads(line) for line in Path(__file__).with_name("changes.jsonl").read_text().splitlines()]
    texts = [said(packs[one["pack"]][one["line"]])[one["sentence"]] for one in labels]
    first = np.array([1.0 if one["side"] == "first" else -1.0 for one in labels])
    centre = world.head.weights.centre if world.head is not None else np.zeros(1, np.float32)
    phrases = world.plain([one["phrase"] for one in labels]) - centre
    matrix = world.head.weights.matrix if world.head is not None else np.eye(len(centre), dtype=np.float32)
    sides = sided(texts, world.plain, centre)
    group, part = np.array([f"{one['pack']} {one['line']}" for one in labels]), np.array([one["part"] for one in labels])
    asked = [said(row) for row in packs["image_editing_request"] if row["split"] == "valid" and len(said(row)) == 3]
    shown: dict[str, object] = {"sentences": len(set(texts)), "things": len(labels)}
    paths: tuple[tuple[str, np.ndarray, np.ndarray, Callable[[list[str]], np.ndarray]], ...] = (
        ("untuned", world.plain(texts) - centre, phrases, world.plain),
        ("sides", sides, phrases, lambda some: sided(some, world.plain, centre)),
        ("head", sides @ matrix, phrases @ matrix, world.tuned),
    )
    for name, directions, things, embed in paths:
        products = (directions * things).sum(axis=1) * first
        right = (products > 0) + 0.5 * (products == 0)
        found = {one: [round(float(right[part == one].mean()), 3), *interval(right[part == one], group[part == one])] for one in ("choose", "test")}
        wordings = [normalised(embed([some[k] for some in asked])) for k in range(3)]
        near = np.mean([(wordings[i] @ wordings[j].T).argmax(axis=1) == np.arange(len(asked)) for i in range(3) for j in range(3) if i != j], axis=0)
        shown[name] = {**found, "paraphrases": [round(float(near.mean()), 3), *interval(near, np.arange(len(near)))]}
    return shown


def read_texts(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def said(row: dict[str, Any]) -> list[str]:
    return [*row.get("requests", ()), *row.get("sentences", ())]


def copies(world: World) -> dict[str, object]:
    """Near-duplicates: scaled, saved again, cut a little, a little brighter. How many get a clear difference, and what pairs of different photos get."""
    rng = np.random.default_rng(0)
    chosen = [world.rows[i].path for i in rng.permutation(len(world.rows))[:COPIES]]
    told: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder, differences.opened(world.collection, DiffOptions()) as comparer:
        for place, path in enumerate(chosen):
            for name, picture in variants(path):
                copy = Path(folder) / f"{place}{name}.jpg"
                copy.write_bytes(picture)
                found = comparer.difference(path, str(copy))
                told.setdefault(name, []).append(len(found.attributes))
            told.setdefault("another photo", []).append(len(comparer.difference(path, chosen[place - 1]).attributes))
    shares = {name: round(float(np.mean(np.array(counts) > 0)), 4) for name, counts in told.items()}
    near = [count > 0 for name, counts in told.items() if name != "another photo" for count in counts]
    return {"photos": COPIES, "copies": len(near), "false differences": round(float(np.mean(near)), 4), "threshold": round(comparer.threshold, 3), **shares}


def variants(path: str) -> Iterator[tuple[str, bytes]]:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    inside = (width // 40, height // 40, width - width // 40, height - height // 40)
    for name, one in (("saved again", picture), ("scaled", picture.resize((width * 4 // 5, height * 4 // 5))), ("cut", picture.crop(inside)),
                      ("brighter", ImageEnhance.Brightness(picture).enhance(1.05))):  # fmt: skip
        buffer = io.BytesIO()
        one.save(buffer, "JPEG", quality=85)
        yield name, buffer.getvalue()


def classes(world: World) -> dict[str, object]:
    """Comparative prompting on caltech101: the classes of `TOLD` among all; pairs and alpha are chosen on half of the photos, figures are of the other."""
    rows = [json.loads(line) for line in (world.shared / "data/caltech101.jsonl").read_text().splitlines()]
    photos = world.photos([str(world.data / "photos/caltech101" / row["path"]) for row in rows])
    names = sorted({named(row["label_text"]) for row in rows})
    labels = np.array([names.index(named(row["label_text"])) for row in rows])
    pairs = [(names.index(a), names.index(b)) for a, b, *_ in TOLD]
    plain = world.plain([classifying.TEMPLATE.format(name) for name in names])  # [C, D]
    touched = np.isin(labels, [place for pair in pairs for place in pair])
    half = np.random.default_rng(0).permutation(len(photos)) % 2 == 0
    texts = [f"The first photo {one}, while the second {other}." for *_, one, other in TOLD]
    scale = world.collection.backbone.logit_scale
    shown: dict[str, object] = {"classes": len(names), "photos": int((~half).sum()), "of the told classes": int((touched & ~half).sum())}
    for path, embed in (("untuned", world.plain), ("head", world.tuned)):
        told = embed(texts)

        def corrected(alpha: float, told: np.ndarray = told) -> np.ndarray:
            return classifying.compared_classes(plain, pairs, told, alpha, symmetric=True)

        def right(alpha: float, part: np.ndarray) -> float:
            return float(((photos[part] @ corrected(alpha).T).argmax(axis=1) == labels[part]).mean())

        chosen = max(classifying.ALPHAS, key=lambda alpha: (right(alpha, half & touched), alpha))
        free = classifying.chosen_alpha(photos[half], corrected, scale, classifying.ALPHAS)
        hits = (photos @ corrected(chosen).T).argmax(axis=1) == labels
        before = (photos @ plain.T).argmax(axis=1) == labels
        gain = (hits.astype(float) - before)[touched & ~half]
        shown[path] = {"alpha by validation": chosen, "alpha without labels": free, "all classes": [round(right(1.0, ~half), 4), round(right(chosen, ~half), 4)],
                       "told classes": [round(right(1.0, touched & ~half), 4), round(right(chosen, touched & ~half), 4)],
                       "gain": [round(float(gain.mean()), 4), *interval(gain, np.arange(len(gain)))]}  # fmt: skip
    return shown


def named(label: str) -> str:
    return f"{'an' if label[0].lower() in 'aeiou' else 'a'} {label}"


def arithmetic(world: World) -> dict[str, object]:
    """photo - "dog" + "cat": is a photo with the new word, and without the old one, among the ten nearest? The photo itself is left out."""
    photos = world.photos([row.path for row in world.rows])
    words = [frozenset(lemma(word.strip(".,").lower()) for text in row.captions for word in text.split()) for row in world.rows]
    shown: dict[str, object] = {}
    paths: tuple[tuple[str, Callable[[str, str], np.ndarray]], ...] = (
        ("untuned", lambda new, old: unit(phrase_embedding(new, world.plain) - phrase_embedding(old, world.plain))),
        ("head", lambda new, old: contrast.compared_axis(new, old, world.tuned)),
    )
    for name, axis in paths:
        best: dict[float, list[float]] = {}
        swapped: list[int] = []
        for old, new in (*SWAPS, *((b, a) for a, b in SWAPS)):
            starts = [i for i, mine in enumerate(words) if old in mine and new not in mine]
            goals = np.array([new in mine and old not in mine for mine in words])
            starts = [starts[i] for i in np.random.default_rng(0).permutation(len(starts))[:40]]
            direction = axis(new, old)
            for weight in WEIGHTS:
                scores = unit(photos[starts] + weight * direction) @ photos.T  # [S, N]
                scores[np.arange(len(starts)), starts] = -2.0
                best.setdefault(weight, []).extend(goals[np.argsort(-scores, axis=1)[:, :10]].mean(axis=1).tolist())
            swapped += [SWAPS.index((old, new) if (old, new) in SWAPS else (new, old))] * len(starts)
        shown[name] = {f"weight {weight:g}": [round(float(np.mean(found)), 3), *interval(np.array(found), np.array(swapped))] for weight, found in best.items()}
    return shown


def searching(world: World) -> dict[str, object]:
    """`rank NOUN --plus NEW --minus OLD`: average precision of the photos whose captions name the noun and the new word, and not the old one.

    "head": what is added is read by the difference head, what is taken away stays plain; "head, both": the head's axis between the two words.
    """
    photos = world.photos([row.path for row in world.rows])
    words = [frozenset(lemma(word.strip(".,").lower()) for text in row.captions for word in text.split()) for row in world.rows]
    heads = Counter(head for row in world.rows for head in describe(row.path, row.captions).frame.entities)
    some = photos[contrast.sampled(len(photos))]

    def plain(text: str) -> np.ndarray:
        return phrase_embedding(text, world.plain)

    def more(text: str) -> np.ndarray:
        return contrast.added(text, world.plain, world.tuned, some)

    def axis(new: str, old: str) -> np.ndarray:
        found = contrast.compared_axis(new, old, world.tuned)
        return found * float((photos @ (plain(new) - plain(old))).std() / (photos @ found).std())

    ways: dict[str, dict[str, Callable[[str, str], np.ndarray]]] = {
        "plus and minus": {"untuned": lambda new, old: plain(new) - plain(old), "head": lambda new, old: more(new) - plain(old), "head, both": axis},
        "plus": {"untuned": lambda new, old: plain(new), "head": lambda new, old: more(new)},
        "minus": {"untuned": lambda new, old: -plain(old), "head": lambda new, old: -more(old)},
    }
    shown: dict[str, object] = {}
    for kind, forms in ways.items():
        found: dict[str, list[float]] = {name: [] for name in ("noun alone", *forms)}
        group: list[int] = []
        for number, (old, new) in enumerate((*SWAPS, *((b, a) for a, b in SWAPS))):
            for noun, _ in heads.most_common(NOUNS):
                goals = np.array([noun in mine and (kind == "minus" or new in mine) and (kind == "plus" or old not in mine) for mine in words])
                other = np.array([noun in mine for mine in words]) & ~goals
                if noun in (old, new) or min(goals.sum(), other.sum()) < 5:
                    continue
                group.append(number % len(SWAPS))
                query = plain(noun)
                found["noun alone"].append(precision(photos @ query, goals))
                for name, form in forms.items():
                    found[name].append(precision(photos @ (query + form(new, old)), goals))
        groups = np.array(group)
        shown[kind] = {"queries": len(group)} | {name: [round(float(np.mean(one)), 3), *interval(np.array(one), groups)] for name, one in found.items()}
        gain = np.array(found["head"]) - np.array(found["untuned"])
        shown[kind] |= {"head less untuned": [round(float(gain.mean()), 3), *interval(gain, groups)]}  # type: ignore[operator]
    return shown


def precision(scores: np.ndarray, goals: np.ndarray) -> float:
    """Average precision."""
    right = goals[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


PARTS = {"language": language, "changes": changes, "copies": copies, "telling": telling, "classes": classes, "arithmetic": arithmetic, "searching": searching}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--captions", default="captions.jsonl")
    parser.add_argument("--pairs", default="pairs.jsonl")
    parser.add_argument("--store", default="")
    parser.add_argument("--head", default="")
    parser.add_argument("--parts", default=",".join(PARTS))
    world = World(options := parser.parse_args())
    for name in options.parts.split(","):
        print(json.dumps({name: PARTS[name](world)}), flush=True)


if __name__ == "__main__":
    main()
