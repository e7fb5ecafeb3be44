"""Collect every sentence that the text tower learns from.

One JSON line a sentence: {"text", "kind", "weight", "split"}. Kinds: caption, label, title, change (what differs or what to change),
instruction (for `rank`), word (WordNet lemmas in templates), gloss, piece (single words of the BPE vocabulary), scene
(adjective + noun + place, to teach that words combine). The teacher embeds each once (`teacher.py`).

`drop` removes every sentence that holds one of the given words: the twin run of the held-out-words test uses it.
Deterministic: the same packs, WordNet and seed give the same file.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rankclip.backbones import tokens

PHOTO_TEMPLATES = ("a photo of {}", "{}", "a picture of {}", "a close-up photo of {}", "there is {}")
CAPTION_PACKS = ("flickr8k", "flickr8k_more", "coco_captions", "ade_rooms", "captions2")
# lexicographer files of WordNet whose nouns can be seen in a photo (lexnames(5WN) has the numbers)
VISIBLE_NOUNS = {3: "Tops", 4: "act", 5: "animal", 6: "artifact", 8: "body", 11: "event", 13: "food", 14: "group",
                 15: "location", 17: "object", 18: "person", 19: "phenomenon", 20: "plant", 25: "shape", 27: "substance"}  # fmt: skip
MAX_PIECES = 4  # a lemma of more BPE pieces is a rare scientific name: it would only cost teacher time


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    kind: str
    split: str = "train"
    weight: float = 1.0


def collect(shared: Path, wordnet: Path, *, seed: int = 0, drop: Iterable[str] = ()) -> list[Sentence]:
    """Collect all sentences, each text once (the first kind wins), in a fixed order."""
    rng = random.Random(seed)
    data = shared / "data"
    lemmas = list(read_wordnet(wordnet))
    parts = (captions(data), labels(data, shared / "weights"), titles(data), changes(data / "composed_text"), ages_and_counts(),
             instructions(rng), words(lemmas, rng), scenes(lemmas, rng), pieces())  # fmt: skip
    banned = word_filter(drop)
    seen: dict[str, Sentence] = {}
    for part in parts:
        for sentence in part:
            text = " ".join(sentence.text.split())
            if len(text) > 1 and text.lower() not in seen and not banned(text):
                seen[text.lower()] = Sentence(text, sentence.kind, sentence.split, sentence.weight)
    return list(seen.values())


def word_filter(drop: Iterable[str]):
    """Return a test: does the text hold one of the words, singular or plural?"""
    words_ = sorted(set(drop), key=len, reverse=True)
    if not words_:
        return lambda text: False
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(w) for w in words_) + r")(?:s|es)?\b", re.IGNORECASE)
    return lambda text: bool(pattern.search(text))


def rows(path: Path) -> Iterator[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def captions(data: Path) -> Iterator[Sentence]:
    for pack in CAPTION_PACKS:
        for row in rows(data / f"{pack}.jsonl"):
            for text in row["captions"] + row.get("details", []):
                yield Sentence(text, "caption", row["split"], 2.0)


def labels(data: Path, weights: Path) -> Iterator[Sentence]:
    """Class names of the packs (never caltech101's) and of ImageNet, which the class-knowledge table is made from."""
    names: dict[str, None] = {}
    for row in rows(data / "concepts.jsonl"):
        names.update(dict.fromkeys([row["label_text"], *row.get("also", [])]))
    for row in rows(data / "ade_rooms.jsonl"):
        names[with_article(row["label_text"])] = None
    for row in rows(data / "tinyimagenet.jsonl"):
        names.update(dict.fromkeys(with_article(name) for name in row["synonyms"]))
    for line in (weights / "imagenet_labels.txt").read_text().splitlines()[1:]:
        names.update(dict.fromkeys(with_article(name.strip()) for name in line.split(",")))
    for name in names:
        for template in PHOTO_TEMPLATES:
            yield Sentence(template.format(name), "label", weight=2.0)


def with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def titles(data: Path) -> Iterator[Sentence]:
    for row in rows(data / "fashion.jsonl"):
        what = f"{row['colour']} {row['type']}".lower()
        whose = row["gender"].lower()
        for text in (row["title"], what, f"{what} for {whose}", f"a product photo of {what} for {whose}, {row['usage']} wear"):
            yield Sentence(text, "title", row["split"])


def changes(folder: Path) -> Iterator[Sentence]:
    """Texts that say what differs or what to change: only rows of the official training parts."""
    for row in rows(folder / "fashioniq.jsonl.gz"):
        if row["official_split"] == "train":
            for text in row["captions"]:
                yield Sentence(text, "change", weight=0.5)
    for row in rows(folder / "spot_the_diff.jsonl.gz"):
        if row["official_split"] == "train":
            for text in row["sentences"]:
                yield Sentence(text, "change", weight=0.5)
    for row in rows(folder / "image_editing_request.jsonl.gz"):
        if row["official_split"] == "train":
            for text in row["requests"]:
                yield Sentence(text, "change")


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "many", "a few", "several",
           "a lot of", "dozens of", "a crowd of", "hundreds of")  # fmt: skip
COUNTABLE = ("people", "faces", "children", "men", "women", "dogs", "cats", "birds", "horses", "cows", "sheep", "cars", "buses", "bicycles",
             "boats", "chairs", "bottles", "cups", "books", "apples", "bananas", "oranges", "playing cards", "blood cells", "cells", "flowers",
             "trees", "windows", "balloons", "coins", "plates", "umbrellas", "motorcycles", "airplanes", "donuts", "pizzas")  # fmt: skip


def ages_and_counts() -> Iterator[Sentence]:
    for age in range(1, 101):
        years = "1 year" if age == 1 else f"{age} years"
        for text in (f"a face of a person who is {years} old", f"a {age} year old man", f"a {age} year old woman",
                     f"a photo of a {age}-year-old person", f"age {age}"):  # fmt: skip
            yield Sentence(text, "label")
    for number in NUMBERS:
        for noun in COUNTABLE:
            if number == "one":
                continue
            yield Sentence(f"{number} {noun}", "label")
            yield Sentence(f"a photo of {number} {noun}", "label")
            yield Sentence(f"{number} {noun} in the picture", "label", weight=0.5)


ADJECTIVES = {  # base: (comparative, superlative, opposite comparative)
    "old": ("older", "oldest", "younger"), "young": ("younger", "youngest", "older"), "bright": ("brighter", "brightest", "darker"),
    "dark": ("darker", "darkest", "brighter"), "sharp": ("sharper", "sharpest", "blurrier"), "blurry": ("blurrier", "blurriest", "sharper"),
    "large": ("larger", "largest", "smaller"), "big": ("bigger", "biggest", "smaller"), "small": ("smaller", "smallest", "larger"),
    "colourful": ("more colourful", "most colourful", "duller"), "happy": ("happier", "happiest", "sadder"), "sad": ("sadder", "saddest", "happier"),
    "crowded": ("more crowded", "most crowded", "emptier"), "empty": ("emptier", "emptiest", "more crowded"), "warm": ("warmer", "warmest", "colder"),
    "cold": ("colder", "coldest", "warmer"), "beautiful": ("more beautiful", "most beautiful", "uglier"), "noisy": ("noisier", "noisiest", "cleaner"),
    "clean": ("cleaner", "cleanest", "dirtier"), "dirty": ("dirtier", "dirtiest", "cleaner"), "modern": ("more modern", "most modern", "older"),
    "tall": ("taller", "tallest", "shorter"), "short": ("shorter", "shortest", "taller"), "long": ("longer", "longest", "shorter"),
    "green": ("greener", "greenest", "less green"), "red": ("redder", "reddest", "less red"), "blue": ("bluer", "bluest", "less blue"),
    "wide": ("wider", "widest", "narrower"), "close": ("closer", "closest", "farther away"), "sunny": ("sunnier", "sunniest", "cloudier"),
    "rainy": ("rainier", "rainiest", "drier"), "funny": ("funnier", "funniest", "more serious"), "scary": ("scarier", "scariest", "more peaceful"),
    "memorable": ("more memorable", "most memorable", "more forgettable"), "elegant": ("more elegant", "most elegant", "plainer"),
    "fast": ("faster", "fastest", "slower"), "heavy": ("heavier", "heaviest", "lighter"), "expensive": ("more expensive", "most expensive", "cheaper"),
    "formal": ("more formal", "most formal", "more casual"), "natural": ("more natural", "most natural", "more artificial"),
    "busy": ("busier", "busiest", "calmer"), "simple": ("simpler", "simplest", "more complex"), "fresh": ("fresher", "freshest", "staler"),
    "tasty": ("tastier", "tastiest", "less tasty"), "wild": ("wilder", "wildest", "tamer"), "smooth": ("smoother", "smoothest", "rougher"),
}  # fmt: skip
SUBJECTS = ("faces", "people", "photos", "pictures", "dogs", "cats", "cars", "houses", "rooms", "streets", "beaches", "mountains", "flowers",
            "children", "buildings", "landscapes", "portraits", "shoes", "dresses", "shirts", "bags", "food", "cakes", "birds", "horses",
            "trees", "skies", "kitchens", "boats", "photos of the dog", "photos of my family")  # fmt: skip


def instructions(rng: random.Random) -> Iterator[Sentence]:
    """Sentences a person gives `rank`, `diff --ask` and `compose-search`, from a small grammar."""
    made: list[str] = []
    for base, (more, most, less) in ADJECTIVES.items():
        for subject in SUBJECTS:
            made += [f"{more} {subject} first", f"{most} {subject} first", f"{most} {subject}", f"{base} {subject}", f"{more} {subject}",
                     f"{less} {subject}", f"which {subject} are {more}?", f"{subject}, {most} last", f"the first photo shows {more} {subject}, the second {less} ones",
                     f"the same but {more}", f"a photo of {base} {subject}", f"{subject} that look {base}"]  # fmt: skip
    for noun in COUNTABLE:
        made += [f"most {noun} first", f"fewest {noun} first", f"more {noun}", f"fewer {noun}", f"without {noun}", f"with {noun}",
                 f"most {noun} to fewest", f"rank the number of {noun}", f"sort by the number of {noun}"]  # fmt: skip
    rng.shuffle(made)
    for text in made[:9_000]:
        yield Sentence(text, "instruction")


@dataclass(frozen=True, slots=True)
class Lemma:
    word: str
    part: str  # n, v, a
    lexicographer: int
    gloss: str
    sense: int  # 0 is the most common meaning


def read_wordnet(folder: Path) -> Iterator[Lemma]:
    """Read lemma, part of speech, gloss and sense number from Debian's wordnet-base (format: wndb(5WN))."""
    for part, name in (("n", "noun"), ("v", "verb"), ("a", "adj")):
        senses = dict(_sense_order(folder / f"index.{name}"))
        for line in (folder / f"data.{name}").read_text().splitlines():
            if line.startswith(" "):
                continue
            record, gloss = line.split(" | ", 1)
            fields = record.split()
            count = int(fields[3], 16)
            for word in fields[4 : 4 + 2 * count : 2]:
                order = senses.get(word.split("(")[0].lower(), [])
                sense = order.index(fields[0]) if fields[0] in order else 9
                yield Lemma(word.split("(")[0].replace("_", " "), part, int(fields[1]), gloss.split(";")[0].strip(), sense)


def _sense_order(path: Path) -> Iterator[tuple[str, list[str]]]:
    for line in path.read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            yield fields[0], fields[-int(fields[2]) :]


def words(lemmas: list[Lemma], rng: random.Random) -> Iterator[Sentence]:
    """Lemmas and glosses; the rarer the word (by its BPE pieces), the smaller the weight."""
    for lemma in lemmas:
        size = len(tokens.encode(lemma.word))
        if size > MAX_PIECES or lemma.sense > 1 or (lemma.word[:1].isupper() and size > 1):
            continue
        weight = 1.0 / size
        visible = lemma.part == "n" and lemma.lexicographer in VISIBLE_NOUNS
        if visible and lemma.sense == 0:
            name = lemma.word if lemma.word[:1].isupper() else with_article(lemma.word)
            yield Sentence(f"a photo of {name}", "word", weight=weight)
            if size <= 2:
                yield Sentence(rng.choice(("{}", "two {}s", "the {}", "some {}s")).format(lemma.word), "word", weight=weight)
        elif lemma.sense == 0 and size <= 3:
            yield Sentence(lemma.word, "word", weight=weight)
        if visible and size <= 2:
            yield Sentence(f"{lemma.word}: {lemma.gloss}"[:200], "gloss", weight=weight / 2)


PLACES = ("on the beach", "in the snow", "at night", "in the rain", "in a kitchen", "on a table", "in the street", "in the mountains", "in a park",
          "in black and white", "at sunset", "under a tree", "next to a car", "in the water", "on a white background", "in the desert",
          "in a living room", "on the grass", "behind a window", "in the fog")  # fmt: skip
QUALITIES = (*ADJECTIVES, "white", "black", "brown", "yellow", "orange", "purple", "pink", "grey", "wooden", "metal", "glass", "plastic", "broken",
             "new", "wet", "striped", "round", "shiny", "furry", "toy")  # fmt: skip


def scenes(lemmas: list[Lemma], rng: random.Random) -> Iterator[Sentence]:
    """Combine known words: quality + noun, noun + place, noun and noun."""
    common = sorted({
        lemma.word for lemma in lemmas
        if lemma.part == "n" and lemma.sense == 0 and lemma.lexicographer in {5, 6, 8, 13, 18, 20, 17}
        and lemma.word.islower() and len(tokens.encode(lemma.word)) == 1
    })  # fmt: skip
    for _ in range(45_000):
        noun, other = rng.choice(common), rng.choice(common)
        quality, place = rng.choice(QUALITIES), rng.choice(PLACES)
        text = rng.choice((f"a {quality} {noun}", f"{with_article(noun)} {place}", f"a {quality} {noun} {place}",
                           f"{with_article(noun)} and {with_article(other)}", f"{with_article(noun)} with {with_article(other)}",
                           f"{with_article(noun)} without {with_article(other)}"))  # fmt: skip
        yield Sentence(text, "scene", weight=0.5)


def pieces() -> Iterator[Sentence]:
    """Whole words of the BPE vocabulary: gives each token a meaning of its own."""
    for line in tokens._merges():
        word = line.replace(" ", "", 1)
        if word.endswith(tokens.END_OF_WORD):
            word = word.removesuffix(tokens.END_OF_WORD)
            if len(word) > 2 and word.isascii() and word.isalpha():
                yield Sentence(word, "piece", weight=0.5)


def write(sentences: list[Sentence], path: Path) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as out:
        for sentence in sentences:
            out.write(json.dumps(asdict(sentence), ensure_ascii=False) + "\n")
    partial.replace(path)


def read(path: Path) -> list[Sentence]:
    return [Sentence(**row) for row in rows(path)]
