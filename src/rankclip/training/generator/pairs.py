"""Steps 4 to 6 of the generator: which pairs, which facts of each, what is left out, and the balance.

Every sentence comes with its reverse, so each grade word occurs as often for the first photo as for the second. The same input gives the
same sentences on every machine: choices are hashes of the pair's names and draws of a seeded generator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rankclip.training.generator.facts import MEASURED, STRONG, Fact, compare, measured, shared_heads
from rankclip.training.generator.frames import Frame, read_captions, tokens
from rankclip.training.generator.sentences import FACTS, FAMILIES, Sentence, choice, render, short_enough
from rankclip.training.generator.words import lemma

OVERLAP = 0.9  # share of words in common above which captions tell of the same
CLOSE = 0.97  # cosine of near-duplicates: nothing a caption says can be meant to differ
HEAD_SHARE = 0.02  # of all sentences that one head may have
SAME_SHARE = 0.05  # of all pairs that may be near-duplicates, told as such
SURE = 2  # captions that must name a thing before its absence elsewhere counts, where there are three or more


@dataclass(frozen=True, slots=True)
class Described:
    """A photo as the generator sees it. key: its name. values: measurements by name, for verified facts."""

    key: str
    frame: Frame
    words: frozenset[str]
    values: Mapping[str, float] = field(default_factory=dict)
    captions: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One sentence about a pair: a and b are positions in the list of photos, the text tells how a differs from b."""

    a: int
    b: int
    sentence: Sentence

    def reversed(self) -> Told:
        return Told(self.b, self.a, self.sentence.reversed())


@dataclass(frozen=True, slots=True)
class PairOptions:
    """count: pairs to look at. each: sentences a pair at most. families, kinds: what may be said and how. banned: words no sentence may hold."""

    count: int = 20_000
    each: int = 2
    seed: int = 0
    families: tuple[str, ...] = FAMILIES
    kinds: frozenset[str] | None = None
    banned: frozenset[str] = frozenset()
    verified: bool = True


def describe(key: str, captions: Sequence[str], values: Mapping[str, float] | None = None) -> Described:
    """Read a photo's captions."""
    return Described(key, read_captions(captions), frozenset(lemma(word) for caption in captions for word in tokens(caption) if word[0].isalnum()),
                     values or {}, len(captions))  # fmt: skip


def gaps(photos: Sequence[Described], names: Mapping[str, tuple[str, str]] = MEASURED) -> dict[str, float]:
    """Return the distance between the 30th and the 70th percentile of each measurement over the library."""
    found = {}
    for name in names:
        values = np.array([photo.values[name] for photo in photos if name in photo.values])
        values = values[np.isfinite(values)]
        if len(values) >= 10:
            found[name] = float(np.percentile(values, 70) - np.percentile(values, 30))
    return found


def facts_between(a: Described, b: Described, distances: Mapping[str, float] | None = None, names: Mapping[str, tuple[str, str]] = MEASURED) -> list[Fact]:
    """Return every fact that may be said of a pair: those of the captions that are sure enough, then the verified ones."""
    found = [fact for fact in compare(a.frame, b.frame) if fact.kind != "presence" or _sure(fact, a if fact.first else b)]
    return found + (measured(a.values, b.values, distances, names) if distances else [])


def _sure(fact: Fact, where: Described) -> bool:
    return where.captions < 3 or where.frame.entities[fact.head].times >= SURE


def comparable(a: Described, b: Described, facts: Sequence[Fact]) -> bool:
    """Tell whether a pair is worth a sentence: something is shared, something strong differs, and the captions are not the same."""
    if not any(fact.kind in STRONG for fact in facts):
        return False
    if any(fact.verified for fact in facts):
        return True
    if not shared_heads(a.frame, b.frame) and not any(fact.kind == "scene" or (fact.kind == "grade" and not fact.head) for fact in facts):
        return False
    joined = a.words | b.words
    return bool(joined) and len(a.words & b.words) / len(joined) <= OVERLAP


def tell(a: Described, b: Described, facts: Sequence[Fact], options: PairOptions) -> list[Sentence]:
    """Say some of a pair's facts, a first; the family and the facts are chosen by the pair's names, the same for (b, a) reversed.

    Returns at most `options.each` sentences; an empty list where nothing may be said.
    """
    said: list[Sentence] = []
    pair, swapped = "|".join(sorted((a.key, b.key))), a.key > b.key
    allowed = [fact for fact in facts if options.kinds is None or fact.kind in options.kinds]
    allowed = sorted(
        (fact.reversed() for fact in allowed) if swapped else allowed, key=lambda fact: choice(f"{pair}|{fact.kind}|{fact.head}|{fact.slot}", 1 << 30)
    )
    for number in range(options.each):
        size = 1 + choice(pair, FACTS, f"size{number}")
        some, allowed = allowed[:size], allowed[size:]
        if not some:
            break
        sentence = render(some, options.families[choice(pair, len(options.families), f"family{number}")])
        if short_enough(sentence) and not any(word in options.banned for text in (sentence.text, sentence.reversed().text) for word in tokens(text)):
            said.append(sentence.reversed() if swapped else sentence)
    return said


Cosine = Callable[[int, int], float]  # positions of two photos -> the cosine of their embeddings


def generate(photos: Sequence[Described], options: PairOptions = PairOptions(), cosine: Cosine | None = None,
             names: Mapping[str, tuple[str, str]] = MEASURED) -> Iterator[Told]:  # fmt: skip
    """Yield sentences about pairs of photos, each followed by its reverse.

    Train, validation and test photos must be told apart before: give each part its own list.
    """
    distances = gaps(photos, names) if options.verified else {}
    heads: Counter[str] = Counter()
    limit = max(20, int(HEAD_SHARE * options.count * options.each))
    same = 0
    for place, (one, other) in enumerate(propose(photos, options)):
        a, b = photos[one], photos[other]
        if cosine is not None and cosine(one, other) > CLOSE:
            if same < SAME_SHARE * (place + 1):
                same += 1
                told = Told(one, other, render((), options.families[choice("|".join(sorted((a.key, b.key))), len(options.families))]))
                yield from (told, told.reversed())
            continue
        facts = facts_between(a, b, distances, names)
        if not comparable(a, b, facts):
            continue
        for sentence in tell(a, b, facts, options):
            about = [fact.head or fact.slot for fact in sentence.facts]
            if any(heads[head] >= limit for head in about if not sentence.facts[0].verified):
                continue
            heads.update(about)
            told = Told(one, other, sentence)
            yield from (told, told.reversed())


def propose(photos: Sequence[Described], options: PairOptions) -> Iterator[tuple[int, int]]:
    """Yield different pairs of positions, most of them with a head in common (a third at random, for scenes)."""
    rng = np.random.default_rng(options.seed)
    by_head: dict[str, list[int]] = {}
    for place, photo in enumerate(photos):
        for head in sorted(photo.frame.entities):
            by_head.setdefault(head, []).append(place)
    heads = [head for head in sorted(by_head) if len(by_head[head]) > 1]
    weights = _weights(by_head, heads)
    seen: set[tuple[int, int]] = set()
    for number in range(options.count if len(photos) > 1 else 0):
        among: Sequence[int] = by_head[heads[int(np.searchsorted(weights, rng.random()))]] if heads and number % 3 else range(len(photos))
        one, other = (among[int(i)] for i in rng.integers(0, len(among), 2))
        key = (min(one, other), max(one, other))
        if one != other and key not in seen:
            seen.add(key)
            yield one, other


def _weights(by_head: Mapping[str, list[int]], heads: Sequence[str]) -> np.ndarray:
    """Cumulative weights of the heads, float64 [H]: between "as often as it occurs" and "every head alike"."""
    raw = np.sqrt([len(by_head[head]) for head in heads])
    return np.cumsum(raw / max(raw.sum(), 1e-12))
