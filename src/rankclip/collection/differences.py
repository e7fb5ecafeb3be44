"""`diff`: what tells two photos apart, which of two is more so, and what sets two folders apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankclip import contrast
from rankclip.collection import adapting, certain, composition
from rankclip.collection.composition import Reference
from rankclip.collection.galleries import Photos, Seen
from rankclip.collection.telling import OFTEN, OWN, SEEN_OF_MANY, Attribute, Looks, attributes, content, folder_statement, tellable
from rankclip.contrast import Sights
from rankclip.errors import InputError, NothingToDo
from rankclip.heads import packs
from rankclip.instructions import Instruction, parse
from rankclip.instructions.grammar import prompts
from rankclip.instructions.lexicon import axes, user_pairs
from rankclip.instructions.vocabulary import Contrast, digest, group_of, nouns, scenes, sights, vocabulary
from rankclip.instructions.vocabulary import contrast as contrast_of
from rankclip.scoring import phrase_embedding
from rankclip.store.store import Store, View
from rankclip.types import PhotoFacts, Silent

if TYPE_CHECKING:
    from rankclip.collection.collection import Collection
    from rankclip.heads.adapter import Adapter, Task
    from rankclip.heads.difference import DifferenceHead

SHOWN = 5  # attributes of a pair
NEAR_DUPLICATE = 0.97  # cosine
FALSE_DISCOVERIES = 0.05  # share of what is told of two folders that may be chance
EXAMPLES = 3  # photos shown for what sets a folder apart
SENSIBLE = 0.1  # standard deviations: a smaller difference of two folders is not worth a line, however certain
PROPOSED = 200  # phrases tested at most, those nearest to photos
ANYTHING = "a photo"  # the other end of what has no opposite: "a photo of a bicycle"


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """attributes: a file of the user's own pairs of opposites. top: attributes told at most. phrases: a file of texts that folders may differ in."""

    attributes: str = ""
    top: int = SHOWN
    phrases: str = ""

    def check(self) -> None:
        if self.top < 1:
            raise InputError(f"--top must be at least 1, got {self.top}")
        if self.attributes and not os.path.isfile(self.attributes):
            raise InputError(f"--attributes {self.attributes}: no such file", hint="lines of two opposites with a tab between: sharp<TAB>blurry")
        if self.phrases and not os.path.isfile(self.phrases):
            raise InputError(f"--phrases {self.phrases}: no such file", hint="one phrase a line: a birthday party")


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells photo a from photo b. answer: "A", "B" or "unclear" to what was asked; empty where nothing was asked and something differs."""

    a: str
    b: str
    cosine: float = 0.0
    near_duplicate: bool = False
    facts: tuple[certain.Fact, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    ask: str = ""
    answer: str = ""
    probability: float | None = None
    method: str = ""
    threshold: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A line of `--pairs`."""

    a: str
    b: str
    ask: str = ""


@dataclass(frozen=True, slots=True)
class GroupTrait:
    """What sets two folders apart. effect: difference of the means in standard deviations, positive where A has more; q: false discovery rate;

    shares: of the photos of A and of B that show what is told.
    """

    name: str
    group: str
    text: str
    more: str
    effect: float
    q: float
    shares: tuple[float, float]
    examples: tuple[str, ...]  # photos of the folder that has more


@dataclass(frozen=True, slots=True)
class FolderDifference:
    """What sets two folders apart, strongest first. tested: how many traits were looked at."""

    a: str
    b: str
    sizes: tuple[int, int]
    tested: int
    traits: tuple[GroupTrait, ...]
    notes: tuple[str, ...] = field(default=())


class Comparer:
    """Compares photos in one space: the vocabulary's axes, their spread in this library, heads, and the photos' features."""

    def __init__(self, collection: Collection, store: Store, view: View, options: DiffOptions) -> None:
        options.check()
        self.collection, self.store, self.view, self.options = collection, store, view, options
        self.embed = collection.text_embedder(store)
        own = tuple(contrast_of(pair) for pair in user_pairs(Path(options.attributes))) if options.attributes else ()
        self.contrasts: tuple[Contrast, ...] = (*vocabulary(), *own)
        self.seen: dict[str, Reference] = {}

    # ------------------------------------------------------------ axes

    @cached_property
    def head(self) -> DifferenceHead | None:
        return find(self.collection)

    def compare(self, texts: list[str]) -> np.ndarray:
        """Read comparing sentences with the difference head, float32 [Q, D]."""
        assert self.head is not None
        return self.collection.comparer(self.store, self.head)(texts)

    def axis(self, one: Contrast) -> np.ndarray:
        """The axis of a contrast, by the head where validation prefers it for the group: float32 [D]."""
        if self.head is not None and one.last != ANYTHING and self.head.prefers(one.group):
            return contrast.compared_axis(one.first, one.last, self.compare)
        return contrast.plain_axis(one.first, one.last, self.embed)

    @cached_property
    def axes(self) -> np.ndarray:
        """All axes, float32 [V, D]; those of the shipped vocabulary come from the head's file, so that no text tower runs."""
        stored = self._stored
        if stored is not None:
            return np.concatenate([stored.vectors, *(self.axis(one)[None] for one in self.contrasts[len(stored.vectors) :])])
        self.embed([text for one in self.contrasts for text in (one.first, one.last)])  # all at once
        return np.stack([self.axis(one) for one in self.contrasts])

    @cached_property
    def _stored(self) -> Any:
        head = self.head
        return head.axes if head is not None and head.config.vocabulary == digest(vocabulary()) else None  # others may lack parts

    @cached_property
    def library(self) -> np.ndarray:
        """Some photos of the store, float32 [at most SAMPLE, D], the same ones every time."""
        return self.view.read_embeddings(contrast.sampled(self.view.rows))

    @cached_property
    def spread(self) -> np.ndarray:
        """Spread of each axis: this library's where it is large enough, else the head's; float32 [V]."""
        if len(self.library) >= contrast.LEAST:
            return contrast.spreads(self.library, self.axes)
        if self._stored is not None:
            known = self._stored.spread
            return np.concatenate([known, np.full(len(self.axes) - len(known), float(np.median(known)), np.float32)])
        return np.full(len(self.axes), float(np.sqrt(2.0 / self.view.space.width)), np.float32)  # of unit vectors at random

    @cached_property
    def sights(self) -> Sights:
        """What photos show of the vocabulary's phrases, and what is usual: in this library where it is large enough, else where the head was trained."""
        stored = self._stored
        if stored is not None:
            vectors = stored.sights
        else:
            self.embed([text for phrase in self.phrases for text in prompts(phrase)])  # all at once
            vectors = np.stack([phrase_embedding(phrase, self.embed) for phrase in self.phrases])
        if len(self.library) >= contrast.LEAST:
            return contrast.sights(vectors, self.library)
        if stored is not None:
            return Sights(vectors, stored.usual, stored.unusual)
        unknown = np.full(len(vectors), 1.0, np.float32)  # nothing is known of other photos: phrases are told by their cosine alone
        return Sights(vectors, 0 * unknown, unknown / 10)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        return sights(vocabulary())

    def looks(self, a: np.ndarray, b: np.ndarray) -> Looks:
        """How visibly photos a and b show each phrase, and which may be told of them.    a, b: float32 [D]."""
        needed = self._stored.needed if self._stored is not None else np.zeros(len(self.phrases), np.float32)
        seen = self.sights.seen(np.stack([a, b]))  # float32 [2, P]
        told = {name: tellable(row, needed) for name, row in zip("AB", seen, strict=True)}
        return Looks({phrase: i for i, phrase in enumerate(self.phrases)}, seen[0], seen[1], told)

    @cached_property
    def threshold(self) -> float:
        """The |z| that similar photos reach by chance."""
        found = contrast.threshold(self.library, self.axes, self.spread) if len(self.library) >= contrast.LEAST else None
        if found is None:
            found = self.head.config.threshold if self.head is not None else 2.5
        return max(contrast.CLEAR, found)

    @cached_property
    def gaps(self) -> Any:
        rows = np.random.default_rng(0).permutation(self.view.rows)[:400]
        known = self.store.catalogue.facts(self.view.contents[np.sort(rows)].tolist()) if len(rows) else {}
        return certain.gaps(list(known.values()), contrast.LEAST)

    # ------------------------------------------------------------ two photos

    def photo(self, path: str) -> Reference:
        """Read a photo's features, from the store where they are there. Raises InputError."""
        if path not in self.seen:
            if os.path.isdir(path):
                raise InputError(f"{path}: a folder, where a photo is needed", hint="two folders are compared as wholes: rankclip diff FOLDER_A FOLDER_B")
            if not os.path.lexists(path):
                raise InputError(f"{path}: no such photo")
            self.seen[path] = composition.read_reference(self.collection, self.store, self.view, path, 1.0, role="each of the two")
        return self.seen[path]

    def difference(self, first: str, second: str, ask: str = "") -> Difference:
        """Compare two photos. Raises InputError for a photo that cannot be read, or a question without two ends."""
        question = asked(ask) if ask else None
        a, b = self.photo(first), self.photo(second)
        same = os.path.realpath(first) == os.path.realpath(second) or (a.content >= 0 and a.content == b.content)
        cosine = float(a.embedding @ b.embedding)
        if same:
            return Difference(first, second, cosine, True, ask=ask, answer="unclear", probability=0.5 if ask else None, notes=("both are the same photo",))
        attributes = self.attributes(a, b)
        found = certain.facts(a.facts, b.facts, self.gaps)
        answer, probability, method = self.answer(question, a, b) if question is not None else ("" if attributes else "unclear", None, "")
        return Difference(first, second, cosine, cosine > NEAR_DUPLICATE, tuple(found), tuple(attributes), ask, answer, probability, method, self.threshold)

    def attributes(self, a: Reference, b: Reference) -> list[Attribute]:
        """What differs clearly, strongest first: values read by trained heads, then the vocabulary."""
        z = contrast.z_scores(a.embedding, b.embedding, self.axes, self.spread)  # [V]
        valued = adapter_values(self, a, b)
        taken = set(certain.AXES) if certain.measured_both(a.facts, b.facts) else set()
        groups = {one.group for one in valued}
        free = [i for i, one in enumerate(self.contrasts) if one.name not in taken and one.group not in groups]
        contrasts = [self.contrasts[i] for i in free]
        told = attributes(contrasts, z[free], self.looks(a.embedding, b.embedding), least=self.threshold, count=self.options.top)
        return [*valued, *told][: max(self.options.top, len(valued))]

    def answer(self, question: Instruction, a: Reference, b: Reference) -> tuple[str, float, str]:
        """Answer which photo is nearer the question's first end: A, B or unclear, with the probability that it is A."""
        by_head = self.head is not None and self.head.prefers(group_of(question.attribute.removeprefix("-")))
        if by_head:
            axis = contrast.compared_axis(question.first, question.last, self.compare)
        else:
            axis = contrast.plain_axis(question.first, question.last, self.embed)
        sample = self.library if len(self.library) >= contrast.LEAST else None
        spread = contrast.spreads(sample, axis[None]) if sample is not None else np.array([np.sqrt(2.0 / len(axis))], np.float32)
        z = float(contrast.z_scores(a.embedding, b.embedding, axis[None], spread)[0])
        slope = 1.0 if self.head is None else self.head.config.slope if by_head else self.head.config.plain_slope
        p = contrast.probability(z, slope)
        return "unclear" if max(p, 1 - p) < contrast.UNSURE else "A" if p > 0.5 else "B", p, "difference" if by_head else "direction"

    # ------------------------------------------------------------ two folders

    def proposed(self, photos: np.ndarray) -> list[Contrast]:
        """What folders may differ in beside the vocabulary: everyday nouns, and the scenes and phrases of the user that are nearest to some photo.

        photos: float32 [N, D], of both folders.
        """
        found = [alone(noun, f"a photo of {noun}", f"shows more {noun}") for noun in nouns()]
        found += [alone(text, text, f"more often shows {text}") for text in self._near(scenes(), photos)]
        own = own_phrases(Path(self.options.phrases)) if self.options.phrases else []
        return [*found, *(Contrast(text, OWN, text, ANYTHING, *(f"is more like {text!r}",) * 2, True) for text in self._near(own, photos))]

    def _near(self, texts: Sequence[str], photos: np.ndarray) -> list[str]:
        if not texts:
            return []
        embed = self.embed if len(texts) <= PROPOSED else self.collection.text_engine.encode_texts  # a store is no place for a file of captions
        vectors = embed(list(texts))  # [P, D]
        return [texts[place] for place in contrast.nearest(vectors, photos, PROPOSED)]

    def folders(self, names: tuple[str, str], galleries: tuple[Photos, Photos]) -> FolderDifference:
        """Find what sets two sets of photos apart."""
        rows = [self.view.rows_of(gallery.contents) for gallery in galleries]
        for name, found in zip(names, rows, strict=True):
            if not (found >= 0).any():
                raise NothingToDo(f"{name}: no photos found", hint="give two folders that hold photos")
        sides = [self.view.read_embeddings(found[found >= 0]) for found in rows]  # [N, D], [M, D]
        self.contrasts = (*self.contrasts, *self.proposed(np.concatenate(sides)))
        result = contrast.apart(sides[0], sides[1], self.axes)
        phrases, known = self._known(np.concatenate(sides))
        shares = Looks({phrase: i for i, phrase in enumerate(phrases)}, *((known.seen(side) >= SEEN_OF_MANY).mean(axis=0) for side in sides))
        said = [folder_statement(one, float(effect), shares) for one, effect in zip(self.contrasts, result.effect, strict=True)]
        sure = (result.q <= FALSE_DISCOVERIES) & (np.abs(result.effect) >= SENSIBLE)
        traits: list[GroupTrait] = []
        words: set[str] = set()
        for place in contrast.strongest(np.where(sure, [one.strength for one in said], 0.0), [one.name for one in self.contrasts], OFTEN, len(said)):
            one, told = self.contrasts[place], said[place]
            if len(traits) == self.options.top or (content(told.text) & words and one.group != OWN):
                continue
            words |= content(told.text)
            side, seen = "AB".index(told.side), shares.places[told.phrase]
            turned = one.two_things and told.phrase == one.last
            name, effect = one.last if turned else one.name, round(float(result.effect[place]) * (-1 if turned else 1), 3)
            examples = self._examples(galleries[side], rows[side], known.vectors[seen])
            traits.append(GroupTrait(name, one.group, told.text, "A" if effect > 0 else "B", effect, float(result.q[place]),
                                     (round(float(shares.a[seen]), 4), round(float(shares.b[seen]), 4)), examples))  # fmt: skip
        return FolderDifference(names[0], names[1], (len(sides[0]), len(sides[1])), len(self.contrasts), tuple(traits))

    def _known(self, photos: np.ndarray) -> tuple[tuple[str, ...], Sights]:
        """The phrases of all contrasts, the user's own and the proposed ones too, with what is usual of them.    photos: float32 [N, D], of both folders."""
        others = tuple(phrase for phrase in sights(self.contrasts) if phrase not in self.phrases and phrase != ANYTHING)
        more = contrast.sights(
            np.stack([phrase_embedding(phrase, self.embed) for phrase in others]), self.library if len(self.library) >= contrast.LEAST else photos
        )
        parts = [(getattr(self.sights, name), getattr(more, name)) for name in ("vectors", "usual", "spread")]
        return (*self.phrases, *others), Sights(*(np.concatenate(part) for part in parts))

    def _examples(self, gallery: Photos, rows: np.ndarray, axis: np.ndarray) -> tuple[str, ...]:
        places = np.flatnonzero(rows >= 0)
        scores = self.view.read_embeddings(rows[places]) @ axis
        best = places[np.argsort(-scores, kind="stable")[:EXAMPLES]]
        return tuple(gallery.paths(best))


def asked(text: str) -> Instruction:
    """Read a question such as "which is older?". Raises InputError where it has not two ends."""
    found = parse(text)
    if not found.two_ended:
        raise InputError(f"--ask {text!r} does not say what to compare by", hint='for example: --ask "which is older?", or "from dark to bright"')
    return found


def find(collection: Collection) -> DifferenceHead | None:
    """Return the difference head for a collection's space, if one is installed."""
    found: DifferenceHead | None = packs.opened(packs.suited("difference", collection.backbone.space, collection.settings.head))
    return found


def adapter_values(comparer: Comparer, a: Reference, b: Reference) -> list[Attribute]:
    """What trained adapters read from both photos, where the values differ by more than their 80 % intervals; counts are not told of whatever is there."""
    adapter = adapting.find(comparer.view.space, comparer.collection.settings.head)
    seen = [one.features.tokens for one in (a, b) if one.features.tokens is not None]
    measured = certain.AXES if certain.measured_both(a.facts, b.facts) else ()  # what the pixels tell needs no guess
    if adapter is None or (adapter.reads_tokens and len(seen) < 2):
        return []
    pooled = np.stack([a.embedding, b.embedding])  # [2, D]
    found = []
    for task in adapter.tasks:
        if task.open or task.log2 or not task.knots or parse(task.instruction).attribute.removeprefix("-") in measured:
            continue
        applies = adapter.applies(task, pooled, comparer.embed, task.instruction, comparer.collection.backbone.null)
        if applies is not None and not applies.all():
            continue
        scores = task_scores(comparer, adapter, task, a, b)
        values, intervals = task.values(scores), task.intervals(scores)
        distance = float(values[0] - values[1])
        if abs(distance) > float((intervals[:, 1] - intervals[:, 0]).max()) / 2:
            found.append(_valued(task, distance))
    return found


def task_scores(comparer: Comparer, adapter: Adapter, task: Task, a: Reference, b: Reference) -> np.ndarray:
    """What a head reads from both photos, float32 [2]: from the scores that rankings keep, where both photos are in the store."""

    def fresh() -> np.ndarray:
        tokens = [one.features.tokens for one in (a, b) if one.features.tokens is not None]
        both = np.concatenate(tokens) if len(tokens) == 2 else np.zeros((2, 1, 1), np.float32)  # [2, P, W]
        seen = adapting.Seen(lambda some: both[some], measured_of(a, b), np.stack([a.embedding, b.embedding]))
        return adapting.fresh_scores(adapter, task, task.instruction, seen, comparer.embed, lambda: comparer.collection.text_engine, Silent())

    rows = comparer.view.rows_of(np.array([a.content, b.content])) if min(a.content, b.content) >= 0 else np.array([-1, -1])
    if (rows < 0).any():
        return fresh()
    key = adapting.score_key(adapter, task.instruction)
    return adapting.completed(comparer.store, comparer.view, key, rows, lambda lacking: fresh()[[rows.tolist().index(row) for row in lacking]])


def _valued(task: Any, distance: float) -> Attribute:
    """ "A is older by about 12 years": the task's own words for more."""
    question = parse(task.instruction)
    name = question.attribute.removeprefix("-") or task.name
    pair = axes().get(name)
    more = "A" if distance > 0 else "B"
    text = f"{more} {contrast_of(pair).more if pair else f'has more {name}'} by about {abs(distance):.0f} {task.unit}".rstrip()
    return Attribute(name, pair.group if pair else name, text, more, 0.0, round(distance, 2), task.unit)


def measured_of(a: Reference, b: Reference) -> np.ndarray:
    """Pixel facts and stages of two photos, float32 [2, 7 + S]; without stages where one of them has none."""
    facts = np.array([_pixels(one.facts) for one in (a, b)], np.float32)
    stages = [one.features.stages for one in (a, b) if one.features.stages is not None]
    return np.concatenate([facts, np.concatenate(stages)], axis=1) if len(stages) == 2 else facts


def _pixels(facts: PhotoFacts | None) -> tuple[float, ...]:
    from dataclasses import astuple

    from rankclip.collection.features import NO_FACTS

    return astuple(facts.pixels if facts is not None and facts.pixels is not None else NO_FACTS)


# ---------------------------------------------------------------- doors


@contextmanager
def opened(collection: Collection, options: DiffOptions) -> Iterator[Comparer]:
    """Open the store for reading (an empty one is made where there is none) and give a comparer."""
    with ExitStack() as stack:
        if not Store.exists(collection.folder):
            Store.open(collection.folder, write=True).close()
        store = stack.enter_context(Store.open(collection.folder))
        yield Comparer(collection, store, store.view(collection.backbone.space), options)


def folders(collection: Collection, a: str, b: str, options: DiffOptions, *, scan: bool = True) -> FolderDifference:
    """Compare two folders that do not overlap: the vocabulary, everyday nouns, near captions, and the user's own pairs and phrases are tested."""
    one, other = (os.path.join(os.path.realpath(path), "") for path in (a, b))
    if one.startswith(other) or other.startswith(one):
        raise InputError(f"{a} and {b}: one folder holds the other", hint="give two folders that have no photo in common")
    with collection.opened(scan=scan) as (store, view, gallery):
        everything = np.arange(len(gallery.contents))
        shown = gallery.paths(everything)
        ours = [np.array([path.startswith(os.path.join(name, "")) for path in shown], bool) for name in (a, b)]
        sides = [Seen(gallery.contents[mine], [path for path, here in zip(shown, mine, strict=True) if here]) for mine in ours]
        return Comparer(collection, store, view, options).folders((a, b), (sides[0], sides[1]))


def alone(name: str, phrase: str, told: str) -> Contrast:
    """A contrast without an opposite."""
    return Contrast(name, name, phrase, ANYTHING, told, told, True)


def own_phrases(path: Path) -> list[str]:
    """Read a file of phrases. Raises InputError."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"--phrases {path}: not UTF-8 text", hint="one phrase a line: a birthday party") from error


def pairs(collection: Collection, wanted: Iterable[Pair], options: DiffOptions) -> Iterator[Difference]:
    """Compare many pairs, in order; a photo that cannot be read gives an `error`, and the stream goes on."""
    with opened(collection, options) as comparer:
        for one in wanted:
            try:
                yield comparer.difference(one.a, one.b, one.ask)
            except InputError as error:
                yield Difference(one.a, one.b, ask=one.ask, error=error.message)
