"""`compose_search`: reference photos and changes asked for -> a composition -> the gallery in order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rankclip import composing, scoring
from rankclip.backbones.checkpoints import PREFIX
from rankclip.backbones.specs import Backbone
from rankclip.collection import multimodal
from rankclip.collection.galleries import Photos, without_copies
from rankclip.collection.ranking import Ranked, RankOptions, cut_short, too_long, wanted
from rankclip.composing import Compose, Composition, Material
from rankclip.errors import InputError, ModelError, NothingToDo, PhotoError, reason
from rankclip.heads import packs
from rankclip.instructions.languages import language
from rankclip.instructions.roles import Roles, read_roles
from rankclip.registry import COMPOSERS, HEADS, check_name, load, resolve
from rankclip.store.store import Store, View
from rankclip.types import Explanation, Features, PhotoFacts, Ranking

if TYPE_CHECKING:
    from rankclip.collection.collection import Collection

UNTRAINED = "slerp"  # what `auto` takes where no head fits
NEAR = 0.97  # cosine from which a photo counts as the reference again
NEAR_MLLM = 0.999  # the same for a language model, whose embeddings lie in a narrow cone
BURST, BURST_SECONDS = 0.90, 3.0  # the same camera within seconds, and about as near: one of a burst


@dataclass(frozen=True, slots=True)
class ComposeOptions:
    """What `Collection.compose_search` can be asked for besides a reference and an instruction."""

    composer: str = "auto"
    strength: float | None = None  # 0: like the photo, 1: what the text says; None: the composer's own balance
    refs: Sequence[str] = ()  # "[W:]PHOTO"
    ands: Sequence[str] = ()  # "[W:]TEXT"
    with_reference: bool = False
    rank: RankOptions = RankOptions()

    def check(self) -> None:
        if self.composer != "auto" and not multimodal.is_asked(self.composer):
            check_name(COMPOSERS, self.composer, what="composer")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise InputError(f"--strength must be from 0 (like the photo) to 1 (what the text says), got {self.strength:g}")
        self.rank.check()


@dataclass(frozen=True, slots=True)
class Reference:
    """A photo to start from. content: its number in the store, -1 where it is not in there. features: pooled [1, D], tokens [1, P, W] or None."""

    path: str
    weight: float
    content: int
    features: Features
    facts: PhotoFacts | None

    @property
    def embedding(self) -> np.ndarray:
        return self.features.pooled[0]


@dataclass(frozen=True, slots=True)
class Wish:
    """An instruction with its weight and what it was read as."""

    text: str
    weight: float
    roles: Roles

    @classmethod
    def read(cls, text: str, weight: float = 1.0) -> Wish:
        return cls(text, weight, read_roles(text))


@dataclass(frozen=True, slots=True)
class Question:
    """What one ranking answers: references, the instruction and those of `ands`, and how the result is wanted."""

    references: tuple[Reference, ...]
    wishes: tuple[Wish, ...]
    options: ComposeOptions


def search(collection: Collection, reference: str, instructions: Sequence[str], options: ComposeOptions, *, scan: bool, unique: bool) -> list[Ranking]:
    """Order the photos by what one reference (and those of `refs`) would look like after each instruction (and those of `ands`)."""
    options.check()
    named = [(1.0, reference), *(weighted(text, what="--ref") for text in options.refs)]
    for _, path in named:
        check_reference(path)
    more = [Wish.read(text, weight) for weight, text in (weighted(text, what="--and") for text in options.ands)]
    wishes = [Wish.read(text) for text in instructions]
    with collection.opened(scan=scan) as (store, view, gallery):
        if not len(gallery.contents):
            raise NothingToDo(f"no photos found in {', '.join(collection.roots)}", hint="give a folder that holds photos")
        gallery = without_copies(gallery) if unique else gallery
        judge = second_judge(collection, options)
        if judge is not None and (store.view(judge.backbone.space).rows_of(gallery.contents) >= 0).all():  # its own space is there: nothing to judge again
            own = own_space(collection, judge.backbone)
            found = search(own, reference, instructions, replace(options, composer=multimodal.NAME), scan=False, unique=unique)
            collection.notes += own.notes
            return found
        references = tuple(read_reference(collection, store, view, path, weight) for weight, path in named)
        composer = Composer(collection, store, view, options.composer if judge is None else "auto")
        announce(collection, [*wishes, *more], [path for _, path in named], judge or composer.judge)
        questions = [Question(references, (wish, *more), options) for wish in wishes]
        return [answer(collection, store, view, gallery, composer, one) if judge is None else judged(judge, collection, store, gallery, composer, one)
                for one in questions]  # fmt: skip


def second_judge(collection: Collection, options: ComposeOptions) -> multimodal.Judge | None:
    """The language model that reads the first photos again, where one is asked for that did not embed the gallery."""
    if not multimodal.is_asked(options.composer) or collection.backbone.image_engine == multimodal.NAME:
        return None
    return multimodal.Judge(multimodal.find(options.composer), collection.settings)


def own_space(collection: Collection, backbone: Backbone) -> Collection:
    """The same photos, as a language model has embedded them."""
    settings = replace(collection.settings, model=backbone.name, engine="auto")
    return type(collection)(*collection.roots, settings=settings, walk=collection.walk_options, progress=collection.progress, cancel=collection.cancel)


def announce(collection: Collection, wishes: Sequence[Wish], paths: Sequence[str], judge: multimodal.Judge | None) -> None:
    """Say what the model cannot read, and let a language model read all that is asked for in one go."""
    for wish in wishes:
        collection.notes += notes_about(wish.text, collection.backbone)
    for path in paths if judge is not None else ():
        judge.read(path, [wish.text for wish in wishes if not wish.roles.neutral])  # type: ignore[union-attr]


def answer(collection: Collection, store: Store, view: View, gallery: Photos, composer: Composer, question: Question) -> Ranking:
    """Answer one question by the composer alone."""
    composition = composer.compose(question.references, question.wishes, question.options.strength)
    ranked = order_gallery(store, view, gallery, composition, question.references, question.options, collection.not_yet)
    return build(view, gallery, ranked, composition, composer, question)


def judged(judge: multimodal.Judge, collection: Collection, store: Store, gallery: Photos, composer: Composer, question: Question) -> Ranking:
    """Order by the light composer, then let a language model read the first photos again, and join both orders."""
    view, chosen = store.view(collection.backbone.space), question.options.rank
    if chosen.bottom is not None:
        raise InputError("--bottom does not go with a language model that reads only the first photos", hint="leave it out, or embed by that model first")
    limit = wanted(len(gallery.contents), chosen)
    first = None if limit is None else max(multimodal.JUDGED, limit)
    whole = replace(question.options, rank=replace(chosen, top=first, min_percentile=None, min_score=None))
    composition = composer.compose(question.references, question.wishes, question.options.strength)
    ranked = order_gallery(store, view, gallery, composition, question.references, whole, collection.not_yet)
    order = judged_again(judge, collection, store, gallery, ranked, question)
    limit = wanted(len(ranked.places), chosen)
    order = at_least(order if limit is None else order.first(limit), chosen.min_score)
    found = build(view, gallery, replace(ranked, order=order), composition, composer, question)
    rule = f"the first {multimodal.JUDGED} by {composer.name}, read again by {judge.backbone.name}; both orders joined by reciprocal ranks"
    explanation = None if found.explanation is None else replace(found.explanation, method=multimodal.NAME, rule=rule)
    return replace(found, method=multimodal.NAME, meaning="reciprocal ranks", explanation=explanation)


def judged_again(judge: multimodal.Judge, collection: Collection, store: Store, gallery: Photos, ranked: Ranked, question: Question) -> scoring.Order:
    """The first photos in the joined order of the light composer and a language model; as they were where no change is asked for."""
    order, asked = ranked.order, for_judge(question.references, question.wishes)
    if not asked.texts or not len(order.index):
        return order
    places = ranked.places[order.index[: multimodal.JUDGED]]  # int64 [K]
    query = judge.query(asked)  # [D]
    photos = judge.photos(store.view(judge.backbone.space), gallery.contents[places], gallery.paths(places), collection.progress, collection.cancel)  # [K, D]
    return multimodal.fused(order, photos @ query)


def notes_about(text: str, backbone: Backbone) -> list[str]:
    """Say what the model cannot read of an instruction."""
    notes = too_long(text, backbone)
    if found := language(text):
        notes.append(f"{text!r} seems to be {found}; rankclip reads English only: this order means little; say it in English")
    return notes


# ---------------------------------------------------------------- references


def weighted(text: str, *, what: str) -> tuple[float, str]:
    """Split "2:beach.jpg" into a weight and the rest; a path that is there as a whole has weight 1.

    >>> weighted("0.5:at night", what="--and")
    (0.5, 'at night')
    """
    number, colon, rest = text.partition(":")
    try:
        weight = float(number) if colon and rest.strip() and not os.path.lexists(text) else 1.0
    except ValueError:
        return 1.0, text
    if not np.isfinite(weight) or weight <= 0:
        raise InputError(f"{what} {text!r}: the weight must be a positive number")
    return weight, rest.strip() if colon and rest.strip() and not os.path.lexists(text) else text


def check_reference(path: str) -> None:
    """Refuse a reference that is not a file, before any work."""
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder cannot be the reference", hint="name one photo; folders to search come before it")
    if not os.path.lexists(path):
        raise InputError(
            f"{path}: no such photo", hint='the order is PATH... REFERENCE INSTRUCTION, for example: rankclip compose-search ./photos dog.jpg "in snow"'
        )


def read_reference(collection: Collection, store: Store, view: View, path: str, weight: float, *, option: str = "", role: str = "the reference") -> Reference:
    """Take a photo's features from the store where they are there, else decode it and run the image tower.

    option: what named the photo; role: what it is where no option named it; both for messages. Raises InputError for a photo that cannot be read.
    """
    named = f"{option} {path}".lstrip()
    folder, name = os.path.split(os.path.abspath(path))
    known = store.catalogue.files_in(folder).get(name)
    try:
        found = os.stat(path)
        if known is not None and known.content in view.embedded and (known.size, known.mtime_ns) == (found.st_size, found.st_mtime_ns):
            features = stored_features(view, known.content)
            return Reference(path, weight, known.content, features, store.catalogue.facts([known.content]).get(known.content))
        decoded = collection.reader.read(path)
    except OSError as error:
        raise InputError(f"{named}: {reason(error)}") from error
    except PhotoError as error:
        raise InputError(f"{named}: {error.reason}", hint=f"{option or role} must be a photo that can be read") from error
    features = run_tower(collection, decoded.pixels)
    content = store.catalogue.content_of(decoded.digest)
    return Reference(path, weight, content if content in view.embedded else -1, features, decoded.facts)


def stored_features(view: View, content: int) -> Features:
    row = view.rows_of(np.array([content]))  # [1]
    tokens = view.read_tokens(view.token_rows_of(np.array([content]))) if view.token_rows and view.token_rows_of(np.array([content]))[0] >= 0 else None
    stages = view.read_stages(np.array([content]))
    return Features(view.read_embeddings(row), tokens, stages if stages.size else None)


def run_tower(collection: Collection, pixels: np.ndarray) -> Features:
    """Run one photo through the image tower, alone: filling a batch up, as `embed` does to be bit-equal, would cost a whole batch's time."""
    features = collection.image_engine.encode_images(pixels[None])
    tokens, stages = (None if part is None else part[:1] for part in (features.tokens, features.stages))
    return Features(features.pooled[:1], tokens, stages)


# ---------------------------------------------------------------- composing


class Composer:
    """Resolves `auto`, loads a head once, and makes compositions."""

    def __init__(self, collection: Collection, store: Store, view: View, name: str) -> None:
        self.collection, self.embed = collection, collection.text_embedder(store)
        mllm = collection.backbone.image_engine == multimodal.NAME and (name == "auto" or multimodal.is_asked(name))
        self.judge = multimodal.Judge(collection.backbone, collection.settings, collection.image_engine) if mllm else None
        name = multimodal.NAME if mllm else name
        pack = packs.suited("composer", view.space, collection.settings.head) if name in ("auto", "head") else None
        if name == "head" and pack is None:
            here = f"no trained composer fits {view.space.backbone}"
            raise ModelError(f"--composer head: {here}", hint="train one: rankclip finetune composer, or use --composer slerp")
        self.name = name if name != "auto" else "head" if pack is not None else UNTRAINED
        self.rule = (
            f"--composer {name}" if name != "auto" else "a trained composer fits this model" if pack is not None else "no trained composer fits this model"
        )
        self.pack = pack
        self.head = resolve(HEADS, "composer", what="head")(pack, collection.settings.thread_count()) if pack is not None else None

    def compose(self, references: Sequence[Reference], wishes: Sequence[Wish], strength: float | None) -> Composition:
        """Make the composition of some references and instructions, each weighted."""
        photo = scoring.unit(np.sum([one.weight * one.embedding for one in references], axis=0))  # [D]
        material = Material(photo, self._mean(wishes, [wish.roles.wanted for wish in wishes]), tuple(wish.roles for wish in wishes), strength,
                            said=self._mean(wishes, ["" if wish.roles.neutral else wish.roles.wanted or wish.text for wish in wishes]))  # fmt: skip
        if self.judge is not None and not material.neutral:
            material = replace(material, learnt=self._judged(references, wishes))
        elif self.head is not None and (asked := [wish for wish in wishes if wish.roles.wanted]):
            material = replace(material, learnt=self._learnt(references, asked), beside=tuple(wish.roles.beside_head for wish in wishes))
        name = "slerp" if material.neutral else "head" if self.judge is not None else self.name
        make: Compose = resolve(COMPOSERS, name, what="composer")
        return make(material, self.embed)

    def _mean(self, wishes: Sequence[Wish], phrases: Sequence[str]) -> np.ndarray | None:
        """The weighted mean of some phrases' embeddings, float32 [D], unit; None where all are empty."""
        terms = [wish.weight * scoring.phrase_embedding(phrase, self.embed) for wish, phrase in zip(wishes, phrases, strict=True) if phrase]
        return scoring.unit(np.sum(terms, axis=0)) if terms else None

    def _judged(self, references: Sequence[Reference], wishes: Sequence[Wish]) -> np.ndarray:
        """What a language model makes of all references and all instructions that ask for a change, float32 [D]."""
        assert self.judge is not None
        return self.judge.query(for_judge(references, wishes))

    def _learnt(self, references: Sequence[Reference], asked: Sequence[Wish]) -> np.ndarray:
        """The head's query: every reference with every instruction that names something, weighted, float32 [D]."""
        assert self.head is not None
        texts = [wish.roles.for_head for wish in asked]
        states, real = load("rankclip.engines.base").text_states(self.collection.text_engine, texts)  # [Q, T, V], [Q, T]
        pooled = self.embed(texts)  # [Q, D]
        total = np.zeros(len(pooled[0]), np.float64)
        for reference in references:
            for i, wish in enumerate(asked):
                query = self.head.compose(reference.features, states[i : i + 1], real[i : i + 1], pooled[i : i + 1])[0]  # [D]
                total += reference.weight * wish.weight * query
        return scoring.unit(total)


def for_judge(references: Sequence[Reference], wishes: Sequence[Wish]) -> multimodal.Asked:
    """What a language model is asked about: paths, and the instructions that ask for a change."""
    return multimodal.Asked(tuple((one.weight, one.path) for one in references), tuple((wish.weight, wish.text) for wish in wishes if not wish.roles.neutral))


# ---------------------------------------------------------------- order


def order_gallery(
    store: Store, view: View, gallery: Photos, composition: Composition, references: Sequence[Reference], options: ComposeOptions, not_yet: int
) -> Ranked:  # fmt: skip
    """Score every photo but the references and their near-duplicates, and sort."""
    rows = view.rows_of(gallery.contents)  # int64 [all], -1 where there is no embedding
    places = np.flatnonzero(rows >= 0)  # int64 [G]
    missing = not_yet + len(gallery.contents) - len(places)
    if not options.with_reference:
        places = places[~near_references(store, view, gallery.contents[places], rows[places], references)]
    rows = rows[places]  # [G]
    usual = usual_of(view, rows, composition)

    def exactly(some: np.ndarray) -> np.ndarray:
        values = [scoring.exact(view.master, rows[some], term.vector) for term in composition.terms]  # J x [K]
        return np.round(composing.combine(composition, values, usual), scoring.DIGITS)  # [K]

    values = [scan_rows(view, rows, term.vector) for term in composition.terms]  # J x [G]
    errors = [scoring.error_bound(view.scales[rows], term.vector) for term in composition.terms]  # J x [G]
    approximate, error = composing.bounded(composition, values, errors, usual)  # [G], [G]
    chosen = options.rank
    order = scoring.order(approximate, error, exactly, lambda some: gallery.paths(places[some]), top=wanted(len(rows), chosen), bottom=chosen.bottom,
                          all_exact=chosen.exact)  # fmt: skip
    return Ranked(at_least(order, chosen.min_score), places, missing)


def at_least(order: scoring.Order, score: float | None) -> scoring.Order:
    """The photos that reach a score, where one is asked for."""
    return order if score is None else order.first(int(np.searchsorted(-order.scores, -score, side="right")))


def scan_rows(view: View, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Approximate projections of some rows, float32 [G]; most of a store is scanned whole, which is faster than picking rows."""
    if len(rows) * 2 < view.rows:
        return scoring.scan(view.small[rows], view.scales[rows], vector)
    return scoring.scan(view.small, view.scales, vector)[rows]


def usual_of(view: View, rows: np.ndarray, composition: Composition) -> composing.Usual:
    """What is usual in this gallery, from at most SAMPLE evenly spaced photos of it."""
    size = len(composition.terms)
    if composition.linear or not len(rows):
        return composing.Usual(np.zeros(size), np.ones(size))
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), composing.SAMPLE)).astype(np.int64)]  # [S]
    return composing.calibrate(composition, view.master[some])


def near_references(store: Store, view: View, contents: np.ndarray, rows: np.ndarray, references: Sequence[Reference]) -> np.ndarray:
    """Tell which photos are a reference, a near-duplicate of one, or of the same burst: bool [G].    contents, rows: int64 [G]."""
    near = np.isin(contents, [one.content for one in references if one.content >= 0])
    for one in references:
        cosines = scan_rows(view, rows, one.embedding)  # [G]
        near |= cosines > (NEAR_MLLM if view.space.backbone.startswith(PREFIX) else NEAR)
        maybe = np.flatnonzero((cosines > BURST) & ~near)
        if one.facts is None or not len(maybe) or (moment := one.facts.moment) is None:
            continue
        facts = store.catalogue.facts(np.unique(contents[maybe]).tolist())
        for place in maybe.tolist():
            other = facts[int(contents[place])]
            near[place] = (then := other.moment) is not None and other.camera == one.facts.camera and abs((then - moment).total_seconds()) <= BURST_SECONDS
    return near


# ---------------------------------------------------------------- the result


def build(view: View, gallery: Photos, ranked: Ranked, composition: Composition, composer: Composer, question: Question) -> Ranking:
    """Put the columns of a `Ranking` together."""
    order, size = ranked.order, len(ranked.places)
    references = tuple(one.path for one in question.references)
    if not size:
        raise NothingToDo(f"no photo is left to search besides {', '.join(references)} and what looks the same", hint="--with-reference searches those, too")
    places = ranked.places[order.index]  # int64 [K]
    rows, details = view.rows_of(gallery.contents[places]), question.options.rank.details
    return Ranking(
        question.wishes[0].text, composer.name, view.space.fingerprint, size, ranked.pending, gallery.paths(places), order.scores,
        percentiles=scoring.percentiles(order.ranks, size), ranks=order.ranks, meaning=composition.meaning,
        explanation=explain(composition, composer, question.references, question.wishes), references=references,
        photo_cosines=cosines(view, rows, composition.photo) if details else None,
        text_cosines=cosines(view, rows, composition.text) if details and composition.text is not None else None,
        truncated=cut_short(view, gallery.contents[places]) if details else None,
    )  # fmt: skip


def cosines(view: View, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """What is reported beside a score: float32 [K].    rows: int64 [K].    vector: float32 [D]."""
    return scoring.exact(view.master, rows, vector).astype(np.float32)


def explain(composition: Composition, composer: Composer, references: Sequence[Reference], wishes: Sequence[Wish]) -> Explanation:
    """Say how the query came about."""
    parse = "; ".join(f"{wish.text!r}: {wish.roles.describe()}" for wish in wishes)
    texts = [f"photo {one.path}" + (f" (weight {one.weight:g})" if one.weight != 1 else "") for one in references]
    texts += [f"text {wish.roles.wanted!r}" + (f" (weight {wish.weight:g})" if wish.weight != 1 else "") for wish in wishes if wish.roles.wanted]
    texts += [f"{'-' if term.sign < 0 else '+'}{term.weight:g} x {term.role} {term.name!r}" for term in composition.terms if term.role in NAMED]
    head = composer.pack.name if composer.pack is not None else ""
    return Explanation(composer.name, f"{composer.rule}; {composition.balance}", parse, tuple(texts), head)


NAMED = ("desired", "forbidden", "changed")


def options_of(values: dict[str, Any]) -> ComposeOptions:
    """Split keyword arguments into a composer's own and those of `rank`."""
    own = {name: values.pop(name) for name in list(values) if name in ComposeOptions.__slots__ and name != "rank"}
    return ComposeOptions(**own, rank=RankOptions(**values))
