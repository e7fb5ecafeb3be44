"""Lay out the shared data for `rankclip finetune difference`: photos unpacked, captions, pairs and attribute tasks as JSON lines.

    python examples/train_difference/prepare.py SHARED OUT

Writes OUT/photos/PACK/..., OUT/captions.jsonl (path, captions, split, values), OUT/pairs.jsonl (a, b, text, split), OUT/tasks.jsonl
(attribute tests on photos of the validation side) and OUT/classes.jsonl (caltech101, for plain search before and after). Labels become captions in the words a person would use; numbers become values.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

CAPTIONED = ("flickr8k", "flickr8k_more", "coco_captions", "captions2", "ade_rooms")
LABELLED = ("concepts", "tinyimagenet", "fashion", "faces", "utkface", "counting")
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
OLD, YOUNG = 50, 25  # years: the ends of the age task
COLOURS = (("Red", "Blue"), ("Black", "White"), ("Green", "Pink"), ("Yellow", "Purple"))
LARGE = frozenset("elephant camel bison bear rhino ox cows okapi giraffe gazelle bighorn lion tiger alligator crocodile dugong llama panda gerenuk".split())
SMALL = frozenset(
    "bee ant ants fly cockroach dragonfly butterfly centipede scorpion tarantula tick snail slug goldfish shrimp crayfish hedgehog widow crab mayfly seahorse".split()
)
SAYS = "The first photo shows {a}, while the second shows {b}."


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def unpack(shared: Path, out: Path, pack: str) -> list[dict]:
    """Unpack a pack once; returns its rows, each with where its photo now is."""
    folder = out / "photos" / pack
    if not folder.exists():
        with tarfile.open(shared / "data" / f"{pack}.tar") as packed:
            packed.extractall(folder, filter="data")
    return [{**row, "at": f"photos/{pack}/{row['path']}"} for row in rows(shared / "data" / f"{pack}.jsonl")]


def article(noun: str) -> str:
    return noun if noun.startswith(("a ", "an ", "the ")) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def captions_of(pack: str, row: dict) -> list[str]:
    """What a person would write about a labelled photo."""
    if pack in ("concepts", "tinyimagenet"):
        named = [row["label_text"], *row.get("also", ())] if pack == "concepts" else [article(row["label_text"])]
        return [*named, *([f"a {size} animal"] if (size := size_of(pack, row)) else [])]
    if pack == "fashion":
        return [f"{article(row['colour'].lower())} {kind(row)}", f"{kind(row)} for {row['gender'].lower()}"]
    if pack in ("faces", "utkface"):
        person = {"male": ("boy", "man"), "female": ("girl", "woman")}[row["gender_label"]][row["age"] >= 16]
        age = "young" if row["age"] < 30 else "old" if row["age"] >= 60 else "middle-aged"
        return [f"the face of {article(f'{age} {person}' if row['age'] >= 16 else person)}"]
    if pack == "counting":
        counts = {name.lower().replace("_", " "): count for name, count in row.get("counts", {}).items() if 0 < count < len(WORDS)}
        return [", ".join(f"{WORDS[count]} {name}{'s' if count > 1 and not name.endswith('s') else ''}" for name, count in counts.items())] if counts else []
    return [article(row["label_text"])]


def kind(row: dict) -> str:
    return row["type"].lower().removesuffix("s") if row["type"].lower() not in ("jeans", "shorts", "trousers", "track pants", "tights") else row["type"].lower()


def described(shared: Path, out: Path) -> Iterator[dict]:
    for pack in (*CAPTIONED, *LABELLED):
        for row in unpack(shared, out, pack):
            captions = row["captions"] if pack in CAPTIONED else captions_of(pack, row)
            values = {"age": row["age"]} if "age" in row else {}
            if captions:
                yield {"path": row["at"], "captions": captions, "split": row["split"], **({"values": values} if values else {})}


def pairs(shared: Path, out: Path) -> Iterator[dict]:
    unpack(shared, out, "clevr_change")
    for row in rows(shared / "data" / "clevr_change_pairs.jsonl"):
        if row["changed"] and row["text"]:
            a, b = (f"photos/clevr_change/{row[side]}" for side in ("a", "b"))
            yield {"a": b, "b": a, "text": row["text"], "reverse": row["text_reverse"], "split": row["split"], "group": row["a"][:19]}


def tasks(shared: Path, out: Path) -> Iterator[dict]:
    """Photos of the validation side that have clearly more or clearly less of an attribute."""
    yield from stated("age", "an older person", "a younger person")
    for pack in ("faces", "utkface"):
        for row in held_out(shared, out, pack):
            if row["age"] >= OLD or row["age"] <= YOUNG:
                yield {"task": "age", "side": "high" if row["age"] >= OLD else "low", "path": row["at"]}
    yield from sizes(shared, out)
    for high, low in COLOURS:
        name = f"colour: {high.lower()} or {low.lower()}"
        yield from stated(name, f"something {high.lower()}", f"something {low.lower()}")
        for row in held_out(shared, out, "fashion"):
            if row["colour"] in (high, low):
                yield {"task": name, "side": "high" if row["colour"] == high else "low", "path": row["at"]}
    yield from stated("indoors or outdoors", "a place indoors", "a place outdoors")
    for row in held_out(shared, out, "concepts"):
        sides = {"indoors": "high", "outdoors": "low"}
        for word in set(row.get("also", ())) & set(sides):
            yield {"task": "indoors or outdoors", "side": sides[word], "path": row["at"]}


def size_of(pack: str, row: dict) -> str:
    """Say of an animal that everybody calls large or small which it is, and nothing of the rest."""
    words = set(row.get("label_text", "").lower().split())
    if pack == "concepts" and not row["path"].startswith("animal/"):
        return ""
    return "large" if words & LARGE else "small" if words & SMALL else ""


def sizes(shared: Path, out: Path) -> Iterator[dict]:
    """Large and small animals: photos of the validation side, and all of caltech101, which nothing is trained on."""
    for task in ("size", "size, trained kinds"):
        yield from stated(task, "a larger animal", "a smaller animal")
    found = [("caltech101", row) for row in unpack(shared, out, "caltech101")]
    found += [(pack, row) for pack in ("tinyimagenet", "concepts") for row in held_out(shared, out, pack)]
    for pack, row in found:
        if size := size_of(pack, row):
            yield {"task": "size" if pack == "caltech101" else "size, trained kinds", "side": "high" if size == "large" else "low", "path": row["at"]}


def stated(task: str, high: str, low: str) -> Iterator[dict]:
    yield {"task": task, "high": SAYS.format(a=high, b=low), "low": SAYS.format(a=low, b=high)}


def held_out(shared: Path, out: Path, pack: str) -> list[dict]:
    return [row for row in unpack(shared, out, pack) if row["split"] == "val"]


def classes(shared: Path, out: Path) -> Iterator[dict]:
    """All of caltech101, which nothing is trained on."""
    for row in unpack(shared, out, "caltech101"):
        yield {"path": row["at"], "label": row["label_text"]}


def main() -> None:
    shared, out = Path(sys.argv[1]), Path(sys.argv[2])
    parts = {"captions": described, "pairs": pairs, "tasks": tasks, "classes": classes}
    for name, rows_of in parts.items():
        count = 0
        with (out / f"{name}.jsonl").open("w") as lines:
            for row in rows_of(shared, out):
                lines.write(json.dumps(row) + "\n")
                count += 1
        print(f"{count:,} lines in {out / name}.jsonl")


if __name__ == "__main__":
    main()
