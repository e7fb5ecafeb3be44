"""Runs a composer over a benchmark: photos embedded once in the store, then one composition a query.

Deviation from the papers, the same for every benchmark: photos are prepared as the backbone does it (rankclip-mini squeezes them to a
square), not with the padding that FashionIQ's code uses, so that the figures are those of the tool.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rankclip import composing
from rankclip.collection import Collection, multimodal
from rankclip.collection.composition import Composer, Reference, Wish, own_space, stored_features
from rankclip.errors import InputError
from rankclip.evaluation import composition as metrics
from rankclip.evaluation import layouts
from rankclip.evaluation.composition import Values
from rankclip.evaluation.figure import Figure
from rankclip.evaluation.layouts import Benchmark, Case, grown
from rankclip.instructions.roles import read_roles
from rankclip.photos.sniff import extension
from rankclip.settings import user_folder
from rankclip.store.store import Store, View
from rankclip.types import Progress, Silent

BLOCK = 32  # queries scored before their metrics are taken
PICTURES = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "avif"))


@dataclass(frozen=True, slots=True)
class Options:
    """composer, strength: as in `compose_search`. partial: go on without photos that are not there."""

    composer: str = "auto"
    strength: float | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured. figures are shares; `best` holds each query's first photos, for server files and a closer look."""

    benchmark: str
    name: str
    composer: str
    model: str
    queries: int
    gallery: int
    left_out: int  # queries whose photos are not there
    figures: dict[str, Figure]
    values: Values = field(default_factory=dict)
    best: tuple[tuple[str, ...], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(slots=True)
class Gallery:
    """The photos of a benchmark as the store has them. names: G. rows: int64 [G]. vectors: float32 [G, D]. paths: of names."""

    store: Store
    view: View
    names: list[str]
    contents: np.ndarray
    rows: np.ndarray
    vectors: np.ndarray
    column: dict[str, int]
    paths: dict[str, str]


@dataclass(frozen=True, slots=True)
class Measured:
    """The reports of a benchmark's galleries, the mean of their figures, and the server files that were written, with their sizes in bytes."""

    reports: tuple[Report, ...]
    mean: dict[str, float]
    written: tuple[tuple[str, int], ...] = ()


def measure(
    collection: Collection, kind: str, annotations: Path, split: str = "val", *, submission: Path | None = None, composer: str = "auto",
    strength: float | None = None, partial: bool = False,
) -> Measured:  # fmt: skip
    """Read a benchmark's annotations and measure a composer on all of its galleries.

    >>> measure(Collection("./pictures"), "triplets", Path("mine.jsonl")).reports[0].figures["R@10"]  # doctest: +SKIP
    """
    if multimodal.is_asked(composer) and collection.backbone.image_engine != multimodal.NAME:  # a benchmark asks for the whole gallery in its space
        collection = own_space(collection, multimodal.find(composer))
    if submission is not None and kind not in SERVERS:
        raise InputError(f"--submission: {kind} has no server", hint=f"valid for {' and '.join(SERVERS)}")
    found = [evaluate(collection, one, Options(composer, strength, partial), collection.progress) for one in layouts.read(kind, annotations, split)]
    written = SERVERS[kind](found[0], submission) if submission is not None else ()
    return Measured(tuple(found), mean_report(found), written)


def evaluate(collection: Collection, benchmark: Benchmark, options: Options, progress: Progress | None = None) -> Report:
    """Measure a composer on one benchmark; the collection's roots are the folder of its pictures.

    Raises InputError when photos are missing and `partial` is not set.
    """
    progress = progress or Silent()
    pictures = pictures_of(collection, benchmark)
    with Collection(*pictures.roots, settings=collection.settings, progress=collection.progress, cancel=collection.cancel).opened() as (store, view, _):
        gallery = gallery_of(store, view, benchmark, pictures.paths)
        cases = [case for case in benchmark.cases if present(case, gallery)]
        left_out = len(benchmark.cases) - len(cases)
        if not cases or (left_out and not options.partial):
            raise InputError(
                f"{benchmark.kind} {benchmark.name}: the photos of {left_out:,} of {len(benchmark.cases):,} queries are not in {', '.join(collection.roots)}",
                hint="name the folder that holds all pictures, or take what is there with --partial",
            )
        composer = Composer(collection, store, view, options.composer)
        progress.start(len(cases), "queries")
        blocks = score_blocks(composer, gallery, cases, options, progress)
        values, best, groups = MEASURES[benchmark.kind](blocks, gallery, cases)
        progress.done()
    figures = {name: metrics.figure(found) for name, found in values.items() if len(found)}
    return Report(benchmark.kind, benchmark.name, composer.name, view.space.backbone, len(cases), len(gallery.names), left_out, figures, values, best, groups,
                  tuple(case.number for case in cases))  # fmt: skip


def mean_report(reports: Sequence[Report]) -> dict[str, float]:
    """The headline of several galleries: the unweighted mean of each figure (FashionIQ's categories, GeneCIS' tasks)."""
    shared = [name for name in reports[0].figures if all(name in report.figures for report in reports)]
    return {name: float(np.mean([report.figures[name].value for report in reports])) for name in shared}


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where the photos of a benchmark are: the folders to embed, and a path for each name."""

    roots: tuple[str, ...]
    paths: dict[str, str]


def pictures_of(collection: Collection, benchmark: Benchmark) -> Pictures:
    """Find the pictures by name; photos that a benchmark cuts out of larger ones are made once and kept in the user's cache."""
    found = by_name(collection.roots)
    if not benchmark.crops:
        named = {name: found[name] for name in names_of(benchmark, found) if name in found}
        return Pictures(tuple(collection.roots), named)
    folder = user_folder("cache") / "crops" / benchmark.name
    return Pictures((os.fspath(folder), *collection.roots), {**found, **cut(benchmark, found, folder)})


def by_name(roots: Sequence[str]) -> dict[str, str]:
    """Every picture below some folders by its name without extension; the first by path wins."""
    found: dict[str, str] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                if extension(file) in PICTURES:
                    found.setdefault(os.path.splitext(file)[0], os.path.join(folder, file))
                    found.setdefault(os.path.relpath(os.path.join(folder, file), root), os.path.join(folder, file))
    return found


def names_of(benchmark: Benchmark, found: dict[str, str]) -> Sequence[str]:
    """The gallery's names; where the annotations name none (CIRCO), every picture that is there."""
    return benchmark.gallery or [name for name in found if os.sep not in name and "." not in name]


def cut(benchmark: Benchmark, found: dict[str, str], folder: Path) -> dict[str, str]:
    """Cut photos out of larger ones, padded to a square with black; returns their paths."""
    from PIL import Image  # only this benchmark reads pixels

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, (picture, box) in benchmark.crops.items():
        path = folder / f"{name}.png"
        if picture in found and not path.exists():
            with Image.open(found[picture]) as opened:
                part = opened.convert("RGB").crop(grown(box, opened.size))
            square = Image.new("RGB", (max(part.size),) * 2)
            square.paste(part, ((square.width - part.width) // 2, (square.height - part.height) // 2))
            square.save(path)
        if path.exists():
            paths[name] = os.fspath(path)
    return paths


def gallery_of(store: Store, view: View, benchmark: Benchmark, paths: dict[str, str]) -> Gallery:
    """Look up every photo of the gallery in the store; those that cannot be read are not in it."""
    wanted = benchmark.gallery or tuple(paths)
    folders: dict[str, dict[str, int]] = {}
    names, contents = [], []
    for name in wanted:
        if name not in paths:
            continue
        folder, file = os.path.split(os.path.abspath(paths[name]))
        if folder not in folders:
            folders[folder] = {known: one.content for known, one in store.catalogue.files_in(folder).items() if one.content in view.embedded}
        if file in folders[folder]:
            names.append(name)
            contents.append(folders[folder][file])
    numbers = np.array(contents, np.int64)
    rows = view.rows_of(numbers) if len(numbers) else numbers
    return Gallery(store, view, names, numbers, rows, view.master[rows].astype(np.float32), {name: i for i, name in enumerate(names)}, paths)


def present(case: Case, gallery: Gallery) -> bool:
    """Whether all photos of a query are in the gallery."""
    return all(name in gallery.column for name in (case.reference, *case.targets, *case.group, *case.gallery))


# ---------------------------------------------------------------- scores


def score_blocks(composer: Composer, gallery: Gallery, cases: Sequence[Case], options: Options, progress: Progress) -> Iterator[np.ndarray]:
    """Scores of every photo for some queries at a time, float64 [B, G]."""
    wishes = {text: Wish(text, 1.0, read_roles(text)) for case in cases for text in case.texts}
    sample = gallery.vectors[np.linspace(0, len(gallery.names) - 1, min(len(gallery.names), composing.SAMPLE)).astype(np.int64)]
    for start in range(0, len(cases), BLOCK):
        rows = []
        for case in cases[start : start + BLOCK]:
            content = int(gallery.contents[gallery.column[case.reference]])
            reference = Reference(gallery.paths[case.reference], 1.0, content, stored_features(gallery.view, content), None)
            composition = composer.compose([reference], [wishes[text] for text in case.texts], options.strength)
            vectors = np.stack([term.vector for term in composition.terms], axis=1)  # [D, J]
            usual = composing.calibrate(composition, sample)
            rows.append(composing.combine(composition, list((gallery.vectors @ vectors).T), usual))
            progress.advance()
        yield np.stack(rows)


# ---------------------------------------------------------------- one measure a benchmark

Outcome = tuple[Values, tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]


def measure_fashioniq(blocks: Iterator[np.ndarray], gallery: Gallery, cases: Sequence[Case]) -> Outcome:
    return metrics.fashioniq(blocks, gallery.names, [case.targets[0] for case in cases]), (), ()


def measure_cirr(blocks: Iterator[np.ndarray], gallery: Gallery, cases: Sequence[Case]) -> Outcome:
    best, groups, parts = [], [], []
    for block, (some,) in metrics.taken(blocks, cases):
        left = metrics.without(block, np.array([gallery.column[case.reference] for case in some]))  # type: ignore[attr-defined]
        for scores, case in zip(left, some, strict=True):
            order = [name for name in (gallery.names[i] for i in metrics.first(scores[None], metrics.SERVER_PLACES + 1)[0])]
            best.append(tuple(name for name in order if name != case.reference)[: metrics.SERVER_PLACES])  # type: ignore[attr-defined]
            members = [name for name in case.group if name != case.reference]  # type: ignore[attr-defined]
            ranked = sorted(members, key=lambda name: (-scores[gallery.column[name]], gallery.column[name]))
            groups.append(tuple(ranked[: metrics.SUBSET_PLACES]))
        if all(case.targets for case in some):  # type: ignore[attr-defined]
            columns = [[getattr(case, name) for case in some] for name in ("reference", "targets", "group")]
            parts.append(metrics.cirr([block], gallery.names, columns[0], [targets[0] for targets in columns[1]], columns[2]))
    return metrics.joined(parts), tuple(best), tuple(groups)


def measure_circo(blocks: Iterator[np.ndarray], gallery: Gallery, cases: Sequence[Case]) -> Outcome:
    ids = [int(name) for name in gallery.names]
    best, parts = [], []
    for block, (some,) in metrics.taken(blocks, cases):
        best += [tuple(gallery.names[i] for i in row) for row in metrics.first(block, metrics.SERVER_PLACES)]
        truths = [[int(name) for name in case.targets] for case in some]  # type: ignore[attr-defined]
        if all(truths):
            values = metrics.circo([block], ids, truths, [one[0] for one in truths])
            parts.append(values)
    values = metrics.joined(parts)
    aspects = sorted({aspect for case in cases for aspect in case.aspects}) if values else []
    for aspect in aspects:
        has = np.array([aspect in case.aspects for case in cases])
        values[f"mAP@10 {aspect}"] = values["mAP@10"][has]
    return values, tuple(best), ()


def measure_genecis(blocks: Iterator[np.ndarray], gallery: Gallery, cases: Sequence[Case]) -> Outcome:
    def rows() -> Iterator[np.ndarray]:
        for block, (some,) in metrics.taken(blocks, cases):
            for scores, case in zip(block, some, strict=True):
                yield scores[[gallery.column[name] for name in case.gallery]]  # type: ignore[attr-defined]

    return metrics.genecis(rows()), (), ()


def measure_triplets(blocks: Iterator[np.ndarray], gallery: Gallery, cases: Sequence[Case]) -> Outcome:
    columns = [gallery.column[case.reference] for case in cases]
    return metrics.triplets(blocks, columns, [[gallery.column[name] for name in case.targets] for case in cases]), (), ()


MEASURES = {"fashioniq": measure_fashioniq, "cirr": measure_cirr, "circo": measure_circo, "genecis": measure_genecis, "triplets": measure_triplets}


# ---------------------------------------------------------------- server files


def submit_cirr(report: Report, folder: Path) -> tuple[tuple[str, int], ...]:
    files = metrics.cirr_submission(report.numbers, report.best, report.groups)
    paths = [folder / f"cirr_{name}.json" for name in ("recall", "recall_subset")]
    return tuple((os.fspath(path), metrics.write_submission(path, content)) for path, content in zip(paths, files, strict=True))


def submit_circo(report: Report, folder: Path) -> tuple[tuple[str, int], ...]:
    content = metrics.circo_submission(report.numbers, [[int(name) for name in names] for names in report.best])
    path = folder / "circo.json"
    return ((os.fspath(path), metrics.write_submission(path, content)),)


SERVERS = {"cirr": submit_cirr, "circo": submit_circo}
