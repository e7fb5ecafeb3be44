"""`Collection`: the public API, with everything that the command line can do.

photos = Collection("./photos")
photos.embed()
for hit in photos.rank("older faces first", top=20):
    print(hit.rank, hit.score, hit.path)
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankclip import scoring
from rankclip.backbones.specs import Backbone, find
from rankclip.collection import adapting, dating, ranking, subjects
from rankclip.collection.galleries import Embedded, Photos, Remembered, Seen, without_copies
from rankclip.collection.survey import Gallery, Survey, survey
from rankclip.engines.base import Engine
from rankclip.errors import InputError, NothingToDo, SpaceMismatch, StoreLocked, StoreReadOnly
from rankclip.heads import packs
from rankclip.instructions import Instruction, parse
from rankclip.photos.discover import Walk, WalkOptions, check_roots, is_empty, near
from rankclip.photos.sniff import EXTENSIONS, extension
from rankclip.registry import ENGINES, available, load, resolve
from rankclip.settings import DEFAULT_MODEL, Settings
from rankclip.settings import resolve as resolve_settings
from rankclip.store.store import Store, View
from rankclip.types import EmbedReport, Progress, Ranking, Silent

if TYPE_CHECKING:
    from rankclip.collection.classifying import Classification
    from rankclip.collection.differences import Difference, FolderDifference, Pair
    from rankclip.heads.adapter import Adapter
    from rankclip.heads.difference import DifferenceHead

EMBEDDING = "rankclip.collection.embedding"  # with Pillow and the pool of workers: only where something is new
COMPOSITION, DIFFERENCES, CLASSIFYING = (f"rankclip.collection.{name}" for name in ("composition", "differences", "classifying"))  # `rank` does without them
CONTRAST = "rankclip.contrast"
GONE_FEW = 20  # so many known photos may be gone without a word, and as many as are there
CATALOGUE_BYTES = 420  # a photo's rows in the catalogue, indexes included (measured over 100,000 photos)


class Collection:
    """Photos under some paths, their embeddings in a store, and one backbone that made them.

    paths: folders (recursive) and files; the current folder if none. settings: as `rankclip config show` prints them; keyword
    arguments such as `model`, `store`, `engine`, `device` override single ones.

    >>> Collection("./photos", model="toy").rank("red first")  # doctest: +SKIP
    """

    def __init__(self, *paths: str | os.PathLike[str], settings: Settings | None = None, walk: WalkOptions | None = None, progress: Progress | None = None,
                 cancel: threading.Event | None = None, **overrides: Any) -> None:  # fmt: skip
        self.settings = settings or resolve_settings(overrides).settings
        self.roots = [os.fspath(path) for path in paths] or ["."]
        self.walk_options = walk or WalkOptions(raw=available("rawpy"))
        self.progress = progress or Silent()
        self.cancel = cancel or threading.Event()
        self.report = EmbedReport()
        self.notes: list[str] = []
        self.present = self.roots  # those that are there now
        self.not_yet = 0  # photos found at the last look that could not be embedded

    # ------------------------------------------------------------ embedding

    def embed(self, *, retry_failed: bool = False, force: bool = False, allow_truncated: bool = False, dry_run: bool = False) -> EmbedReport:
        """Bring the store up to date with the photos on the disk; returns what was done.

        retry_failed: read again what could not be read before. force: embed again what is known, too.
        Raises NothingToDo when no photo is found, StoreLocked when another process writes, InputError for a path that is not there.
        """
        self._check_roots()
        if dry_run:
            return self._survey_only(retry=retry_failed, force=force)
        with Store.open(self.folder, write=True, lock_timeout=self.settings.lock_timeout) as store:
            self._update(store, retry=retry_failed, force=force, allow_truncated=allow_truncated)
        self._check_found()
        return self.report

    def _survey_only(self, *, retry: bool, force: bool) -> EmbedReport:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(self.folder)) if Store.exists(self.folder) else None
            walk = Walk(self.present, self.walk_options)
            self._tell(walk, survey(walk, store, store.view(self.backbone.space) if store else None, retry=retry, force=force))
        return self.report

    def _update(self, store: Store, *, retry: bool = False, force: bool = False, allow_truncated: bool = False) -> Seen:
        """Look at the disk and embed what is pending; returns the gallery."""
        walk = Walk(self.present, self.walk_options)
        found = survey(walk, store, store.view(self.backbone.space), retry=retry or self.walk_options.retry_failed, force=force)
        return self._embed_pending(store, walk, found, force=force, allow_truncated=allow_truncated)

    def _embed_pending(self, store: Store, walk: Walk, found: Survey, *, force: bool = False, allow_truncated: bool = False) -> Seen:
        work = load(EMBEDDING).Embedding(store, self.backbone, lambda: self.image_engine, self.settings, self.progress, force=force,
                                         allow_truncated=allow_truncated or self.walk_options.allow_truncated, cancel=self.cancel)  # fmt: skip
        report = work.run(found)
        self._tell(walk, found, report, work.gallery)
        return Seen.of(found.gallery, work.gallery)

    def _tell(self, walk: Walk, found: Survey, report: EmbedReport | None = None, added: Gallery | None = None) -> None:
        """Fill the report from a survey and what was done about it."""
        self.report = report or EmbedReport(new=len(found.pending), moved=len(found.moved))
        self.report.unchanged, self.report.remembered, self.report.skipped = found.unchanged, len(found.remembered), walk.skipped
        self.report.missing_roots = self._missing()
        self.report.failures = walk.failures + self.report.failures
        self.report.failed += len(walk.failures)
        gone = found.gone - len(found.moved)
        if gone > max(GONE_FEW, found.unchanged):
            self.notes.append(f"{gone:,} known photos are not there now; nothing about them is forgotten (rankclip store prune does that)")
        if report is not None and (report.new or report.again):
            self.report.engine = self.image_engine.describe()

    def disk_needed(self, photos: int) -> int:
        """Return about how many bytes the store needs for so many more photos."""
        space = self.backbone.space
        tokens = space.patches * space.token_width + 12 if self.settings.tokens else 0
        return photos * (3 * space.width + 12 + tokens + CATALOGUE_BYTES)

    # ------------------------------------------------------------ ranking

    def rank(self, instruction: str, *, scan: bool = True, unique: bool = False, **options: Any) -> Ranking:
        """Order the photos by an instruction, embedding first what is new.

        scan: look at the disk (otherwise the store is taken as it is). unique: one path for each content.
        Options: method, top, bottom, min_percentile, exact, plus, minus (see `RankOptions`).
        Raises InstructionError for an empty or half-said instruction, NothingToDo for an empty gallery.
        """
        return self.rank_all([instruction], scan=scan, unique=unique, **options)[0]

    def rank_all(self, instructions: Sequence[str], *, scan: bool = True, unique: bool = False, **options: Any) -> list[Ranking]:
        """Order the photos by several instructions in one go."""
        chosen = ranking.RankOptions(**options)
        chosen.check()
        parsed = [parse(text) for text in instructions]
        here = packs.suited_all(("adapter", "difference"), self.backbone.space, self.settings.head)
        adapter, head = packs.opened(here.get("adapter")), packs.opened(here.get("difference"))
        if chosen.method not in ("auto", adapting.METHOD):
            for instruction in parsed:  # what cannot be meant is refused before anything is written
                ranking.choose(instruction, chosen.method, head)
        self._check_roots(scan=scan)
        with ExitStack() as stack:
            store, gallery = self._gallery(stack, scan=scan)
            gallery = without_copies(gallery) if unique else gallery
            view, embed = store.view(self.backbone.space), self.text_embedder(store)
            photos = Embedded.of(gallery, view)
            if not len(photos.rows):
                raise self._nothing()
            parts = adapting.Parts(store, view, photos, embed, lambda: self.text_engine, self.progress, self.backbone.null)
            terms = self._terms(store, view, chosen, head)
            results = []
            for instruction in parsed:
                self.notes += ranking.doubts(instruction.text, self.backbone)
                results.append(self._ordered(instruction, parts, chosen, adapter, head, terms))
                self.notes += results[-1].notes
        return results

    def _ordered(self, instruction: Instruction, parts: adapting.Parts, chosen: ranking.RankOptions, adapter: Adapter | None, head: DifferenceHead | None,
                 terms: Sequence[tuple[float, np.ndarray, str]]) -> Ranking:  # fmt: skip
        """Order the photos by the first that answers: their dates, a trained head, the embedding."""
        store, view, embed, rows = parts.store, parts.view, parts.embed, parts.photos.rows
        if dating.asks(instruction, chosen):
            dated = dating.rank(instruction, parts, chosen, self.not_yet)
            if dated is not None:
                return dated
            self.notes.append(dating.UNDATED)
        match = adapting.choose(adapter, instruction, embed, chosen, view.space)
        if adapter is not None and match is not None:
            return adapting.rank(adapter, match, instruction, parts, chosen, self.not_yet)
        choice = ranking.choose(instruction, chosen.method, head)
        query = ranking.make_query(choice, instruction, embed, terms, head, None if head is None else self.comparer(store, head))
        shown = subjects.showing(instruction, store, view, rows, embed, parts.null)
        choice = replace(choice, rule=subjects.told(choice.rule, shown))
        ranked = ranking.rank_gallery(store, view, parts.photos, query, chosen, self.not_yet, shown)
        return ranking.build(instruction, choice, query, view, parts.photos.gallery, ranked, details=chosen.details)

    # ------------------------------------------------------------ composing

    def compose_search(self, reference: str | os.PathLike[str], instruction: str = "", *, scan: bool = True, unique: bool = False, **options: Any) -> Ranking:
        """Order the photos by what a reference photo would look like after a change: "the same but at night".

        reference: any photo, in the store or not. instruction: what to change; empty: photos like the reference.
        Options: composer, strength, refs, ands, with_reference (see `ComposeOptions`), and those of `rank` but method, plus and minus.
        Raises InputError for a reference that is missing or cannot be read, NothingToDo for an empty gallery.

        >>> Collection("./photos").compose_search("dog.jpg", "the same but in snow", top=5).paths  # doctest: +SKIP
        """
        return self.compose_all(reference, [instruction], scan=scan, unique=unique, **options)[0]

    def compose_all(self, reference: str | os.PathLike[str], instructions: Sequence[str], *, scan: bool = True, unique: bool = False,
                    **options: Any) -> list[Ranking]:  # fmt: skip
        """Order the photos by one reference and several instructions in one go."""
        composition = load(COMPOSITION)
        found: list[Ranking] = composition.search(self, os.fspath(reference), instructions, composition.options_of(options), scan=scan, unique=unique)
        return found

    # ------------------------------------------------------------ comparing

    def diff(self, a: str | os.PathLike[str], b: str | os.PathLike[str], *, ask: str = "", **options: Any) -> Difference:
        """Say what differs between two photos, and which of the two is nearer what `ask` names first ("which is older?").

        The photos may be in the store or not. Options: attributes (a file of opposites), top. Raises InputError for a photo that cannot be read.

        >>> Collection().diff("a.jpg", "b.jpg", ask="which is brighter?").answer  # doctest: +SKIP
        'A'
        """
        differences = load(DIFFERENCES)
        with differences.opened(self, differences.DiffOptions(**options)) as comparer:
            found: Difference = comparer.difference(os.fspath(a), os.fspath(b), ask)
        return found

    def diff_pairs(self, pairs: Iterable[Pair], **options: Any) -> Iterator[Difference]:
        """Compare many pairs of photos, in order; one that cannot be read gives an `error` and the stream goes on."""
        differences = load(DIFFERENCES)
        found: Iterator[Difference] = differences.pairs(self, pairs, differences.DiffOptions(**options))
        return found

    def diff_folders(self, a: str | os.PathLike[str], b: str | os.PathLike[str], *, scan: bool = True, **options: Any) -> FolderDifference:
        """Say what sets two folders apart, photos that are new embedded first. Options: those of `diff`, and phrases (a file of texts to test)."""
        differences = load(DIFFERENCES)
        found: FolderDifference = differences.folders(self, os.fspath(a), os.fspath(b), differences.DiffOptions(**options), scan=scan)
        return found

    def classify(self, classes: Sequence[str], *, scan: bool = True, **options: Any) -> Classification:
        """Sort the photos into named classes, without training. Options: comparative (sentences that tell classes apart), alpha, symmetric."""
        classifying = load(CLASSIFYING)
        found: Classification = classifying.classify(self, classes, classifying.ClassifyOptions(**options), scan=scan)
        return found

    # ------------------------------------------------------------ the gallery

    def _gallery(self, stack: ExitStack, *, scan: bool) -> tuple[Store, Photos]:
        """Open the store and say which photos are ordered; new ones are embedded first, where the store can be written."""
        self.not_yet = 0
        exists = Store.exists(self.folder)
        if not scan:
            if not exists:
                raise NothingToDo(f"{self.folder}: there is no store yet", hint="run the command without --no-scan, or rankclip embed first")
            store = stack.enter_context(Store.open(self.folder))
            self._check_space(store)
            return store, Remembered(store, self.roots)
        walk = Walk(self.present, self.walk_options)
        with Store.open(self.folder) if exists else nullcontext() as reader:
            found = survey(walk, reader, reader.view(self.backbone.space) if reader else None, retry=self.walk_options.retry_failed)
        if not (found.pending or found.moved) and exists:
            self._tell(walk, found)
            return stack.enter_context(Store.open(self.folder)), Seen.of(found.gallery)
        return self._write_or_read(stack, walk, found)

    def _check_space(self, store: Store) -> None:
        """Refuse a query by a model that embedded nothing here; with a look at the disk it would embed now."""
        name = self.backbone.name
        others = list(dict.fromkeys(space.backbone for space in store.catalogue.spaces() if store.view(space).rows))
        if others and not store.view(self.backbone.space).rows:
            made_by = ", ".join(f"other weights of {name}" if one == name else one for one in others)
            usable = [f"give --model {one}, or " for one in others if one != name][:1]
            raise SpaceMismatch(f"{self.folder}: embedded by {made_by}, asked by {name}: their embeddings cannot be compared",
                                hint=f"{''.join(usable)}leave out --no-scan to embed the photos by {name}")  # fmt: skip

    def _write_or_read(self, stack: ExitStack, walk: Walk, found: Survey) -> tuple[Store, Seen]:
        if not (found.pending or found.moved or found.gallery.contents):
            self._tell(walk, found)
            raise self._nothing()
        try:
            store = stack.enter_context(Store.open(self.folder, write=True, lock_timeout=self.settings.lock_timeout))
        except (StoreLocked, StoreReadOnly) as error:
            if not Store.exists(self.folder):
                raise
            self.not_yet = len(found.pending)
            self.notes.append(f"{error.message}; {len(found.pending)} photos are not in the store yet, the others are ranked")
            self._tell(walk, Survey(found.gallery, [], [], found.remembered, found.unchanged))
            return stack.enter_context(Store.open(self.folder)), Seen.of(found.gallery)
        return store, self._embed_pending(store, walk, found)

    def _terms(self, store: Store, view: View, options: ranking.RankOptions, head: DifferenceHead | None) -> list[tuple[float, np.ndarray, str]]:
        """Embed what `plus` and `minus` name: texts or photos, each with a weight in front ("2:beach")."""
        terms = []

        def photo(option: str, path: str) -> np.ndarray:
            found: np.ndarray = load(COMPOSITION).read_reference(self, store, view, path, 1.0, option=option).embedding
            return found

        for option, sign, names in (("--plus", 1.0, options.plus), ("--minus", -1.0, options.minus)):
            for name in names:
                weight, text = weighted(name)
                if extension(text) in EXTENSIONS and not os.path.isfile(text):
                    raise InputError(f"{option} {text}: no such photo", hint=near(text) or "give a photo that is there, or a text")
                vector = photo(option, text) if os.path.isfile(text) else self._text_term(text, store, view, head if sign > 0 else None)
                terms.append((sign * weight, vector, text))
        if options.low:  # w' = unit(w + x_high - x_low)
            high, low = photo("--high", options.high), photo("--low", options.low)
            terms.append((1.0, load(CONTRAST).turned(high, low, self._nuisances(store, view)), f"{options.high} over {options.low}"))
        return terms

    def _nuisances(self, store: Store, view: View) -> np.ndarray:
        """What two examples may differ in by their cameras alone: orthonormal rows, float32 [K, D]."""
        contrast = load(CONTRAST)
        rows = contrast.sampled(view.rows)
        contents = view.contents[rows]
        facts = store.catalogue.facts(contents.tolist())  # none of what was forgotten
        cameras = [facts[content].camera if content in facts else "" for content in contents.tolist()]
        found: np.ndarray = contrast.nuisances(view.read_embeddings(rows), cameras)
        return found

    def _text_term(self, text: str, store: Store, view: View, head: DifferenceHead | None) -> np.ndarray:
        """What a text adds to a query, float32 [D]. A head reads only what is added: what it reads of a text to subtract was worse than the plain text."""
        embed = self.text_embedder(store)
        if head is None:
            return scoring.phrase_embedding(text, embed)
        contrast = load(CONTRAST)
        rows = contrast.sampled(view.rows)
        found: np.ndarray = contrast.added(text, embed, self.comparer(store, head), view.read_embeddings(rows))
        return found

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Embed texts, float32 [Q, D], unit rows; known ones come from the store."""
        with Store.open(self.folder) as store:
            return self.text_embedder(store)(texts)

    def text_embedder(self, store: Store) -> scoring.Embed:
        """Return a function texts -> unit rows that asks the store first."""
        return self._remembered(store, "", lambda texts: self.text_engine.encode_texts(texts))

    def comparer(self, store: Store, head: DifferenceHead) -> scoring.Embed:
        """The same for sentences that compare, as a difference head reads them: a seen one needs neither its weights nor its rules."""
        return self._remembered(store, f"{head.key}|", lambda texts: head.embedder(self.text_embedder(store))(texts))

    def _remembered(self, store: Store, reader: str, read: scoring.Embed) -> scoring.Embed:
        """Ask the store first, and tell it what it does not know. reader: names what reads the texts, "" for the space's own tower."""
        space = self.backbone.space

        def embed(texts: list[str]) -> np.ndarray:
            names = {text: reader + text for text in texts}
            known = store.cached_texts(space, list(names.values()))
            missing = [text for text, name in names.items() if name not in known]
            if missing:
                vectors = {names[text]: vector for text, vector in zip(missing, read(missing), strict=True)}
                store.cache_texts(space, vectors)
                known |= vectors
            return np.stack([known[names[text]] for text in texts])

        return embed

    # ------------------------------------------------------------ features

    @contextmanager
    def opened(self, *, scan: bool = True) -> Iterator[tuple[Store, View, Photos]]:
        """Open the store for reading, photos that are new embedded first; gives the store, the view of this space, and the photos.

        Raises NothingToDo for an empty gallery.
        """
        self._check_roots(scan=scan)
        with ExitStack() as stack:
            store, gallery = self._gallery(stack, scan=scan)
            yield store, store.view(self.backbone.space), gallery

    # ------------------------------------------------------------ parts

    @cached_property
    def folder(self) -> Path:
        """The store's folder."""
        return self.settings.store_folder()

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone that the settings name; `--engine toy` alone means the toy."""
        toy = self.settings.engine == "toy" and self.settings.model == DEFAULT_MODEL
        return find("toy" if toy else self.settings.model)

    @cached_property
    def reader(self) -> Any:
        """What reads photos that are no part of the gallery: in a process of its own, which ends with this collection (`photos.pool.Reader`)."""
        found = load(EMBEDDING).reader(self.backbone, self.settings, allow_truncated=self.walk_options.allow_truncated)
        weakref.finalize(self, found.close)
        return found

    @cached_property
    def image_engine(self) -> Engine:
        return self._engine(self.backbone.image_engine)

    @cached_property
    def text_engine(self) -> Engine:
        return self.image_engine if self.backbone.text_engine == self.backbone.image_engine else self._engine(self.backbone.text_engine)

    def _engine(self, default: str) -> Engine:
        name = default if self.settings.engine == "auto" else self.settings.engine
        if name == "torch":
            self.backbone.check_torch()  # importing torch takes seconds: not for a refusal
        engine: Engine = resolve(ENGINES, name, what="engine")(self.backbone, self.settings)
        return engine

    def _check_roots(self, *, scan: bool = True) -> None:
        """Refuse a path that is not there, unless the store knows it: then it is only missing now."""
        known: list[str] = []
        if any(not os.path.lexists(root) or is_empty(root) for root in self.roots) and Store.exists(self.folder):
            with Store.open(self.folder) as store:
                known = list(store.catalogue.folders().values())
        self.present = check_roots(self.roots, known)
        if not scan:
            return
        self.notes += [f"{root}: not there now; nothing about its photos is forgotten" for root in self._missing()]

    def _missing(self) -> list[str]:
        present = set(self.present)
        return [root for root in self.roots if root not in present]

    def _check_found(self) -> None:
        if self.report.found == 0:
            raise self._nothing()

    def _nothing(self) -> NothingToDo:
        looked = ", ".join(self.roots[:3]) + (" ..." if len(self.roots) > 3 else "")
        left_out = self.report.skipped.total
        hint = f"{left_out} other files were left out (--hidden and --any-extension look at more)" if left_out else "give a folder that holds photos"
        unread = f"; {self.report.failed + self.report.remembered} could not be read" if self.report.failed + self.report.remembered else ""
        return NothingToDo(f"no photos found in {looked}{unread}", hint=hint)


def weighted(text: str) -> tuple[float, str]:
    """Split "2:beach" into a weight and a text; the weight is 1 where none is given.

    >>> weighted("0.5:night"), weighted("C:beach")
    ((0.5, 'night'), (1.0, 'C:beach'))
    """
    number, colon, rest = text.partition(":")
    try:
        weight, phrase = (float(number), rest.strip()) if colon else (1.0, text)
    except ValueError:
        weight, phrase = 1.0, text
    if not phrase.strip():
        raise InputError(f"{text!r}: an empty text cannot be added or subtracted", hint='give a text or photo, with or without a weight: "2:beach"')
    if not math.isfinite(weight):
        raise InputError(f"{text!r}: {number} is not a weight", hint='for example "2:beach" or "0.5:beach"')
    return weight, phrase
