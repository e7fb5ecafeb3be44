"""`rank` with a trained adapter: which head answers, scores for the photos that lack them, the order by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rankclip import scoring
from rankclip.collection import features, subjects
from rankclip.collection.galleries import Embedded
from rankclip.collection.ranking import RankOptions, cut_short, wanted
from rankclip.engines.base import Engine, text_states
from rankclip.errors import ModelError
from rankclip.heads import packs
from rankclip.heads.kernel import FACTS
from rankclip.instructions import Instruction
from rankclip.store.store import Store, View
from rankclip.types import Explanation, Progress, Ranking, Space

if TYPE_CHECKING:
    from rankclip.heads.adapter import Adapter, Match, Task

METHOD = "adapter"
BEHIND = 1e6  # photos without the head's subject come after all others


@dataclass(frozen=True, slots=True)
class Parts:
    """What a ranking needs of its collection."""

    store: Store
    view: View
    photos: Embedded
    embed: scoring.Embed
    engine: Callable[[], Engine]  # text tower, only asked when something is not cached
    progress: Progress
    null: tuple[float, float]  # mean and spread of the cosine between photos and neutral sentences


def find(space: Space, head: str) -> Adapter | None:
    """Return the adapter for a space, if one is installed."""
    found: Adapter | None = packs.opened(packs.suited("adapter", space, head))
    return found


def choose(adapter: Adapter | None, instruction: Instruction, embed: scoring.Embed, options: RankOptions, space: Space) -> Match | None:
    """Return what the adapter makes of the instruction; None leaves it to the other methods.

    Raises ModelError when `--method adapter` is asked for and no adapter, or none of its tasks, fits.
    """
    asked = options.method == METHOD
    if not asked and (options.method != "auto" or options.plus or options.minus or options.low):
        return None
    read = replace(instruction, text=instruction.said or instruction.text)
    match = adapter.match(read, embed) if adapter is not None else None
    if asked and match is None:
        known = ", ".join(task.instruction for task in adapter.tasks) if adapter is not None else ""
        raise ModelError(
            f"no adapter for {space.backbone} knows {instruction.text!r}",
            hint=f"it knows: {known}" if known else "train one: rankclip finetune adapter --data FILE, or use --method direction",
        )
    return match


def rank(adapter: Adapter, match: Match, instruction: Instruction, parts: Parts, options: RankOptions, not_yet: int = 0) -> Ranking:
    """Order the photos by the head's value; those without its subject come last, marked."""
    view, photos, rows = parts.view, parts.photos, parts.photos.rows  # int64 [G]
    scores = cached_scores(adapter, match, parts, rows)  # float32 [G], NaN without patch tokens
    applies = subject_mask(adapter, match, instruction, parts, rows)  # bool [G] or None
    sign = -1.0 if match.ascending else 1.0
    plain = np.where(np.isfinite(scores), sign * scores.astype(np.float64), -2 * BEHIND)
    keys = np.round(plain if applies is None else np.where(applies, plain, plain - BEHIND), scoring.DIGITS)
    index, ranks = placed(keys, photos, options)
    task, known = match.task, bool(match.task.knots)
    missing = int((~np.isfinite(scores)).sum())
    notes = (f"{missing:,} photos have no patch tokens and come last; run: rankclip embed --force PATH...",) if missing else ()
    return Ranking(
        instruction.text, METHOD, view.space.fingerprint, len(rows), not_yet + photos.missing,
        photos.paths(index), plain[index], percentiles=scoring.percentiles(ranks, len(rows)), ranks=ranks,
        values=task.values(scores[index]) if known else None, intervals=task.intervals(scores[index]) if known else None,
        applies=None if applies is None else applies[index], unit=task.unit, meaning=task.name,
        explanation=explain(adapter, match, instruction, applies), notes=notes,
        truncated=cut_short(view, photos.contents(index)) if options.details else None,
    )  # fmt: skip


def explain(adapter: Adapter, match: Match, instruction: Instruction, applies: np.ndarray | None) -> Explanation:
    """Say which head answers and why, and how many photos it does not apply to. applies: bool [G] or None."""
    head = f"{adapter.pack.name} {adapter.pack.card.version}, {adapter.pack.folder}"
    return Explanation(METHOD, subjects.told(match.why, applies), instruction.describe(), (match.text,), head)


def placed(keys: np.ndarray, photos: Embedded, options: RankOptions) -> tuple[np.ndarray, np.ndarray]:
    """Sort photos by a key each, float64 [G], higher first: positions of those that the options let through, and their ranks, int64 [K] twice."""
    index = scoring.sort(keys, photos.places, photos.gallery.paths)  # int64 [G]
    keep = cut(keys[index], options)
    return index[keep], keep + 1


def cut(ordered: np.ndarray, options: RankOptions) -> np.ndarray:
    """Positions of the sorted photos that the options let through, int64."""
    size = len(ordered)
    if options.bottom is not None:
        return np.arange(max(0, size - options.bottom), size)
    count = size if (limit := wanted(size, options)) is None else min(limit, size)
    if options.min_score is not None:
        count = min(count, int((ordered >= options.min_score).sum()))
    return np.arange(count)


def cached_scores(adapter: Adapter, match: Match, parts: Parts, rows: np.ndarray) -> np.ndarray:
    """Scores of some rows of the store, float32 [G]; what is new is computed and kept (NaN marks what was never asked for)."""

    def fresh(lacking: np.ndarray) -> np.ndarray:
        table = features.read(parts.store, parts.view, parts.view.contents[lacking])
        ready = np.flatnonzero((table.token_rows >= 0) | (not adapter.reads_tokens))  # int64 [R]
        found = np.full(len(lacking), np.nan, np.float32)
        if ready.size:
            seen = Seen(lambda some: table.tokens(ready[some]), table.measured[ready], table.pooled[ready])
            found[ready] = fresh_scores(adapter, match.task, match.text, seen, parts.embed, parts.engine, parts.progress)
        return found

    return completed(parts.store, parts.view, score_key(adapter, match.text), rows, fresh)


def completed(store: Store, view: View, key: str, rows: np.ndarray, fresh: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores of some rows of the store that are kept under a key, float32 [G]; those that lack are asked of `fresh` and kept, too.

    rows: int64 [G]. fresh: int64 [L], different rows in order -> float32 [L], NaN where there is no score.
    """
    known = np.full(view.rows, np.nan, np.float32)
    stored = store.cached_scores(view, key)
    known[: len(stored)] = stored
    lacking = np.unique(rows[~np.isfinite(known[rows])])  # int64 [L]
    if len(lacking) and np.isfinite(found := fresh(lacking)).any():
        known[lacking] = found
        store.cache_scores(view, key, known)
    return known[rows]


def score_key(adapter: Adapter, text: str) -> str:
    """Name the cached scores of a head that was asked a text."""
    return f"{METHOD}|{adapter.key}|{text}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a head reads of some photos. tokens: positions [K] -> float32 [K, P, W]. measured: float32 [R, 7 + S]. pooled: float32 [R, D]."""

    tokens: Callable[[np.ndarray], np.ndarray]
    measured: np.ndarray
    pooled: np.ndarray


def fresh_scores(adapter: Adapter, task: Task, text: str, seen: Seen, embed: scoring.Embed, engine: Callable[[], Engine], progress: Progress) -> np.ndarray:
    """Scores of some photos, float32 [R]; a network that has no share in them is not loaded."""
    network = np.zeros(len(seen.pooled), np.float32)
    if adapter.runs_network(task):
        states, mask = adapter.text(text, embed, lambda texts: text_states(engine(), texts))
        progress.start(len(network), "photos")
        network = adapter.scores(seen.tokens, seen.measured[:, :FACTS], seen.pooled, states, mask, progress.advance)
        progress.done()
    return adapter.joined(task, network, seen.pooled, seen.measured)


def subject_mask(adapter: Adapter, match: Match, instruction: Instruction, parts: Parts, rows: np.ndarray) -> np.ndarray | None:
    """Which photos hold what the head is about, or what the instruction names where the head takes any photo: bool [G]; None where neither is known."""
    if not match.task.subject and match.task.subject_z is None:
        return subjects.showing(instruction, parts.store, parts.view, rows, parts.embed, parts.null)
    return adapter.applies(match.task, parts.view.read_embeddings(rows), parts.embed, match.text, parts.null)
