"""Makes the triplets that the shipped composer is trained and measured on, from the packs of a shared data folder.

    python examples/train_composer/triplets.py ../shared/data runs/composer

Writes fashion.jsonl (the pack's own triplets, and more from the attributes of training items) and edits.jsonl (captioned photos that share
their subject, with the one change that is asked for), both in the format of `rankclip finetune composer`, and unpacks the photos.
"""

from __future__ import annotations

import argparse
import json
import random
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rankclip.training.generator import describe
from rankclip.training.generator.facts import named, phrase
from rankclip.training.generator.frames import Frame
from rankclip.training.generator.words import words

FASHION = "fashion"
CAPTIONED = ("flickr8k", "flickr8k_more", "coco_captions", "captions2")
MORE = 8  # generated instructions a training item
EDITS = {"train": 24_000, "val": 2_000}  # caption edits that are kept
CHANGES = (("colour", 0.55), ("type", 0.25), ("both", 0.2))
EACH = 3  # changes of a kind asked of one photo
RIGHT = {"train": range(3, 151), "val": range(3, 61)}  # right answers: what fewer photos show is chance, what more show is too easy
PARTS = frozenset(
    "hand head face foot leg arm mouth eye ear hair body background front back side top air camera photo picture people other one something has".split()
)
SAID = {
    "place": ("{new}", "the same but {new}", "{new} instead of {old}", "but {new}", "{new}, not {old}"),
    "action": ("{new}", "the same but {new}", "{new} instead of {old}", "{new}, not {old}", "but {new}"),
    "with": ("{new}", "the same but {new}", "but {new}", "similar, {new}"),
    "colour": ("a {new} one", "make it {new}", "{new} instead of {old}", "the same but {new}", "in {new}"),
    "count": ("{new}", "{new} of them", "the same but {new}", "{new} instead of {old}"),
}
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


def frames(shared: Path) -> list[Photo]:
    rows = [row for name in CAPTIONED for row in rows_of(shared, name)]
    return [Photo.read(row, describe(row["path"], tuple(row["captions"])).frame) for row in rows]


@dataclass(frozen=True, slots=True)
class Photo:
    """What the captions of a photo say: its subject (the noun most of them name) and what holds of it, by kind.

    said: (kind, value) -> words for it, such as ("place", "beach") -> "on a beach". nouns: everything that any caption names.
    """

    path: str
    caption: str
    split: str
    subject: str
    said: dict[tuple[str, str], str]
    nouns: frozenset[str]

    @classmethod
    def read(cls, row: dict, frame: Frame) -> Photo:
        times = {head: entity.times for head, entity in frame.entities.items()}
        subject = max(sorted(times), key=times.__getitem__, default="")
        enough = 2 if len(row["captions"]) > 3 else 1  # of five people, two must say so
        said = dict(holds(subject, frame, enough)) if times.get(subject, 0) >= enough else {}
        return cls(row["path"], row["captions"][0], row["split"], subject, said, frozenset(frame.entities))


def holds(subject: str, frame: Frame, enough: int) -> Iterator[tuple[tuple[str, str], str]]:
    """What holds of the subject: where it is, what it does, what is with it, its colour, whether it is one or many."""
    own = frame.entities[subject]
    for room in sorted(frame.scene.get("room", ())):
        yield ("place", room), phrase("room", room)
    for state in sorted(own.state):
        if state.endswith("ing") and own.said[state] >= enough:
            yield ("action", state), state
    for head, prep, thing in sorted(frame.relations):
        if head == subject and thing in frame.entities and frame.entities[thing].times >= enough and thing not in PARTS:
            yield ("with", thing), f"{prep} {named(thing, frame.entities[thing])}"
    if subject not in words("humans") and len(own.colour) == 1:  # the colour of a person is that of clothes, or nobody's business
        yield ("colour", next(iter(own.colour))), next(iter(own.colour))
    if own.count is not None:
        yield ("count", "many" if own.count.low > 1 else "one"), "more than one" if own.count.low > 1 else "only one"


def edits(shared: Path, seed: int) -> list[dict]:
    """Captioned photos with one change each: the same subject, elsewhere, doing something else, with something, of another colour or number.

    As in the fashion pack, every photo of the split whose captions say the same subject and the change is a right answer.
    """
    rng, rows = random.Random(seed), []
    photos = frames(shared)
    for split, most in EDITS.items():
        mine = [photo for photo in photos if photo.split == split and photo.said]
        right: dict[tuple[str, tuple[str, str]], list[Photo]] = defaultdict(list)
        for photo in mine:
            for change in photo.said:
                right[photo.subject, change].append(photo)
        made = [triplet for photo in mine for triplet in asked_of(photo, right, rng)]
        rows += some(made, most, seed)
    return rows


def asked_of(photo: Photo, right: dict[tuple[str, tuple[str, str]], list[Photo]], rng: random.Random) -> Iterator[dict]:
    """Some changes that other photos of the same subject show and this one does not, at most one of a kind and value."""
    for kind in SAID:
        old = [said for (own, _), said in photo.said.items() if own == kind]
        options = [
            change for subject, change in right if subject == photo.subject and change[0] == kind and change not in photo.said and change[1] not in photo.nouns
        ]
        if not options or (kind != "with" and not old):
            continue
        for change in rng.sample(sorted(options), min(EACH, len(options))):
            found = right[photo.subject, change]
            if len(found) not in RIGHT[photo.split]:
                continue
            target = rng.choice(found)
            text = rng.choice(SAID[kind]).format(new=target.said[change], old=old[0] if old else "")
            yield {"reference": photo.path, "instruction": text, "target": [target.path, *(one.path for one in found if one is not target)], "caption": target.caption,
                   "original": photo.caption, "split": photo.split}  # fmt: skip


def some(rows: list, most: int, seed: int) -> list:
    return random.Random(seed).sample(rows, min(most, len(rows)))


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
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
    write(given.out / "edits.jsonl", edits(given.shared, given.seed))


if __name__ == "__main__":
    main()
