"""Step 2 of the generator: compare two frames and say what differs, most certain kinds first. Also facts measured on the pixels.

A fact tells what the first photo has (`first`) and what the second has (`second`); `reversed` swaps them, so reverse(reverse(x)) = x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from rankclip.training.generator.frames import Entity, Frame
from rankclip.training.generator.words import article, plural, scale, sections, words

KINDS = ("count", "presence", "attribute", "grade", "action", "scene", "relation")  # order of priority
STRONG = frozenset(KINDS[:4])  # a sentence needs at least one of these
COMPARATIVES = {"size": ("larger", "smaller"), "age": ("older", "younger"), "newness": ("older", "newer")}  # towards higher steps, towards lower ones
GRADED = {"crowded": ("more crowded", "emptier"), "cluttered": ("more cluttered", "tidier"), "messy": ("messier", "tidier"), "dirty": ("dirtier", "cleaner"),
          "wet": ("wetter", "drier"), "sharp": ("sharper", "blurrier"), "ornate": ("more ornate", "plainer")}  # fmt: skip
SCENE_GRADES = {"light": ("brighter", "darker"), "time": ("later in the day", "earlier in the day")}
# facts of the pixels and of the camera: what a higher value is called, and what a lower one
MEASURED = {"luminance": ("brighter", "darker"), "contrast": ("higher in contrast", "lower in contrast"), "saturation": ("more saturated", "less saturated"),
            "colourfulness": ("more colourful", "duller"), "sharpness": ("sharper", "blurrier"), "noise": ("noisier", "cleaner-looking"),
            "hour": ("later in the day", "earlier in the day")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One difference. first, second: what each photo has in the slot, as words; empty where it has nothing.

    kind: one of KINDS. head: the noun it is about, empty for the whole scene. verified: measured, not read from captions.
    """

    kind: str
    head: str
    first: str
    second: str
    slot: str = ""
    verified: bool = False

    def reversed(self) -> Fact:
        """The same difference, seen from the second photo."""
        return replace(self, first=self.second, second=self.first)


def compare(first: Frame, second: Frame) -> list[Fact]:
    """Return what differs between two photos, in order of priority, then by head.

    >>> from rankclip.training.generator.frames import read_captions
    >>> [(fact.kind, fact.first) for fact in compare(read_captions(["two dogs"]), read_captions(["a dog"]))]
    [('count', 'more dogs')]
    """
    facts = [*_entities(first, second), *_scene(first, second), *_relations(first, second)]
    return sorted(facts, key=lambda fact: (KINDS.index(fact.kind), fact.head, fact.slot, min(fact.first, fact.second)))


def shared_heads(first: Frame, second: Frame) -> list[str]:
    return sorted(first.entities.keys() & second.entities.keys())


def _entities(first: Frame, second: Frame) -> Iterator[Fact]:
    for head in sorted(first.entities.keys() | second.entities.keys()):
        one, other = first.entities.get(head), second.entities.get(head)
        if one is None or other is None:
            shown = named(head, one or other or Entity())
            yield Fact("presence", head, shown if one else "", shown if other else "")
        else:
            yield from _shared(head, one, other)


def named(head: str, entity: Entity) -> str:
    """Return how to name some of a thing: "a dog", "dogs", "snow"."""
    return plural(head) if entity.count is not None and entity.count.low > 1 else article(head)


def _shared(head: str, one: Entity, other: Entity) -> Iterator[Fact]:
    if one.count is not None and other.count is not None:
        more, fewer = f"more {plural(head)}", f"fewer {plural(head)}"
        if one.count.low > other.count.high:
            yield Fact("count", head, more, fewer)
        elif other.count.low > one.count.high:
            yield Fact("count", head, fewer, more)
    human = head in words("humans")
    for slot in ("material",) if human else ("colour", "material"):  # the colour of a person is that of clothes, or nobody's business
        mine, theirs = getattr(one, slot), getattr(other, slot)
        if len(mine) == len(theirs) == 1 and mine != theirs:
            yield Fact("attribute", head, next(iter(mine)), next(iter(theirs)), slot)
    yield from _grades(head, one, other, human)
    yield from _actions(head, one, other)


def _grades(head: str, one: Entity, other: Entity, human: bool) -> Iterator[Fact]:
    for slot in ("age",) if human else ("size", "age", "newness"):
        mine, theirs = getattr(one, slot), getattr(other, slot)
        fact = _graded("grade", head, slot, mine, theirs, COMPARATIVES[slot])
        if fact is not None:
            yield fact
    for low, high in (line.split() for line in sections()["gradable"].strip().splitlines()):
        mine, theirs = one.state & {low, high}, other.state & {low, high}
        if len(mine) == len(theirs) == 1 and mine != theirs:
            up, down = GRADED[high]
            yield Fact("grade", head, up if mine == {high} else down, up if theirs == {high} else down, high)


def _graded(kind: str, head: str, slot: str, mine: set[int], theirs: set[int], names: tuple[str, str]) -> Fact | None:
    """A fact where all that is said of one lies above all that is said of the other."""
    if not mine or not theirs:
        return None
    up, down = names
    if min(mine) > max(theirs):
        return Fact(kind, head, up, down, slot)
    return Fact(kind, head, down, up, slot) if min(theirs) > max(mine) else None


def _actions(head: str, one: Entity, other: Entity) -> Iterator[Fact]:
    """What most captions say that one does and the other does not."""
    if one.state & other.state:
        return
    mine, theirs = ([state for _, state in sorted((-entity.said[state], state) for state in entity.state if state.endswith("ing"))] for entity in (one, other))
    if mine and theirs:
        yield Fact("action", head, mine[0], theirs[0], "state")


def _scene(first: Frame, second: Frame) -> Iterator[Fact]:
    for slot, names in SCENE_GRADES.items():
        mine, theirs = ({int(step) for step in frame.scene.get(slot, ())} for frame in (first, second))
        fact = _graded("grade", "", slot, mine, theirs, names)
        if fact is not None:
            yield fact
    for slot in ("place", "room", "season", "weather"):
        mine_said, theirs_said = first.scene.get(slot, set()), second.scene.get(slot, set())
        if len(mine_said) == len(theirs_said) == 1 and mine_said != theirs_said:
            yield Fact("scene", "", phrase(slot, next(iter(mine_said))), phrase(slot, next(iter(theirs_said))), slot)


ON = frozenset("beach street mountain farm road sidewalk court hill pier bridge".split())
BARE = frozenset("snow".split())


def phrase(slot: str, value: str) -> str:
    """Say a value of the scene: "on a beach", "in winter", "rainy"."""
    if slot == "room":
        return f"{'on' if value in ON else 'in'} {value if value in BARE else article(value)}"
    return f"in {value}" if slot == "season" else value


def _relations(first: Frame, second: Frame) -> Iterator[Fact]:
    """Where things are, for a subject that both photos have."""
    for owner in shared_heads(first, second):
        mine = {(prep, thing) for head, prep, thing in first.relations if head == owner}
        theirs = {(prep, thing) for head, prep, thing in second.relations if head == owner}
        for one, other in ((mine, theirs), (theirs, mine)):
            for prep, thing in sorted(one - other):
                if any(thing == seen for _, seen in other):
                    continue
                text = f"{article(owner)} {prep} {named(thing, (first if one is mine else second).entities.get(thing, Entity()))}"
                yield Fact("relation", owner, text if one is mine else "", text if one is theirs else "", thing)


def measured(first: Mapping[str, float], second: Mapping[str, float], gaps: Mapping[str, float], names: Mapping[str, tuple[str, str]] = MEASURED) -> list[Fact]:
    """Return what differs for certain: measurements that lie further apart than the library's 30th and 70th percentile.

    first, second: values by name. gaps: the distance that counts. names: what a higher value is called, and what a lower one; "older|person"
    is about a person, "brighter" about the whole photo.
    """
    facts = []
    for name, (up, down) in names.items():
        distance = first.get(name, float("nan")) - second.get(name, float("nan"))
        if abs(distance) > gaps.get(name, float("inf")):
            up, _, head = up.partition("|")
            down = down.partition("|")[0]
            facts.append(Fact("grade", head, up if distance > 0 else down, down if distance > 0 else up, name, verified=True))
    return facts


TEMPLATE = """a an no more fewer with without is are instead of rather than not and the first second photo while shows in on indoors outdoors was taken visible
difference between there that where one"""


def template_words() -> frozenset[str]:
    """Every word that a sentence may hold without a caption having said it."""
    grades = [*COMPARATIVES.values(), *GRADED.values(), *SCENE_GRADES.values(), *MEASURED.values()]
    found = {word for pair in grades for text in pair for word in text.split()}
    found |= set(TEMPLATE.split())
    return frozenset(found | set(words("weather")) | set(scale("light")))
