"""Instructions that ask a photo for one change, and every photo that shows the result: triplets for composed search.

The subject is the noun that most captions of a photo name. `edits` keep it and change where it is, what it does, what is with it, its colour, or
whether it is one or many; `swaps` put another subject in the same place, company or action. All photos that show the result are right answers.
One change at a time is what people ask for; a sentence of `sentences` tells several differences of one pair, which no other photo may show.
Source: the caption triplets of composition specification 6 (same head noun), with classes of right answers, which are ours.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rankclip.training.generator.facts import named, phrase
from rankclip.training.generator.frames import Frame
from rankclip.training.generator.pairs import SURE, Described
from rankclip.training.generator.words import words

Change = tuple[str, str]  # kind and value, such as ("place", "beach")

MANY_CAPTIONS = 4  # of so many captions, SURE must say a thing
PARTS = frozenset(
    "hand head face foot leg arm mouth eye ear hair body background front back side top air camera photo picture people other one something has".split()
)
SAID = {
    "place": ("{new}", "the same but {new}", "{new} instead of {old}", "but {new}", "{new}, not {old}"),
    "action": ("{new}", "the same but {new}", "{new} instead of {old}", "{new}, not {old}", "but {new}"),
    "with": ("{new}", "the same but {new}", "but {new}", "similar, {new}"),
    "colour": ("a {new} one", "make it {new}", "{new} instead of {old}", "the same but {new}", "in {new}"),
    "count": ("{new}", "{new} of them", "the same but {new}", "{new} instead of {old}"),
}


SWAPPED = ("{new} instead of {old}", "replace the {bare} with {new}", "{new}", "{new}, not {old}", "the same but {new}", "{new} in place of the {bare}")
AROUND = frozenset({"place", "action", "with"})  # what photos of two subjects can have in common


@dataclass(frozen=True, slots=True)
class EditOptions:
    """each: changes of a kind asked of one photo. fewest, most: right answers; what fewer photos show is chance, what more show is too easy."""

    each: int = 3
    fewest: int = 1
    most: int = 150


@dataclass(frozen=True, slots=True)
class Edit:
    """A change asked of one photo. reference, right: positions in the list of photos; the first of `right` is drawn by lot."""

    reference: int
    text: str
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What the captions of a photo say of its subject: change -> words for it, ("place", "beach") -> "on a beach"; and all that they name."""

    name: str
    said: Mapping[Change, str]
    nouns: frozenset[str]


def edits(photos: Sequence[Described], rng: random.Random, options: EditOptions = EditOptions()) -> Iterator[Edit]:
    """Yield changes of each photo in turn, its subject kept.

    >>> photos = [describe("a", ["a dog on a beach"]), describe("b", ["a dog in the snow"])]
    >>> [(edit.reference, edit.right) for edit in edits(photos, random.Random(0))]
    [(0, (1,)), (1, (0,))]
    """
    subjects = [subject_of(photo) for photo in photos]
    shown = _shown(subjects)
    for place, subject in enumerate(subjects):
        for kind in SAID if subject.said else ():
            yield from _of_kind(kind, place, subjects, shown[subject.name], rng, options)


def swaps(photos: Sequence[Described], rng: random.Random, options: EditOptions = EditOptions()) -> Iterator[Edit]:
    """Yield other subjects for each photo in turn, where photos of them are in the same place, company or action.

    >>> photos = [describe("a", ["a dog on a beach"]), describe("b", ["a cat on a beach"])]
    >>> [(edit.reference, edit.right) for edit in swaps(photos, random.Random(0))]
    [(0, (1,)), (1, (0,))]
    """
    subjects = [subject_of(photo) for photo in photos]
    shown = _shown(subjects)
    having: dict[Change, list[str]] = defaultdict(list)  # what is around -> subjects
    for name, changes in shown.items():
        for change in changes:
            having[change].append(name)
    for place, own in enumerate(subjects):
        around = [change for change in own.said if change[0] in AROUND]
        others = sorted({name for change in around for name in having[change]} - own.nouns)
        for name in rng.sample(others, min(options.each, len(others))):
            right = sorted({one for change in around for one in shown[name].get(change, ()) if own.name not in subjects[one].nouns})
            if right and options.fewest <= len(right) <= options.most:
                target = rng.choice(right)
                words_for = {"new": _named(name, photos[target]), "old": _named(own.name, photos[place]), "bare": own.name}
                yield Edit(place, rng.choice(SWAPPED).format(**words_for), (target, *(one for one in right if one != target)))


def _shown(subjects: Sequence[Subject]) -> dict[str, dict[Change, list[int]]]:
    shown: dict[str, dict[Change, list[int]]] = {subject.name: {} for subject in subjects}
    for place, subject in enumerate(subjects):
        for change in subject.said:
            shown[subject.name].setdefault(change, []).append(place)
    return shown


def _named(name: str, photo: Described) -> str:
    return named(name, photo.frame.entities[name])


def _of_kind(kind: str, place: int, subjects: Sequence[Subject], shown: Mapping[Change, list[int]], rng: random.Random, options: EditOptions) -> Iterator[Edit]:
    """Some changes of one kind that other photos of the subject show and this one does not."""
    own = subjects[place]
    old = [said for (known, _), said in own.said.items() if known == kind]
    new = sorted(change for change in shown if change[0] == kind and change not in own.said and change[1] not in own.nouns)
    if not new or (kind != "with" and not old):
        return
    for change in rng.sample(new, min(options.each, len(new))):
        right = shown[change]
        if not options.fewest <= len(right) <= options.most:
            continue
        target = rng.choice(right)
        text = rng.choice(SAID[kind]).format(new=subjects[target].said[change], old=old[0] if old else "")
        yield Edit(place, text, (target, *(one for one in right if one != target)))


def subject_of(photo: Described) -> Subject:
    """The noun that most captions name, of several the one that is named first, and what holds of it; nothing where too few captions agree.

    >>> subject_of(describe("a", ["a brown dog on a beach"])).said
    {('place', 'beach'): 'on a beach', ('colour', 'brown'): 'brown', ('count', 'one'): 'only one'}
    """
    times = {head: entity.times for head, entity in photo.frame.entities.items()}
    name = max(times, key=times.__getitem__, default="")  # frames keep the order of the captions
    enough = SURE if photo.captions >= MANY_CAPTIONS else 1
    said = dict(_holds(name, photo.frame, enough)) if times.get(name, 0) >= enough else {}
    return Subject(name, said, frozenset(times))


def _holds(subject: str, frame: Frame, enough: int) -> Iterator[tuple[Change, str]]:
    """What holds of the subject: where it is, what it does, what is with it, its colour, whether it is one or many."""
    own = frame.entities[subject]
    for room in sorted(frame.scene.get("room", ())):
        yield ("place", room), phrase("room", room)
    for state in sorted(own.state):
        if state.endswith("ing") and own.said[state] >= enough:
            yield ("action", state), state
    for head, prep, thing in sorted(frame.relations):
        if head == subject and thing in frame.entities and frame.entities[thing].times >= enough and thing not in PARTS:
            yield ("with", thing), f"{prep} {named(thing, frame.entities[thing])}"
    if subject not in words("humans") and len(own.colour) == 1:  # the colour of a person is that of clothes, or nobody's business
        yield ("colour", next(iter(own.colour))), next(iter(own.colour))
    if own.count is not None:
        yield ("count", "many" if own.count.low > 1 else "one"), "more than one" if own.count.low > 1 else "only one"
