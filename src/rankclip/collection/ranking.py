"""`rank`: choose the method, make the query, score the gallery, put the result together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rankclip import scoring
from rankclip.backbones.specs import Backbone
from rankclip.backbones.tokens import encode, is_truncated
from rankclip.collection.galleries import Embedded, Photos
from rankclip.errors import InputError, ModelError
from rankclip.instructions import PLAIN, Instruction, dates
from rankclip.instructions.languages import language
from rankclip.instructions.spelling import slips
from rankclip.instructions.vocabulary import group_of
from rankclip.registry import METHODS, check_name, resolve
from rankclip.scoring import Order, Query
from rankclip.settings import DEFAULT_MODEL
from rankclip.store.store import Store, View
from rankclip.types import Explanation, Ranking

if TYPE_CHECKING:
    from rankclip.heads.difference import DifferenceHead

BEHIND = 8.0  # taken from the scores of photos that do not show what is asked about: more than any two differ by


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What `Collection.rank` can be asked for besides the instruction."""

    method: str = "auto"
    top: int | None = None
    bottom: int | None = None
    min_percentile: float | None = None
    min_score: float | None = None
    exact: bool = False
    details: bool = True  # cosines, too; plain paths do without them
    plus: Sequence[str] = ()
    minus: Sequence[str] = ()
    low: str = ""  # a photo that should come late, and one that should come early: they turn the axis
    high: str = ""

    def check(self) -> None:
        if self.method != "auto":
            check_name(METHODS, self.method, what="method")
        for name, value in (("--top", self.top), ("--bottom", self.bottom)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if bool(self.low) != bool(self.high):
            raise InputError("--low and --high go together", hint="one photo that shows little of it, and one that shows much")
        for name, photo in (("--low", self.low), ("--high", self.high)):
            if photo and not os.path.isfile(photo):
                raise InputError(f"{name} {photo}: no such photo", hint="--low and --high each name one photo")
        if self.low and os.path.samefile(self.low, self.high):
            raise InputError(f"--low and --high name the same photo: {self.low}", hint="one photo that shows little of it, and one that shows much")
        if self.min_percentile is not None and not 0 <= self.min_percentile <= 100:
            raise InputError(f"--min-percentile must be from 0 to 100, got {self.min_percentile:g}")
        if self.bottom is not None and not (self.top is self.min_percentile is self.min_score is None):
            raise InputError("--bottom cannot be combined with --top, --min-percentile or --min-score")


@dataclass(frozen=True, slots=True)
class Choice:
    """A method and the sentence that says why it was taken."""

    method: str
    rule: str


def choose(instruction: Instruction, method: str, head: DifferenceHead | None = None) -> Choice:
    """Resolve `auto`: two ends or a comparative -> the difference head where validation prefers it, else direction; anything else -> similarity.

    Raises InputError when a method that compares is asked for and the instruction has one end only, ModelError when its head is missing.
    """
    if method == "difference" and head is None:
        raise ModelError("--method difference needs a difference head for this model", hint="train one: rankclip finetune difference --captions FILE")
    if method == "date" and instruction.attribute != dates.ATTRIBUTE:
        raise InputError(f"method date: {instruction.text!r} does not ask when photos were taken", hint='for example "newest photos first"')
    if method in ("direction", "difference") and not instruction.two_ended:
        raise InputError(
            f"method {method} needs two ends, and {instruction.text!r} names one", hint='for example "from dark to bright", or --method similarity'
        )
    if method != "auto":
        return Choice(method, f"--method {method}")
    if instruction.two_ended and head is not None and head.prefers(group_of(instruction.attribute.removeprefix("-"))):
        return Choice("difference", f"the instruction has two ends ({instruction.rule}), and head {head.pack.name} reads them better")
    if instruction.two_ended:
        return Choice("direction", f"the instruction has two ends ({instruction.rule})")
    return Choice("similarity", "no second end was named" if instruction.rule != PLAIN else "taken as a plain sentence")


def make_query(
    choice: Choice, instruction: Instruction, embed: scoring.Embed, terms: Sequence[tuple[float, np.ndarray, str]], head: DifferenceHead | None = None,
    compare: scoring.Embed | None = None,
) -> Query:  # fmt: skip
    """Turn an instruction into a query. compare: the head's reading of sentences, where it is remembered; else the head reads them now."""
    make: Callable[..., Any] = resolve(METHODS, choice.method, what="method")
    reader = head if choice.method == "difference" else None
    query: Query = make(instruction, embed) if reader is None else make(instruction, embed, compare or reader.embedder(embed), reader.key)
    return scoring.shifted(query, terms)


def rank_gallery(
    store: Store, view: View, photos: Embedded, query: Query, options: RankOptions, not_yet: int = 0, shown: np.ndarray | None = None
) -> Ranked:  # fmt: skip
    """Score and sort. not_yet: photos that were found but could not be embedded now. shown: bool [G], the others come last."""
    rows = photos.rows  # int64 [G]
    approximate, error = approximate_scores(store, view, rows, query)
    behind = np.zeros(len(rows)) if shown is None else np.where(shown, 0.0, BEHIND)  # float64 [G]

    def exactly(some: np.ndarray) -> np.ndarray:
        return scoring.exact(view.master, rows[some], query.vector) - behind[some]

    top = wanted(len(rows), options)
    order = scoring.order(approximate - behind, error, exactly, photos.paths, top=top, bottom=options.bottom, all_exact=options.exact)
    if options.min_score is not None:
        order = order.first(int(np.searchsorted(-order.scores, -options.min_score, side="right")))
    order = replace(order, scores=np.round(order.scores + behind[order.index], scoring.DIGITS))
    return Ranked(order, photos.places, not_yet + photos.missing, None if shown is None else shown[order.index])


def wanted(size: int, options: RankOptions) -> int | None:
    """How many photos to return: the smaller of `top` and what `min_percentile` lets through."""
    limits = [options.top] if options.top is not None else []
    if options.min_percentile is not None:
        limits.append(math.floor((100 - options.min_percentile) / 100 * max(1, size - 1)) + 1)
    return min(limits) if limits else None


def approximate_scores(store: Store, view: View, rows: np.ndarray, query: Query) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some rows from their int8 form, and how far they can be off: float32 [G] twice. Whole scans are cached and extended."""
    error = scoring.error_bound(view.scales, query.vector)
    if len(rows) * 8 < view.rows:  # a small folder in a large store
        return scoring.scan(view.small[rows], view.scales[rows], query.vector), error[rows]
    scores = store.cached_scores(view, query.key)
    if len(scores) < view.rows:
        fresh = scoring.scan(view.small[len(scores) :], view.scales[len(scores) :], query.vector)
        scores = np.concatenate([scores, fresh])
        store.cache_scores(view, query.key, scores)
    return scores[rows], error[rows]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A sorted gallery: the order, the gallery position of each embedded photo (int64 [G]), and how many photos have no embedding."""

    order: Order
    places: np.ndarray
    pending: int
    applies: np.ndarray | None = None  # bool [K]


def build(instruction: Instruction, choice: Choice, query: Query, view: View, gallery: Photos, ranked: Ranked, *, details: bool = True) -> Ranking:
    """Put the columns of a `Ranking` together."""
    order, size = ranked.order, len(ranked.places)
    positions = ranked.places[order.index]
    rows = view.rows_of(gallery.contents[positions])
    cosines = scoring.exact(view.master, rows, query.cosine).astype(np.float32) if details else None
    truncated = cut_short(view, gallery.contents[positions]) if details else None
    return Ranking(
        instruction.text, choice.method, view.space.fingerprint, size, ranked.pending, gallery.paths(positions), order.scores,
        cosines=cosines, percentiles=scoring.percentiles(order.ranks, size), ranks=order.ranks,
        applies=ranked.applies, truncated=truncated, meaning=query.meaning,
        explanation=Explanation(choice.method, choice.rule, instruction.describe(), query.texts),
    )  # fmt: skip


def cut_short(view: View, contents: np.ndarray) -> np.ndarray | None:
    """Tell which photos are embedded only in part, because their files are cut short: bool [K]; None where no photo is.    contents: int64 [K]."""
    return np.isin(contents, view.truncated) if len(view.truncated) else None


def doubts(text: str, backbone: Backbone) -> list[str]:
    """Say what may go wrong in an instruction before it is read: it is too long, in another language, or misspelt."""
    return too_long(text, backbone) + (unread(text, backbone) or misspelt(text))


def too_long(text: str, backbone: Backbone) -> list[str]:
    """Say that the model does not read all of an instruction; nothing where it does."""
    if not is_truncated(text, context=backbone.context):
        return []
    return [f"the instruction is longer than the {backbone.context - 2} tokens that {backbone.name} reads; its end is ignored"]


def misspelt(text: str) -> list[str]:
    """Name words that are probably slips for words that an order hangs on. What the tokenizer knows as a whole is a word."""
    found = {word: meant for word, meant in slips(text).items() if len(encode(word)) > 1}
    return [f"{word!r} is taken as it stands; if you mean {meant!r}, say so" for word, meant in found.items()]


def unread(text: str, backbone: Backbone) -> list[str]:
    """Say that an instruction is in a language that the bundled model was never shown; nothing for other models, which may read it."""
    found = language(text) if backbone.name == DEFAULT_MODEL else ""
    return [f"the instruction seems to be {found}, and {backbone.name} reads English only: this order means little; say it in English"] if found else []
