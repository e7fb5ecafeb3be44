"""Instructions made from templates: what each task of the shipped adapter should answer, and what it must leave alone."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from rankclip.training.matcher import Example

PEOPLE = "people persons faces men women boys girls adults portraits relatives friends players actors guests colleagues".split()
COUNTED = ("people cars dogs cats apples oranges bananas chairs birds boats horses cups bottles trees flowers buildings children balls books cards cows sheep tables lamps "
           "windows bicycles coins cells kites zebras pizzas doughnuts umbrellas").split()  # fmt: skip
PHOTOS = ("photos", "pictures", "images", "shots", "ones", "")
# task -> words for more of it, words for less of it, names of the attribute
WORDS = {
    "age": ("old elderly aged senior grey-haired", "young youthful juvenile childlike boyish", ("age", "how old they are", "apparent age", "years of age")),
    "quality": ("sharp crisp clear in-focus high-quality well-exposed clean", "blurry unsharp noisy grainy out-of-focus low-quality badly-exposed pixelated",
                ("sharpness", "technical quality", "image quality", "how sharp they are", "quality", "how good the picture quality is")),
    "memorability": ("memorable unforgettable striking", "forgettable unremarkable unmemorable", ("memorability", "how memorable they are", "how well one remembers them")),
    "brightness": ("bright light luminous", "dark dim gloomy", ("brightness", "how bright they are", "luminance", "lightness")),
    "colourfulness": ("colourful colorful vivid vibrant saturated", "dull colourless grey muted desaturated", ("colourfulness", "how colourful they are", "saturation", "colorfulness")),
}  # fmt: skip
ENDS = ("first", "at the top", "on top", "at the beginning", "up front")
LASTS = ("last", "at the end", "at the bottom")
PAIRS = (
    "babies|grandparents",
    "children|adults",
    "teenagers|pensioners",
    "toddlers|elderly people",
    "kids|old people",
    "infants|seniors",
    "grandchildren|grandparents",
    "youth|retired people",
)


def comparatives(word: str) -> tuple[str, str]:
    """Comparative and superlative, by rule.

    >>> comparatives("dark"), comparatives("memorable")
    (('darker', 'darkest'), ('more memorable', 'most memorable'))
    """
    special = {"blurry": ("blurrier", "blurriest"), "noisy": ("noisier", "noisiest"), "grainy": ("grainier", "grainiest"), "gloomy": ("gloomier", "gloomiest")}
    if word in special:
        return special[word]
    if word in ("old", "young", "sharp", "crisp", "clear", "clean", "bright", "light", "dark", "dim", "dull", "grey"):
        double = word + "m" if word == "dim" else word
        return double + "er", double + "est"
    return f"more {word}", f"most {word}"


def ordered(more: str, less: str, noun: str, sign: str, other: str) -> Iterator[tuple[str, str]]:
    """Forms around one adjective and its opposite. sign: the answer when `more` comes first; other: when it comes last."""
    comparative, superlative = comparatives(more)
    for end in ENDS:
        yield f"{superlative} {noun} {end}", sign
    for end in LASTS:
        yield f"{superlative} {noun} {end}", other
        yield f"{more} {noun} {end}", other
    for text in (f"{comparative} {noun} first", f"from {more} to {less}", f"{more} {noun} before {less} {noun}", f"{more} to {less}", f"{noun} from {more} to {less}",
                 f"put the {more} {noun} first", f"put the {superlative} {noun} at the top", f"which {noun or 'one'} is {comparative}?", f"the {more} {noun} before the {less} ones",
                 f"show me the {superlative} {noun}", f"{superlative} to least {more}", f"the {comparative} the {noun}, the higher"):  # fmt: skip
        yield text, sign
    yield f"least {more} {noun} first", other
    yield f"{noun}, {superlative} last", other


def attributes(name: str, noun: str) -> Iterator[tuple[str, str]]:
    """Forms around the name of an attribute."""
    for verb in ("sort", "rank", "order", "arrange", "sort the " + noun if noun else "sort them"):
        yield f"{verb} by {name}", "+"
    for text in (
        "by {}",
        "by {} descending",
        "{}, highest first",
        "sort by {}, highest first",
        "in descending order of {}",
        "by {}, best first",
        "order by {}, most first",
    ):
        yield text.format(name), "+"
    for text in (
        "by {} ascending",
        "{}, lowest first",
        "sort by {}, lowest first",
        "sort by {}, worst first",
        "in ascending order of {}",
        "order by {}, least first",
    ):
        yield text.format(name), "-"


def right_ones() -> Iterator[Example]:
    """Instructions that a task answers."""
    for task, (more, less, names) in WORDS.items():
        nouns = (*PEOPLE, "") if task == "age" else PHOTOS
        for noun in nouns:
            for up in more.split():
                for down in less.split():
                    yield from (Example(" ".join(text.split()), task + sign) for text, sign in ordered(up, down, noun, "+", "-"))
                    yield from (Example(" ".join(text.split()), task + sign) for text, sign in ordered(down, up, noun, "-", "+"))
            for name in names:
                yield from (Example(text, task + sign) for text, sign in attributes(name, noun))
    for pair in PAIRS:
        young, old = pair.split("|")
        for text, sign in (
            (f"{young} before {old}", "-"),
            (f"{old} before {young}", "+"),
            (f"from {young} to {old}", "-"),
            (f"{old} first, {young} last", "+"),
            (f"{young} first, {old} last", "-"),
        ):
            yield Example(text, "age" + sign)
    for noun in COUNTED:
        for text in (f"most {noun} first", f"rank the number of {noun}", f"sort by number of {noun}", f"from many {noun} to few", f"more {noun} first", f"count the {noun}, most first", f"fewest {noun} last",
                     f"{noun} count, highest first", f"how many {noun} there are", f"many {noun} before few", f"the largest number of {noun} first", f"photos with the most {noun}"):  # fmt: skip
            yield Example(text, "count+")
        for text in (f"fewest {noun} first", f"from few {noun} to many", f"sort by number of {noun}, fewest first", f"least {noun} first", f"number of {noun} ascending", f"most {noun} last",
                     f"fewer {noun} first", f"the smallest number of {noun} first", f"which has fewer {noun}?"):  # fmt: skip
            yield Example(text, "count-")


def near_misses(things: list[str]) -> Iterator[Example]:
    """The tasks' words about something else: cars are old in another sense than people, knives are sharp."""
    words = [word for more, less, _ in WORDS.values() for word in (*more.split(), *less.split())]
    for number, word in enumerate(words):
        for thing in things[number % 3 :: 3]:
            comparative, superlative = comparatives(word)
            for text in (f"{superlative} {thing} first", f"{word} {thing} first", f"{comparative} {thing}", f"{word} {thing}"):
                yield Example(text, "")
    for when in ("newest", "oldest", "most recent", "latest", "earliest"):
        for noun in ("photos", "pictures", "files", "cars", "buildings", "books", "clothes", "snapshots"):
            yield Example(f"{when} {noun} first", "")
    for text in (
        "sort by date",
        "by date taken",
        "sort by time",
        "sort by file size",
        "by year",
        "chronological order",
        "sort by camera",
        "sort by place",
        "by name",
    ):
        yield Example(text, "")


def others(antonyms: Path, captions: list[str], labels: list[str]) -> Iterator[Example]:
    """Sentences about anything else: other attributes, captions, names of things."""
    taken = {word for more, less, _ in WORDS.values() for word in (*more.split(), *less.split())}
    rows = [row for row in csv.reader(antonyms.read_text().splitlines(), delimiter="\t") if row and not row[0].startswith("#")]
    for _, _, positive, negative, *_ in rows:
        if not {positive, negative} & taken:
            for text in (
                f"most {positive} first",
                f"{positive} first",
                f"from {positive} to {negative}",
                f"{positive} before {negative}",
                f"least {negative} photos first",
                f"{negative} last",
            ):
                yield Example(text, "")
    yield from (Example(text, "") for text in captions)
    for name in labels:
        yield from (Example(text, "") for text in (name, f"{name} first", f"photos of {name}", f"{name} last"))


def examples(captions: list[str], labels: list[str], *, most: int = 8_000, seed: int = 0) -> list[Example]:
    """All of it, thinned to at most `most` of each kind, in a fixed order."""
    antonyms = Path(str(resources.files("rankclip.instructions").joinpath("antonyms.tsv")))
    rng = np.random.default_rng(seed)
    found: list[Example] = []
    for group in (list(right_ones()), [*near_misses(labels), *others(antonyms, captions, labels)]):
        unique = list(dict.fromkeys(group))
        found += [unique[i] for i in sorted(rng.permutation(len(unique))[:most].tolist())]
    return found


def written_by_hand(path: Path) -> list[Example]:
    """Read instructions.tsv."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [Example(text, answer) for text, answer in lines]
