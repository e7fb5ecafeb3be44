"""Step 1 of the generator: read captions into a frame, what is in the photo and what the captions say about it.

Shallow chunking with closed word lists; a noun is the last word of a run of [determiner] [number] [describing words] [nouns] that ends
before a preposition, a verb or a comma. What cannot be read is left out: a frame that says less is better than one that is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rankclip.training.generator.words import EMPTY_STATES, Range, is_plural, numbers, scale, sections, singular, state_of, verbs, words

TOKEN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|[,;:.!?]")
COLOUR_NAMES = {"gray": "grey", "golden": "gold"}
MANY = 99


@dataclass(slots=True)
class Entity:
    """What captions say about one kind of thing. Slots are empty where nothing was said."""

    count: Range | None = None
    colour: set[str] = field(default_factory=set)
    size: set[int] = field(default_factory=set)
    age: set[int] = field(default_factory=set)
    newness: set[int] = field(default_factory=set)
    material: set[str] = field(default_factory=set)
    state: set[str] = field(default_factory=set)
    times: int = 0  # captions that name it
    said: Counter[str] = field(default_factory=Counter)  # captions that say each state

    def add(self, other: Entity) -> None:
        """Take in what another caption says."""
        if other.count is not None:
            self.count = other.count if self.count is None else self.count.joined(other.count)
        for name in ("colour", "size", "age", "newness", "material", "state"):
            getattr(self, name).update(getattr(other, name))
        self.times += 1
        self.said.update(other.state)


@dataclass(slots=True)
class Frame:
    """What is in a photo. scene: slot -> values; place: "indoors" or "outdoors"; light and time: steps of their scales."""

    entities: dict[str, Entity] = field(default_factory=dict)
    relations: set[tuple[str, str, str]] = field(default_factory=set)
    scene: dict[str, set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entities or self.scene)


def read_captions(captions: Iterable[str]) -> Frame:
    """Return the union of the frames of a photo's captions.

    >>> frame = read_captions(["Two brown dogs run on the beach."])
    >>> sorted(frame.entities), frame.entities["dog"].count, frame.entities["dog"].colour, frame.entities["dog"].state
    (['beach', 'dog'], Range(low=2, high=2), {'brown'}, {'running'})
    """
    whole = Frame()
    for caption in captions:
        found = read_caption(caption)
        for head, entity in found.entities.items():
            whole.entities.setdefault(head, Entity()).add(entity)
        whole.relations |= found.relations
        for slot, values in found.scene.items():
            whole.scene.setdefault(slot, set()).update(values)
    return whole


def read_caption(caption: str) -> Frame:
    """Read one caption."""
    reader = _Reader(tokens(caption))
    reader.read()
    frame = Frame(reader.entities, reader.relations)
    _read_scene(frame, reader.tokens)
    return frame


def tokens(caption: str) -> list[str]:
    """Split a caption into lower-case words and marks.

    >>> tokens("A man's T-shirt , red.")
    ['a', 'man', 't-shirt', ',', 'red', '.']
    """
    return TOKEN.findall(re.sub(r"['’]s?\b", "", caption.lower()))


def _read_scene(frame: Frame, found: Sequence[str]) -> None:
    """Fill the scene from single words, wherever they stand."""
    everything = set(found) | set(frame.entities) | {singular(word) for word in found}
    for slot in ("light", "time"):
        steps = {str(scale(slot)[word]) for word in everything if word in scale(slot)}
        if steps:
            frame.scene[slot] = steps
    for slot, name in (("seasons", "season"), ("weather", "weather")):
        values = {canonical(word) for word in everything & words(slot)} - {"fall"}  # "fall" is a verb more often than a season
        if values:
            frame.scene[name] = values
    inside, outside = everything & words("indoor"), everything & words("outdoor")
    inside |= everything & {"indoors", "inside"} if not outside else set()
    outside |= everything & {"outdoors"}
    if bool(inside) != bool(outside):
        frame.scene["place"] = {"indoors" if inside else "outdoors"}
    rooms = {word for word in frame.entities if word in words("places")}
    if len(rooms) == 1:
        frame.scene["room"] = rooms


WEATHER = {"raining": "rainy", "rain": "rainy", "snowing": "snowy", "fog": "foggy", "mist": "misty", "storm": "stormy", "haze": "hazy"}


def canonical(word: str) -> str:
    return WEATHER.get(word, word)


class _Reader:
    """Walks over a caption's words, gathering runs that end in a noun."""

    def __init__(self, found: list[str]) -> None:
        self.tokens = found
        self.entities: dict[str, Entity] = {}
        self.relations: set[tuple[str, str, str]] = set()
        self.subject = ""  # who does what a later verb says
        self.last = ""  # the noun just read
        self.preposition = ""  # between the last noun and the next
        self.loose = False  # the last noun hangs on a preposition or a verb, so a verb after it is the subject's
        self._begin()

    def _begin(self) -> None:
        self.run: list[str] = []  # describing words
        self.nouns: list[str] = []
        self.count: Range | None = None
        self.determined = False
        self.collective = False  # the number just read is a word like "group"

    def read(self) -> None:
        for place, word in enumerate(self.tokens):
            self._step(word, self.tokens[place + 1] if place + 1 < len(self.tokens) else "")
        self._end_run()

    def _step(self, word: str, following: str) -> None:
        if not word[0].isalnum():
            self._end_run()
            if word in ".!?;":
                self.subject = ""
            self.loose = False
        elif word == "of" and self.collective:
            self.collective = False  # "a group of dogs": the collective is the number of what follows
        elif word in numbers() and not self.nouns:
            self._number(word, following)
        elif word in words("determiners"):
            self._end_run()
            self.determined = True
        elif word in words("conjunctions") or word in words("pronouns"):
            self._conjunction(word, following)
        elif word in words("prepositions"):
            self._end_run()
            self.preposition = word
        elif self._is_verb(word, following):
            self._verb(word)
        else:
            self._describe_or_name(word)

    def _number(self, word: str, following: str) -> None:
        if not (self.run or (self.determined and word not in ("a", "an"))):
            self._end_run(keep=True)
        self.determined, self.count, self.collective = True, numbers()[word], word in words("collectives")

    def _conjunction(self, word: str, following: str) -> None:
        joins_colours = word == "and" and self.run and not self.nouns and _describes(following)
        if joins_colours:
            return
        self._end_run()
        self.loose = False
        if word in ("while", "as", "when", "that", "who") or word not in ("and", "or"):
            self.preposition = ""
        if word in ("while", "when") or (word == "as" and following in words("determiners") | set(numbers())):
            self.subject = ""

    def _is_verb(self, word: str, following: str) -> bool:
        state = state_of(word)
        if not state:
            return False
        known = verbs().get(word)
        which = known.which if known else "ing"
        if not self.nouns:  # nothing named yet: "a running dog", "a park", "jumping over"
            if self.collective:  # "a crowd watches"
                return True
            opened = self.determined or bool(self.run) or (bool(self.preposition) and which != "ing" and not (self.preposition == "to" and which == "base"))
            return not opened or (which == "ing" and (not following or following in words("prepositions") | words("determiners")))
        if which == "base":  # "a bike race" but "dogs race"
            return is_plural(self.nouns[-1]) and (self.determined or len(self.nouns) == 1) and _ends_clause(following)
        return which in ("s", "ing", "ed")

    def _verb(self, word: str) -> None:
        known = verbs().get(word)
        which, state = (known.which if known else "ing"), state_of(word)
        self._end_run()
        actor = self.subject if self.loose or not self.last else self.last
        if which != "ed" and state not in EMPTY_STATES and actor in self.entities:
            self.entities[actor].state.add(state)
        if not self.loose and self.last and state != "being":
            self.subject = self.last
        self.loose = self.loose or state != "being"
        self.preposition = "" if state != "being" else self.preposition

    def _describe_or_name(self, word: str) -> None:
        if _describes(word):
            if self.nouns:
                self._end_run()
            self.run.append(word)
        elif word.isalpha() or "-" in word:
            self.nouns.append(word)

    def _end_run(self, *, keep: bool = False) -> None:
        """Close the run. keep: what comes now goes on with it, so that a preposition before it still counts."""
        if self.nouns:
            self._name(self.nouns[-1])
        elif self.run and not keep and self.last and not self.determined and not self.preposition:  # "the car is red"
            self._describe(self.entities.get(self.last), self.run)
        self._begin()

    def _name(self, noun: str) -> None:
        head = singular(noun)
        colours = [word for word in self.nouns[:-1] if word in words("colours")]
        if head in words("ignored") or len(head) < 3 or head in words("colours") or head in words("colour_modifiers"):
            self.loose = True
            return
        count = self.count
        if count is not None and count.high == 0:  # "no dogs"
            return
        entity = self.entities.setdefault(head, Entity())
        if is_plural(noun):
            count = count if count is not None and count.high > 1 else Range(2, MANY)
        elif self.determined and noun not in words("not_plural"):
            count = count if count is not None and count.high <= 1 else Range(1, 1)
        elif not self.determined:
            count = None
        self._count(entity, count)
        self._describe(entity, [*self.run, *colours])
        if self.preposition in words("relations") and self.last and (self.last != head):
            owner = self.subject if self.loose and self.subject else self.last
            if owner != head:
                self.relations.add((owner, self.preposition, head))
        self.loose = bool(self.preposition) or self.loose
        self.last = head if not self.loose else self.last or head
        if not self.subject:
            self.subject = head
        self.preposition = ""

    @staticmethod
    def _count(entity: Entity, count: Range | None) -> None:
        """A second mention in one caption may be the same one or one more: "a brown dog chases a black dog"."""
        if count is None:
            return
        if entity.count is None:
            entity.count = count
        else:
            entity.count = Range(min(entity.count.low, count.low), min(MANY, entity.count.high + count.high))

    def _describe(self, entity: Entity | None, run: Sequence[str]) -> None:
        if entity is None:
            return
        for word in run:
            if word in words("colours"):
                entity.colour.add(COLOUR_NAMES.get(word, word))
            for slot, section in (("size", "sizes"), ("age", "ages"), ("newness", "newness")):
                if word in scale(section):
                    getattr(entity, slot).add(scale(section)[word])
            if word in words("materials"):
                entity.material.add(word)
            if word in words("states"):
                entity.state.add(word)
            elif word.endswith("ing") and state_of(word) and state_of(word) not in EMPTY_STATES:
                entity.state.add(state_of(word))


_DESCRIBING = ("colours", "colour_modifiers", "colour_mixed", "coloured_endings", "sizes", "ages", "newness", "light", "materials", "states", "adjectives")


def _describes(word: str) -> bool:
    """Tell whether a word describes rather than names."""
    if any(word in words(section) for section in _DESCRIBING if section in sections()) or word in words("weather"):
        return True
    if word in words("not_verbs") or word in words("places"):
        return False
    known = verbs().get(word)
    return word.endswith("-ed") or (known is not None and known.which in ("ing", "ed")) or (word.endswith(("ing", "ed")) and len(word) > 5)


def _ends_clause(following: str) -> bool:
    if not following or not following[0].isalnum() or following in numbers():
        return True
    return any(following in words(section) for section in ("prepositions", "determiners", "conjunctions", "pronouns", "adjectives"))
