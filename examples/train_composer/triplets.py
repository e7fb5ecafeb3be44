"""Makes the triplets that the shipped composer is trained and measured on, from the packs of a shared data folder.

    python examples/train_composer/triplets.py ../shared/data runs/composer

Writes fashion.jsonl (the pack's own triplets, and more from the attributes of training items), edits.jsonl (captioned photos that share their subject,
with the one change that is asked for) and swaps.jsonl (another subject in the same surroundings, and whole captions), all in the format of
`rankclip finetune composer`; without.jsonl, for measuring alone: changes of edits.jsonl that also leave something out; gallery.jsonl with every photo
of the validation side, named by a triplet or not; and unpacks the photos.
"""

from __future__ import annotations

import argparse
import json
import random
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

from rankclip.evaluation.triplets import Triplet
from rankclip.training.composer_gather import Captioned, Changes, edit_triplets, told_triplets
from rankclip.training.generator import EditOptions, describe, edits, swaps
from rankclip.training.generator.edits import subject_of

FASHION = "fashion"
CAPTIONED = ("flickr8k", "flickr8k_more", "coco_captions", "captions2")
MORE = 8  # generated instructions a training item
EDITS = {"train": 24_000, "val": 2_000}  # caption edits that are kept
SWAPS = {"train": 12_000, "val": 1_000}
CHANGES = (("colour", 0.55), ("type", 0.25), ("both", 0.2))
FEW = 4  # right photos from which something can be left out
LEAVE_OUT = ("{change}, without a {noun}", "{change} and no {noun}", "{change}, but without the {noun}")
RIGHT = {"train": EditOptions(fewest=3, most=150), "val": EditOptions(fewest=3, most=60)}
SAY = {
    "colour": ("make it {colour}", "in {colour}", "the same but {colour}", "is {colour}, not {old}", "{colour} instead of {old}", "change the colour to {colour}",
               "the same {oldnoun} but {colour}", "a {colour} one", "{colour} please", "is {colour}"),
    "type": ("{noun} in the same colour", "{noun} instead of {oldnoun}", "replace the {oldnoun} with {noun}", "same colour, but {noun}", "not a {oldnoun} but {noun}"),
    "both": ("{noun} in {colour}", "is a {colour} {bare} rather than a {old} {oldnoun}", "a {colour} {bare} instead", "change it to a {colour} {bare}", "a {colour} {bare}"),
}  # fmt: skip


def rows_of(shared: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (shared / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def unpack(shared: Path, out: Path, packs: tuple[str, ...]) -> None:
    for name in packs:
        with tarfile.open(shared / f"{name}.tar") as tar:
            tar.extractall(out / "photos", filter="data")


def key(row: dict) -> tuple[str, str, str]:
    return row["type"], row["gender"], row["colour"]


def nouns(own: list[dict]) -> dict[str, str]:
    """Type -> how the pack's own triplets call it: "Track Pants" -> "pair of track pants"."""
    found = {}
    for row in own:
        wanted = row["target_attrs"]
        found[wanted["type"]] = row["difference"].split(" -> ")[1].removeprefix(f"{wanted['colour'].lower()} ")
    return found


def fashion(shared: Path, seed: int) -> list[dict]:
    """The pack's triplets, with every equally right target, and generated ones for the training side."""
    items = {row["path"]: row for row in rows_of(shared, FASHION)}
    own = rows_of(shared, f"{FASHION}_triplets")
    by_key: dict[tuple, list[str]] = defaultdict(list)
    for path, row in items.items():
        by_key[(*key(row), row["split"])].append(path)
    called = nouns(own)

    def triplet(reference: dict, instruction: str, wanted: tuple[str, str, str]) -> dict:
        right = [path for path in by_key[(*wanted, reference["split"])] if path != reference["path"]]
        shows = [f"{colour.lower()} {called.get(kind, kind.lower())}" for kind, _, colour in (wanted, key(reference))]
        return {"reference": reference["path"], "instruction": instruction, "target": right, "caption": f"a {shows[0]}", "original": f"a {shows[1]}",
                "split": reference["split"]}  # fmt: skip

    rows = [triplet(items[row["reference"]], row["text"], tuple(row["target_attrs"][name] for name in ("type", "gender", "colour"))) for row in own]
    rng = random.Random(seed)
    training = [row for row in items.values() if row["split"] == "train" and row["type"] in called]
    keys = sorted({key(row) for row in training})
    for reference in training:
        rows += [triplet(reference, *change) for change in changes(reference, keys, called, rng)]
    return [row for row in rows if row["target"]]


def changes(reference: dict, keys: list[tuple[str, str, str]], called: dict[str, str], rng: random.Random) -> list[tuple[str, tuple[str, str, str]]]:
    """Some instructions for one item, each with what it leads to; only to items that exist."""
    kind, gender, colour = key(reference)
    to = {"colour": [k for k in keys if k[0] == kind and k[1] == gender and k[2] != colour],
          "type": [k for k in keys if k[0] != kind and k[1] == gender and k[2] == colour],
          "both": [k for k in keys if k[0] != kind and k[1] == gender and k[2] != colour]}  # fmt: skip
    found = []
    for what in rng.choices([name for name, _ in CHANGES], [share for _, share in CHANGES], k=MORE):
        if not to[what]:
            continue
        wanted = rng.choice(to[what])
        bare = called[wanted[0]]
        text = rng.choice(SAY[what]).format(colour=wanted[2].lower(), old=colour.lower(), noun=f"a {bare}", bare=bare, oldnoun=called[kind])
        found.append((text, wanted))
    return found


def captioned(shared: Path) -> list[Captioned]:
    return [Captioned(row["path"], tuple(row["captions"]), row["split"]) for name in CAPTIONED for row in rows_of(shared, name)]


def changed(photos: list[Captioned], make: Changes, most: dict[str, int], seed: int) -> list[dict]:
    """Captioned photos with one change each. As in the fashion pack, every photo of the split that shows the change is a right answer."""
    rng, rows = random.Random(seed), []
    for split, count in most.items():
        made = edit_triplets([photo for photo in photos if photo.split == split], split, rng, make, RIGHT[split])
        rows += some([as_line(one) for one in made], count, seed)
    return rows


def told(photos: list[Captioned], seed: int) -> list[dict]:
    """For training only: a whole caption as the instruction."""
    return [as_line(one) for one in told_triplets([photo for photo in photos if photo.split == "train"], "train", random.Random(seed))]


def as_line(one: Triplet) -> dict:
    return {"reference": one.reference, "instruction": one.instruction, "target": one.targets, "caption": one.caption, "original": one.original,
            "split": one.split}  # fmt: skip


def some(rows: list, most: int, seed: int) -> list:
    return random.Random(seed).sample(rows, min(most, len(rows)))


def lacking(rows: list[dict], photos: list[Captioned], seed: int) -> list[dict]:
    """Validation edits that also leave out what a quarter to three quarters of their right photos show; right are those whose captions do not name it."""
    rng, found = random.Random(seed), []
    subjects = {photo.path: subject_of(describe(photo.path, photo.captions)) for photo in photos if photo.split == "val"}
    for row in [row for row in rows if row["split"] == "val" and len(row["target"]) >= FEW]:
        shown = Counter(noun for path in row["target"] for noun in subjects[path].nouns)
        own = {subjects[path].name for path in (row["reference"], *row["target"])}
        some = sorted(
            noun for noun, count in shown.items() if 0.25 <= count / len(row["target"]) <= 0.75 and noun not in own and noun not in row["instruction"]
        )
        if some:
            noun = rng.choice(some)
            right = [path for path in row["target"] if noun not in subjects[path].nouns]
            found.append(row | {"instruction": rng.choice(LEAVE_OUT).format(change=row["instruction"], noun=noun), "target": right, "caption": ""})
    return found


def gallery(shared: Path, photos: list[Captioned]) -> list[dict]:
    """All photos of the validation side: what a search has to find the right ones among."""
    shop = [Captioned(row["path"], (row["title"],), row["split"]) for row in rows_of(shared, FASHION)]
    return [{"path": one.path, "captions": one.captions, "split": one.split} for one in (*shop, *photos) if one.split == "val"]


def save(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write(path: Path, rows: list[dict]) -> None:
    save(path, rows)
    val = sum(row["split"] == "val" for row in rows)
    print(f"{path}: {len(rows) - val:,} triplets to train, {val:,} to validate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="the shared data folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "photos").exists():
        unpack(given.shared, given.out, (FASHION, *CAPTIONED))
    write(given.out / "fashion.jsonl", fashion(given.shared, given.seed))
    photos = captioned(given.shared)
    write(given.out / "edits.jsonl", edited := changed(photos, edits, EDITS, given.seed))
    write(given.out / "without.jsonl", lacking(edited, photos, given.seed))
    write(given.out / "swaps.jsonl", changed(photos, swaps, SWAPS, given.seed) + told(photos, given.seed))
    save(given.out / "gallery.jsonl", gallery(given.shared, photos))


if __name__ == "__main__":
    main()
