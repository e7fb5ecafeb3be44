"""The sign test of comparing sentences: does cos(e(sentence), photo i - photo j) > 0 say which photo is which?

Ours: groups by name, as many photos of each, both orders of every pair (a model that always says "first" scores 50 %), accuracy with a
95 % interval by bootstrap over photos, AUROC between the groups. Released: the authors' way, five draws of 100 photos, one order, the mean
and its standard error, and their code's index errors, so that their table can be compared with.

Sets in their official layouts: AwA2, CIFAR-100 (python version), Oxford Flowers 102, CUB-200-2011; or JSONL of one's own.
Source: Sam et al. 2025 and its code (`pc_clip`, commit f36814e); the errors are described beside `RELEASED`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rankclip import jsonl
from rankclip.collection import Collection
from rankclip.collection.differences import find
from rankclip.contrast import sentences
from rankclip.errors import InputError, NothingToDo, reason
from rankclip.heads.sides import read as read_sides
from rankclip.registry import load
from rankclip.scoring import Embed, unit

SETS = ("jsonl", "awa2", "awa2-size", "cifar100-size", "flowers-colour", "cub")
DRAWS, DRAWN = 5, 100  # the released protocol: seeds 0 ... 4, photos each
BOOTSTRAPS = 1_000
PER_GROUP = 400  # photos of a group that ours looks at

LARGE, SMALL = ("camel", "leopard", "lion", "wolf"), ("hamster", "rabbit", "shrew", "squirrel")  # CIFAR-100's fine labels
BLUE, YELLOW = ("bluebell", "blue poppy"), ("sunflower", "goldenrod", "yellow iris", "daffodil")  # wanted by name; not all are among the 102
FLOWERS = {"yellow iris": 15, "sunflower": 54, "daffodil": 42, "blue poppy": 69, "globe thistle": 10}  # label of imagelabels.mat, from 1
# the released code's numbers, taken as 0-based labels: canterbury bells and bird of paradise; english marigold, moon orchid, snapdragon, arum lily
RELEASED_BLUE, RELEASED_YELLOW = (2, 7), (4, 6, 10, 19)
SIZE_SENTENCES = ("The first image contains a larger animal, while the second contains a smaller animal.",
                  "The first image contains a smaller animal, while the second contains a larger animal.")  # fmt: skip
RELEASED_SIZE = "The first image contains a larger animal, whiel the second contains a smaller animal."  # with its misspelling
COLOUR_SENTENCES = ("The first flower is blue, while the second is yellow.", "The first flower is yellow, while the second is blue.")
# AwA2's predicates that cannot be seen, as the paper lists them: numbers of predicates.txt, from 1
UNSEEN = (34, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 53, 55, 56, 84)
BIG = 15  # predicate "big", from 1


@dataclass(frozen=True, slots=True)
class Test:
    """Two groups of photos and the sentence that is true of (a photo of `high`, a photo of `low`), with its reverse."""

    name: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    sentence: str
    reverse: str

    @property
    def paths(self) -> tuple[str, ...]:
        return self.high + self.low


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one test. interval: 95 %. geometry: 1 - cosine of the sentence and the mean difference of the groups.

    prompts: 1 - cosine of the sentence and the difference of what it says of either side, as plain texts; NaN where it says nothing of one.
    """

    name: str
    photos: tuple[int, int]
    pairs: int
    accuracy: float
    interval: tuple[float, float]
    auroc: float
    reversed_pair: float
    geometry: float
    head: str
    protocol: str
    prompts: float = float("nan")


# ---------------------------------------------------------------- sets


def read(kind: str, source: Path, *, released: bool = False) -> list[Test]:
    """Read a set in its official layout. Raises InputError for an unknown set or a missing part."""
    readers = dict(zip(SETS, (read_jsonl, read_awa2, read_awa2_size, read_cifar, read_flowers, read_cub), strict=True))
    if kind not in readers:
        raise InputError(f"unknown set {kind!r}", hint=f"valid: {', '.join(SETS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    try:
        tests = list(readers[kind](source, released))
    except OSError as error:
        raise InputError(f"{error.filename or source}: {reason(error)}", hint=f"give {kind} in its official layout") from error
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:  # what readers of other people's formats raise
        raise InputError(f"{source}: a file in it cannot be understood ({reason(error)})", hint=f"give {kind} in its official layout") from error
    if not tests:
        raise InputError(f"{source}: no test in it")
    return tests


def read_jsonl(source: Path, released: bool) -> Iterator[Test]:
    """Rows of one's own: {"task", "high", "low"} gives the two sentences, {"task", "side", "path"} a photo of one side."""
    said: dict[str, tuple[str, str]] = {}
    photos: dict[str, dict[str, list[str]]] = {}
    needs, example = "needs task with high and low, or with side and path", 'side is "high" or "low"'
    for place, row in jsonl.read(source, expected=needs, hint=example):
        try:
            name = str(row["task"])
            if "side" in row:
                photos.setdefault(name, {"high": [], "low": []})[row["side"]].append(str(source.parent / row["path"]))
            else:
                said[name] = (str(row["high"]), str(row["low"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place}: {needs}", hint=example) from error
    for name, (high, low) in said.items():
        sides = photos.get(name, {"high": [], "low": []})
        yield Test(name, tuple(sides["high"]), tuple(sides["low"]), high, low)


def read_awa2(source: Path, released: bool) -> Iterator[Test]:
    """One test for each two of the ten test classes: the attributes that one has and the other has not."""
    classes, predicates, matrix = _awa2(source)
    tests = (source / "testclasses.txt").read_text().split()
    visible = [i for i in range(len(predicates)) if i + 1 not in UNSEEN]
    if released:  # 1-based numbers used from 0: each removes the attribute after the one that was meant
        visible = [i for i in range(len(predicates)) if i not in UNSEEN]
    ordered = sorted(tests)
    for i, one in enumerate(ordered):
        for j in range(i + 1, len(ordered)):
            other = ordered[j]
            # released: the row of the attribute matrix is the position among the test classes, so it describes another animal
            rows = (matrix[i], matrix[j]) if released else (matrix[classes.index(one)], matrix[classes.index(other)])
            mine = [predicates[k] for k in visible if rows[0][k] and not rows[1][k]]
            theirs = [predicates[k] for k in visible if rows[1][k] and not rows[0][k]]
            if mine and theirs:
                forth, back = (f"The first image has attributes of {', '.join(a)}, while the second image has attributes of {', '.join(b)}."
                               for a, b in ((mine, theirs), (theirs, mine)))  # fmt: skip
                yield Test(f"{one}, {other}", pictures(source / "JPEGImages" / one), pictures(source / "JPEGImages" / other), forth, back)


def read_awa2_size(source: Path, released: bool) -> Iterator[Test]:
    """Large test animals against small ones. Released: the column after "big" is "small", which turns the answer around."""
    classes, _, matrix = _awa2(source)
    tests = sorted((source / "testclasses.txt").read_text().split())
    column = BIG if released else BIG - 1
    big = [bool(matrix[classes.index(name)][column]) for name in tests]

    def side(wanted: bool) -> tuple[str, ...]:
        return tuple(path for name, here in zip(tests, big, strict=True) if here == wanted for path in pictures(source / "JPEGImages" / name))

    yield Test("size of animals", side(True), side(False), *SIZE_SENTENCES)


def _awa2(source: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Classes, predicates, and the binary matrix [50, 85]."""
    classes = [line.split()[-1] for line in (source / "classes.txt").read_text().splitlines() if line.strip()]
    predicates = [line.split()[-1] for line in (source / "predicates.txt").read_text().splitlines() if line.strip()]
    return classes, predicates, np.loadtxt(source / "predicate-matrix-binary.txt", dtype=int)


def pictures(folder: Path) -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(folder.glob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def read_cifar(source: Path, released: bool) -> Iterator[Test]:
    """Large against small animals of the test side; the pictures are written as PNG beside the batch once."""
    names = _unpickle(source / "meta")["fine_label_names"]
    test = _unpickle(source / "test")
    labels = [names[label] for label in test["fine_labels"]]
    sides = []
    for wanted in (LARGE, SMALL):
        places = [i for i, label in enumerate(labels) if label in wanted]
        sides.append(tuple(_picture(source / "pictures" / f"{i:05d}.png", test["data"][i]) for i in places))
    yield Test("size of animals", sides[0], sides[1], RELEASED_SIZE if released else SIZE_SENTENCES[0], SIZE_SENTENCES[1])


def _picture(path: Path, row: np.ndarray) -> str:
    from PIL import Image

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(row, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)).save(path)
    return str(path)


class _Plain(pickle.Unpickler):
    """Reads arrays and text, and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"),
                              ("_codecs", "encode")}:  # fmt: skip
            return super().find_class(module, name)
        raise InputError(f"the file names {module}.{name}, which does not belong in CIFAR-100")


def _unpickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found = _Plain(io.BytesIO(file.read()), encoding="bytes").load()
    text = {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
    return {key: [one.decode() if isinstance(one, bytes) else one for one in value] if isinstance(value, list) else value for key, value in text.items()}


def read_flowers(source: Path, released: bool) -> Iterator[Test]:
    """Blue against yellow flowers of the test side (jpg/, imagelabels.mat, setid.mat)."""
    labels = _matlab(source / "imagelabels.mat")["labels"].ravel()  # from 1
    test = set(_matlab(source / "setid.mat")["tstid"].ravel().tolist())
    blue, yellow = [{FLOWERS[name] for name in names if name in FLOWERS} for names in (BLUE, YELLOW)]
    if released:
        blue, yellow = ({label + 1 for label in labels_} for labels_ in (RELEASED_BLUE, RELEASED_YELLOW))

    def side(wanted: set[int]) -> tuple[str, ...]:
        return tuple(str(source / "jpg" / f"image_{i:05d}.jpg") for i, label in enumerate(labels, 1) if label in wanted and i in test)

    yield Test("colour of flowers", side(blue), side(yellow), *COLOUR_SENTENCES)


def _matlab(path: Path) -> dict[str, np.ndarray]:
    matlab = load("scipy.io.matlab")
    with path.open("rb") as file:
        try:
            found: dict[str, np.ndarray] = matlab.loadmat(file)
        except matlab.MatReadError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return found


def read_cub(source: Path, released: bool) -> Iterator[Test]:
    """Pairs of test classes that differ in their primary colour, in the words of the attributes that most of each class's pictures have."""
    names = dict(_numbered(source / "classes.txt"))
    files = dict(_numbered(source / "images.txt"))
    of_image = dict(_numbered(source / "image_class_labels.txt"))
    train = dict(_numbered(source / "train_test_split.txt"))
    attributes = dict(_numbered(_attributes_file(source)))
    colours = {number: text.split("::")[1] for number, text in attributes.items() if text.startswith("has_primary_color::")}
    shares = np.loadtxt(source / "attributes" / "class_attribute_labels_continuous.txt")  # [200, 312], per cent
    columns = sorted(colours)
    primary = {str(i + 1): colours[columns[int(np.argmax([shares[i][int(c) - 1] for c in columns]))]] for i in range(len(shares))}
    of_colour: dict[str, list[str]] = {}
    for image, path in files.items():
        if train[image] == "0" and of_image[image] in names:
            of_colour.setdefault(primary[of_image[image]], []).append(str(source / "images" / path))
    seen = sorted(colour for colour, paths in of_colour.items() if len(paths) > 1)
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            forth, back = sentences(f"a {one} bird", f"a {other} bird")
            yield Test(f"{one} or {other} birds", tuple(of_colour[one]), tuple(of_colour[other]), forth, back)


def _attributes_file(source: Path) -> Path:
    inside = source / "attributes" / "attributes.txt"
    return inside if inside.exists() else source.parent / "attributes.txt"


def _numbered(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        number, _, rest = line.strip().partition(" ")
        if number:
            yield number, rest


# ---------------------------------------------------------------- measuring


def measure(collection: Collection, tests: Sequence[Test], *, released: bool = False, untuned: bool = False) -> list[Report]:
    """Embed what is new and run every test; without a difference head the plain text path is measured."""
    head = None if untuned else find(collection)
    reports = []
    with collection.opened() as (store, view, gallery):
        rows = view.rows_of(gallery.contents)
        place = dict(zip(gallery.paths(np.arange(len(rows))), rows.tolist(), strict=True))
        plain = collection.text_embedder(store)
        embed = plain if head is None else head.embedder(plain)
        for test in tests:
            sides = [[place[path] for path in side if place.get(path, -1) >= 0] for side in (test.high, test.low)]
            if min(map(len, sides)) < 2:
                raise NothingToDo(f"{test.name}: {len(sides[0])} and {len(sides[1])} photos could be read, two of each are needed")
            high, low = (view.read_embeddings(np.array(side)) for side in sides)
            found = (released_report if released else report)(test, high, low, embed, head.pack.name if head is not None else "none")
            reports.append(replace(found, prompts=prompt_distance(test.sentence, embed, plain)))
    return reports


def prompt_distance(sentence: str, embed: Embed, plain: Embed) -> float:
    """1 - cosine of a sentence and the difference of its two sides as plain texts.    Source: Sam et al. 2025, with class prompts for the sides."""
    sides = read_sides(sentence)
    if not sides.first or not sides.second:
        return float("nan")
    first, second = (plain(list(side)).mean(axis=0) for side in (sides.first, sides.second))
    return float(1 - unit(embed([sentence])[0]) @ unit(first - second))


def balanced(high: np.ndarray, low: np.ndarray, limit: int = PER_GROUP) -> tuple[np.ndarray, np.ndarray]:
    """As many photos of each group, chosen the same way every time: float32 [K, D] twice."""
    count = min(len(high), len(low), limit)
    rng = np.random.default_rng(0)
    return high[rng.permutation(len(high))[:count]], low[rng.permutation(len(low))[:count]]


def report(test: Test, high: np.ndarray, low: np.ndarray, embed: Embed, head: str) -> Report:
    """Our protocol. Each order of a pair is judged by the sentence that is true of it."""
    high, low = balanced(high, low)
    forth, back = embed([test.sentence, test.reverse])  # [D], [D]
    first = high @ forth, low @ forth  # [K], [K]
    second = high @ back, low @ back
    right = (wins(first[0], first[1]) + wins(-second[0], -second[1])) / 2  # [K, K]
    axis = unit(forth - back)
    difference = unit(high.mean(axis=0) - low.mean(axis=0))
    auroc = float(wins(high @ axis, low @ axis).mean())
    return Report(test.name, (len(high), len(low)), 2 * right.size, float(right.mean()), bootstrap(right), auroc, auroc,
                  float(1 - unit(forth) @ difference), head, "balanced groups, both orders")  # fmt: skip


def wins(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """1 where the high photo's score is larger, half where they are equal: float64 [K, L]."""
    return (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])


def bootstrap(right: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of right [K, L], drawing photos of both groups: pairs that share a photo are not independent."""
    rng = np.random.default_rng(0)
    rows = rng.multinomial(right.shape[0], np.full(right.shape[0], 1 / right.shape[0]), BOOTSTRAPS) / right.shape[0]  # [R, K]
    columns = rng.multinomial(right.shape[1], np.full(right.shape[1], 1 / right.shape[1]), BOOTSTRAPS) / right.shape[1]  # [R, L]
    means = np.einsum("rk,kl,rl->r", rows, right, columns, optimize=True)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def released_pairs(high: int, low: int, draw: int) -> list[tuple[int, int]]:
    """The pairs i < j of one draw, those of different groups: positions with the high group first."""
    order = np.random.default_rng(draw).permutation(high + low)[:DRAWN]
    found = []
    for i in range(len(order)):
        found += [(int(order[i]), int(order[j])) for j in range(i + 1, len(order)) if (order[i] < high) != (order[j] < high)]
    return found


def released_report(test: Test, high: np.ndarray, low: np.ndarray, embed: Embed, head: str) -> Report:
    """The authors' protocol: five draws, one order, the mean and its standard error (population deviation over the root of five)."""
    photos = np.concatenate([high, low])
    forth, back = embed([test.sentence, test.reverse])
    accuracies, pairs = [], 0
    for draw in range(DRAWS):
        chosen = released_pairs(len(high), len(low), draw)
        pairs += len(chosen)
        right = [((forth if i < len(high) else back) @ (photos[i] - photos[j])) > 0 for i, j in chosen]
        accuracies.append(float(np.mean(right)) if right else 0.5)
    mean, error = float(np.mean(accuracies)), float(np.std(accuracies) / np.sqrt(DRAWS))
    axis = unit(forth - back)
    auroc = float(wins(high @ axis, low @ axis).mean())
    geometry = float(1 - unit(forth) @ unit(high.mean(axis=0) - low.mean(axis=0)))
    return Report(test.name, (len(high), len(low)), pairs, mean, (mean - error, mean + error), auroc, auroc, geometry, head, "as released")


def record(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    def short(value: Any) -> Any:
        if value != value:
            return None
        return [short(one) for one in value] if isinstance(value, tuple) else round(value, 4) if isinstance(value, float) else value

    return {name: short(value) for name, value in asdict(report).items()}


def lines(report: Report) -> list[str]:
    low, high = report.interval
    sides = f", to that of its two sides as texts {report.prompts:.3f}" if report.prompts == report.prompts else ""
    return [f"{report.name}: {report.accuracy:.1%} of {report.pairs:,} pairs ({low:.1%} to {high:.1%}), {report.photos[0]} and {report.photos[1]} photos",
            f"  AUROC {report.auroc:.3f}, distance to the mean difference {report.geometry:.3f}{sides}; head {report.head}; {report.protocol}"]  # fmt: skip
