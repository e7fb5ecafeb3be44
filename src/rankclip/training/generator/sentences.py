"""Step 3 of the generator: render facts as sentences, in three families.

(i) symmetric: "The first photo shows more dogs, while the second shows fewer dogs."
(ii) delta: "more dogs, no car, darker"
(iii) instruction: "a photo with more dogs and no car"; composition training reads these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rankclip.training.generator.facts import Fact
from rankclip.training.generator.words import article

FAMILIES = ("symmetric", "delta", "instruction")
FACTS = 2  # at most so many a sentence
TOKENS = 40  # BPE tokens at most
SAME = {"symmetric": "There is no visible difference between the first photo and the second.", "delta": "no visible difference",
        "instruction": "a photo with no visible difference"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """What the first photo has and the second has not, as text."""

    text: str
    family: str
    facts: tuple[Fact, ...]

    def reversed(self) -> Sentence:
        """The sentence for the same photos in the other order."""
        return render(tuple(fact.reversed() for fact in self.facts), self.family)


def render(facts: Sequence[Fact], family: str) -> Sentence:
    """Say some facts in one sentence; no facts: that nothing differs.

    >>> render([Fact("count", "dog", "more dogs", "fewer dogs"), Fact("presence", "car", "", "a car")], "instruction").text
    'a photo with more dogs and no car'
    """
    if not facts:
        return Sentence(SAME[family], family, ())
    if family == "symmetric":
        one, other = (" and ".join(_clause(fact, side) for fact in facts) for side in (True, False))
        return Sentence(f"The first photo {one}, while the second {other}.", family, tuple(facts))
    if family == "delta":
        return Sentence(", ".join(_delta(fact) for fact in facts), family, tuple(facts))
    return Sentence(_instruction(facts), family, tuple(facts))


def _be(head: str) -> str:
    return "are" if article(head) == head else "is"


def absent(shown: str) -> str:
    """Say that a thing is not there: "no car" for "a car", "no snow", "no dogs"."""
    bare = shown.split(" ", 1)[1] if shown.startswith(("a ", "an ")) else shown
    return f"no {bare}"


def _clause(fact: Fact, first: bool) -> str:
    """What one photo shows, as the end of "The first photo ..."."""
    value, other = (fact.first, fact.second) if first else (fact.second, fact.first)
    match fact.kind:
        case "count":
            return f"shows {value}"
        case "presence" | "relation":
            return f"shows {value}" if value else f"shows {absent(other)}"
        case "attribute" | "action":
            return (
                f"shows the {fact.head} {value}" if fact.kind == "action" else f"shows a {value} {fact.head}".replace(" a o", " an o").replace(" a i", " an i")
            )
        case "grade" if fact.head:
            return f"shows {_a(value)} {fact.head}"
        case "grade" if fact.slot == "time":
            return f"was taken {value}"
    return f"is {value}"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _delta(fact: Fact) -> str:
    match fact.kind:
        case "presence":
            return f"with {fact.first}" if fact.first else f"without {fact.second}"
        case "relation":
            return fact.first or absent(fact.second)
        case "attribute":
            return f"the {fact.head} {_be(fact.head)} {fact.first} instead of {fact.second}"
        case "action":
            return f"the {fact.head} {fact.first} rather than {fact.second}"
        case "scene":
            return f"{fact.first}, not {fact.second}"
        case "grade" if fact.head:
            return f"{_a(fact.first)} {fact.head}"
    return fact.first


def _instruction(facts: Sequence[Fact]) -> str:
    """ "a darker photo with more dogs and no car": what a person would ask for."""
    things = [_thing(fact) for fact in facts if fact.kind in ("count", "presence", "attribute", "relation") or (fact.kind == "grade" and fact.head)]
    rest = [f"where the {fact.head} {_be(fact.head)} {fact.first} and not {fact.second}" if fact.kind == "action" else _delta(fact)
            for fact in facts if fact.kind in ("action", "scene")]  # fmt: skip
    looks = [fact.first for fact in facts if fact.kind == "grade" and not fact.head]
    text = "a photo"
    if looks:
        text += f" that is {' and '.join(looks)}"
    if things:
        text += f" with {' and '.join(things)}"
    for one in rest:  # "a photo indoors, not outdoors", "a photo that is darker, indoors, not outdoors"
        text += f" {one}" if text == "a photo" or one.startswith("where ") else f", {one}"
    return text


def _thing(fact: Fact) -> str:
    match fact.kind:
        case "attribute":
            return f"{_a(fact.first)} {fact.head} instead of {_a(fact.second)} one"
        case "grade":
            return f"{_a(fact.first)} {fact.head}"
    return fact.first or absent(fact.second)


def short_enough(sentence: Sentence) -> bool:
    """Tell whether both the sentence and its reverse stay within `TOKENS`."""
    from rankclip.backbones.tokens import END, tokenize

    ids = tokenize([sentence.text, sentence.reversed().text])  # int64 [2, T]
    return bool(((ids == END).argmax(axis=1) - 1).max() <= TOKENS)


def choice(key: str, count: int, salt: str = "") -> int:
    """Choose one of `count`, the same on every machine: a hash, not a random generator.

    >>> choice("a|b", 3) == choice("a|b", 3)
    True
    """
    return int.from_bytes(hashlib.blake2b(f"{salt}|{key}".encode(), digest_size=8).digest(), "big") % count
