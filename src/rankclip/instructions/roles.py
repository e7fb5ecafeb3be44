"""What a change asks for, said of a reference photo: what to add, what to leave out, what to have more of, what to keep.

`read_roles` never refuses a text: what no rule knows is wanted as it stands, and an instruction that asks for no change ("the same")
is `neutral`: it looks for the reference's own neighbours.

This table is the test. Columns: the text, desired, forbidden, comparatives ("first < last", first is what the result should look like),
kept; `;` between several. A row whose second column is `=` is neutral.

    the same but at night | at night |  |  |
    the same but in red | in red |  |  |
    the same dress but blue | blue dress |  |  | dress
    the same dress without the belt |  | belt |  | dress
    same colour, but a handbag | a handbag |  |  | colour
    a pair of track pants in the same colour | a pair of track pants |  |  | colour
    the same person on a beach | on a beach |  |  | person
    make it red | red |  |  |
    change the colour to blue | blue |  |  |
    change it to a maroon shoe | a maroon shoe |  |  |
    turn the car into a bus | a bus | car |  |
    change the dog to a cat | a cat | dog |  |
    is brown, not yellow | brown | yellow |  |
    is red instead of blue | red | blue |  |
    in black instead of beige | black | beige |  |
    a tie instead of a wallet | a tie | wallet |  |
    instead of a dog a cat | a cat | dog |  |
    instead of a dog, show two cats | two cats | dog |  |
    a purple watch instead | a purple watch |  |  |
    is a red top rather than a white dress | a red top | white dress |  |
    replace the watch with a tie | a tie | watch |  |
    swap the grass for sand | sand | grass |  |
    without people |  | people |  |
    no people, please |  | people |  |
    without the hat and without the dog |  | hat; dog |  |
    remove the dog |  | dog |  |
    take away the car in the back |  | car in the back |  |
    minus the cars |  | cars |  |
    the people are no longer there |  | people |  |
    no longer raining |  | raining |  |
    the dog is not there anymore |  | dog |  |
    the sink is not visible |  | sink |  |
    is not looking at the camera |  | looking at the camera |  |
    not very bright |  |  | a dark photo < a bright photo |
    isn't too crowded |  |  | an empty photo < a crowded photo |
    brighter |  |  | a bright photo < a dark photo |
    darker and without people |  | people | a dark photo < a bright photo |
    more people |  |  | many people < no people |
    fewer cars |  |  | no cars < many cars |
    less crowded |  |  | an empty photo < a crowded photo |
    an older man |  |  | an old man < a young man |
    is a bit more colourful |  |  | a colourful photo < a dull photo |
    has longer sleeves and is darker |  |  | long sleeves < short sleeves; a dark photo < a bright photo |
    one more dog | one more dog |  |  |
    only one dog | one dog |  |  |
    keep the dog, but on a beach | on a beach |  |  | dog
    still on the beach, but with a dog | a dog |  |  | on the beach
    keep the background and add a cat | a cat |  |  | background
    shows two people and has a car in the background | two people; a car in the background |  |  |
    has a bag next to her and is not looking at the camera | a bag next to her | looking at the camera |  |
    has the same shape, has Arabic writing on it and the photo is taken at night | Arabic writing on it; at night |  |  | shape
    at night | at night |  |  |
    a photo of a cat | a photo of a cat |  |  |
    four empanadas on a plate | four empanadas on a plate |  |  |
    two children and a dog play in the snow | two children and a dog play in the snow |  |  |
    der gleiche Hund am Strand | der gleiche Hund am Strand |  |  |
    the same | = |  |  |
    exactly the same photo | = |  |  |
    more like this | = |  |  |
    keep everything as it is | = |  |  |
    no change | = |  |  |
    similar photos | = |  |  |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rankclip.instructions.grammar import End, read_end
from rankclip.instructions.lexicon import forms, spelled

PHOTO = r"(?:photos?|pictures?|pics?|images?|shots?|one|thing|subject)"
_THIS = r"(?:it|this|that|these)"
NEUTRAL = re.compile(
    "|".join((
        rf"(?:exactly |just |much |about )?(?:the |this )?(?:very )?same(?: {PHOTO})?(?: again)?",
        r"(?:please )?no changes?(?: at all)?", r"nothing(?: else)?(?: changes| changed)?", "unchanged", "identical",
        rf"(?:(?:keep|leave) (?:{_THIS}|all|everything|the {PHOTO}) ?)?(?:just |exactly )?(?:as {_THIS} is|the same|unchanged)", r"keep (?:it|all|everything)",
        rf"(?:(?:some )?more |something |{PHOTO} )?(?:like|similar to|of) {_THIS}(?: {PHOTO})?", rf"(?:more )?(?:very )?similar(?: {PHOTO})?",
        rf"the {PHOTO} itself",
    ))
)  # fmt: skip
ARTICLE = re.compile(r"^(?:a|an|the|any|some|any of the|all|all of the|all the|of the|its?|his|her|their)\s+", re.I)
LEAD = re.compile(
    r"^(?:(?:please|now|but|and|also|then|just|only|it|they|he|she|there|that|which|who|with|having|i want|a bit|slightly|much|a little)\s+|"
    rf"(?:this|the) {PHOTO}\s+|(?:is|are|be|was|were|has|have|had|shows?|looks?|gets?|becomes?|taken|shot|wears?)\s+(?!(?:from|by|up|like|to|at least)\b)|"
    r"(?:make|turn)s?\s+(?:it|them|this|that|him|her)\s+(?!to\b|into\b)|(?:add|put|show|give|include)\s+(?:(?:it|them|me)\s+)?)",
    re.I,
)
MARKS = (
    r"(?:without|with|no|not|more|less|fewer|keep|still|remove|add|replace|the same|same|has|have|is|are|isn't|aren't|shows?|the photo|make|change|"
    r"instead of)\b"
)
SPLIT = re.compile(rf"\s*[,;.]\s+(?:but |and )?|\s+but\s+|\s+(?:and|or)\s+(?={MARKS}|\w+(?:er|est)\b(?! than))", re.I)
DEGREE = r"(?:very|too|so|that|as|particularly|really)"
HUES = re.compile(
    r"(?:(?:dark|light|navy|bright|pale) )?"
    r"(?:red|green|blue|yellow|orange|purple|pink|brown|black|white|gr[ea]y|gold|golden|silver|beige|maroon|cream)"
)  # fmt: skip
QUALITIES = frozenset(("colour color style shape size pattern pose angle background light type kind position").split())
WHEN = r"night|dusk|dawn|sunset|sunrise|noon|winter|summer|autumn|spring|snow|rain|fog|moonlight|sunlight|sun"
WHERE = (
    r"beach|city|street|forest|mountains?|desert|sea|lake|river|field|park|garden|kitchen|studio|office|room|house|water|grass|background|"
    r"indoors|outdoors"
)
SCENES = re.compile(rf"\b(?:at|by|in|on|under|during|near)\s+(?:the |a |an )?(?:\w+ )?(?:{WHEN}|{WHERE})\b", re.I)
ABOUT = r"colou?rs?|background|type|kind|style|size|number|scene|weather|time|season"  # "change the colour to blue" forbids nothing
THERE = r"(?:there|visible|present|shown|in (?:the )?(?:view|photo|picture|frame))"
NEXT = r"(?:a|an|the|some|two|three|show|make|has|have|is|are)"  # begins the second thing of "instead of a dog a cat"
INSTEAD = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"^(?P<wanted>.+?),? (?:instead of|rather than|in place of) (?P<forbidden>.+)$",
        rf"^instead of (?P<forbidden>(?:(?:a|an|the) )?\S+(?: \S+)??)(?:,|\s(?={NEXT}\b)) ?(?P<wanted>.+)$",
        r"^(?:replace|swap|exchange|substitute)s? (?P<forbidden>.+?) (?:with|by|for) (?P<wanted>.+)$",
    )
)
REMOVE = r"(?:minus|remove[sd]?|delete|drop|get rid of|take away|take out|lose|lacks?|lacking|free of|excluding|except)"
WITHOUT = re.compile(
    r"^(?:(?:but|and|it|they|there|the photo) )*(?:(?:is|are|has|have|with|shows?) )?"
    rf"(?:without|no longer|no|not|isn't|aren't|{REMOVE}|(?:do|does) not (?:have|show)|doesn't (?:have|show)) (?!more\b|changes?\b)"
    r"(?P<what>.+?)(?: any ?more| at all| in view)?$", re.I,
)  # fmt: skip
SAME = re.compile(
    r"^(?:(?:is |are |has |have |show |shows )?(?:of |in |with |from |at )?(?:exactly |just )?(?:the |a )?(?:very )?same)(?: (?P<kept>.+))?$", re.I
)  # fmt: skip
KEEP = re.compile(
    r"^(?:keep|keeps|keeping|leave|still)(?: (?:is|are|has|have|the same))?\s+(?P<kept>.+?)(?: (?:as (?:it|they) (?:is|are)|the same|unchanged))?$", re.I
)  # fmt: skip
WITH = re.compile(
    r"^(?P<kept>.+?)\s+(?P<rest>(?:with|in|on|at|by|under|without|from|near|running|sitting|standing|wearing|holding)\b.+)$", re.I
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """A comparative: the result should be nearer `first` than the reference is, and farther from `last`."""

    first: str
    last: str
    axis: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """What an instruction says about the photo that is looked for."""

    text: str
    desired: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    kept: tuple[str, ...] = ()
    neutral: bool = False  # asks for no change at all
    replaced: tuple[str, ...] = ()  # what is forbidden because something wanted takes its place: "instead of blue"

    @property
    def wanted(self) -> str:
        """What the result should show: the text without what it forbids, keeps or compares; "" when nothing is left."""
        return ", ".join(self.desired)

    @property
    def for_head(self) -> str:
        """What a trained head is told: what is wanted, where the text also forbids or compares; else the whole text.

        Told "in a park, without a dog", a head looks for dogs, as every model of this kind does.

        >>> read_roles("the same but in a park, without a dog").for_head, read_roles("the same but in a park").for_head
        ('in a park', 'the same but in a park')
        """
        return self.wanted if self.forbidden or self.changes else self.text

    @property
    def beside_head(self) -> Roles:
        """What then counts beside its query: what is left out and compared. What is replaced does not: the head sees it in the reference.

        >>> read_roles("red instead of blue, without a dog and darker").beside_head.describe()
        'without: dog; more of: a dark photo rather than a bright photo'
        """
        return Roles(self.text, forbidden=tuple(phrase for phrase in self.forbidden if phrase not in self.replaced), changes=self.changes)

    @property
    def new_scene(self) -> bool:
        """Whether another place or time is asked for: then less of the photo is kept."""
        return any(SCENES.search(phrase) for phrase in self.desired)

    def describe(self) -> str:
        """Say the roles in one line.

        >>> read_roles("the same dress without the belt").describe()
        'without: belt; kept: dress'
        """
        if self.neutral:
            return "no change is asked for: photos like the reference"
        changes = [f"{change.first} rather than {change.last}" if change.last else change.first for change in self.changes]
        rows = (("desired", self.desired), ("without", self.forbidden), ("more of", changes), ("kept", self.kept))
        return "; ".join(f"{name}: {', '.join(phrases)}" for name, phrases in rows if phrases)


@dataclass(slots=True)
class Found:
    """Roles while the clauses of a text are read one after the other."""

    desired: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def want(self, phrase: str) -> None:
        self._add(self.desired, bare(phrase, article=False))

    def forbid(self, phrase: str) -> None:
        self._add(self.forbidden, bare(phrase))

    def replace(self, phrase: str) -> None:
        """Forbid a phrase whose place something wanted takes."""
        self.forbid(phrase)
        self._add(self.replaced, bare(phrase))

    def keep(self, phrase: str) -> None:
        self._add(self.kept, bare(phrase))

    @staticmethod
    def _add(phrases: list[str], phrase: str) -> None:
        if phrase and phrase not in phrases:
            phrases.append(phrase)


def read_roles(text: str) -> Roles:
    """Read what a change asks for; never refuses.

    >>> read_roles("is red instead of blue").forbidden
    ('blue',)
    """
    cleaned = re.sub(r"\b(there|it|that)'s\b", r"\1 is", " ".join(text.replace("’", "'").split())).strip(" .!?,;:")
    if not cleaned or NEUTRAL.fullmatch(cleaned.lower()):
        return Roles(text, neutral=True)
    found = Found()
    for clause in clauses(cleaned):
        read_clause(clause, found)
    if len(found.desired) == 1 and found.kept and HUES.fullmatch(found.desired[0].lower()) and found.kept[0].lower() not in QUALITIES:
        found.desired[0] += f" {found.kept[0]}"  # "the same dress but blue" looks for a blue dress
    roles = Roles(text, tuple(found.desired), tuple(found.forbidden), tuple(found.changes), tuple(found.kept), replaced=tuple(found.replaced))
    if roles.wanted or roles.forbidden or roles.changes:
        return roles
    return Roles(text, kept=roles.kept, neutral=bool(roles.kept)) if roles.kept else Roles(text, (cleaned,))


def clauses(text: str) -> list[str]:
    """Split at commas, "but", and an "and" that begins a new demand.

    >>> clauses("two cats and a dog, but no people and darker")
    ['two cats and a dog', 'no people', 'darker']
    """
    return [clause.strip() for clause in SPLIT.split(text) if clause.strip()]


def bare(phrase: str, *, article: bool = True) -> str:
    """Strip what leads to a noun phrase ("make it", "is", "with"), and its article."""
    phrase = phrase.strip(" ,;.")
    for _ in range(4):
        shorter = LEAD.sub("", phrase)
        if shorter == phrase:
            break
        phrase = shorter
    return ARTICLE.sub("", phrase) if article else phrase


def read_clause(clause: str, found: Found) -> None:
    """Give one clause to the first rule that knows it."""
    for rule in RULES:
        if rule(clause, found):
            return
    found.want(re.sub(r"\s+instead$|^please$|,?\s+please$", "", clause))


# ---------------------------------------------------------------- rules, in the order they are tried

Rule = Callable[[str, Found], bool]


def _polite(clause: str, found: Found) -> bool:
    return clause.lower() in ("please", "thanks", "and", "but")


def _same_and_more(clause: str, found: Found) -> bool:
    """The same X [but|with|in ...]; in the same X; keep X; still X."""
    match = SAME.match(clause)
    if match is None:
        match = KEEP.match(clause)
        if match is not None:
            found.keep(match["kept"])
        return match is not None
    kept = match["kept"] or ""
    inner = WITH.match(kept)
    if inner:
        kept = inner["kept"]
        read_clause(inner["rest"], found)
    if kept and not re.fullmatch(PHOTO, kept.lower()):
        found.keep(kept)
    return True


def _in_the_same(clause: str, found: Found) -> bool:
    """A handbag in the same colour."""
    match = re.match(r"^(?P<wanted>.+?) (?:in|of|with|from|at|on) (?:the|a) same (?P<kept>.+)$", clause, re.I)
    if match is None:
        return False
    read_clause(match["wanted"], found)
    found.keep(match["kept"])
    return True


def _instead(clause: str, found: Found) -> bool:
    """Y instead of X; Y rather than X; instead of X Y; replace X with Y."""
    match = next(filter(None, (form.match(clause) for form in INSTEAD)), None)
    if match is None:
        only = re.match(r"^instead of (?P<forbidden>.+)$", clause, re.I)
        if only is None:
            return False
        found.forbid(only["forbidden"])
        return True
    _want_colour_or_thing(match["wanted"], found)
    found.replace(re.sub(r"^(?:in|on|at|with) (?=(?:a |an |the )?)", "", match["forbidden"], flags=re.I))
    return True


def _want_colour_or_thing(phrase: str, found: Found) -> None:
    """ "in black" beside "instead of beige" is the colour."""
    found.want(re.sub(rf"^in (?={HUES.pattern}$)", "", bare(phrase, article=False), flags=re.I))


def _becomes(clause: str, found: Found) -> bool:
    """Change X to Y, turn X into Y, make X into Y, from X to Y."""
    match = re.match(r"^(?:please )?(?:change|turn|convert|transform)s? (?P<what>.+?) (?:from (?P<forbidden>.+?) )?(?:to|into) (?P<wanted>.+)$", clause, re.I)
    match = match or re.match(r"^(?:please )?makes? (?P<what>.+?)(?P<forbidden>) into (?P<wanted>.+)$", clause, re.I)
    if match is None:
        return False
    found.want(match["wanted"])
    what = bare(match["what"]).lower()
    if match["forbidden"]:
        found.replace(match["forbidden"])
    elif what not in ("it", "them", "this", "that", "") and not re.search(rf"\b(?:{ABOUT})\b", what):
        found.replace(what)
    return True


def _absent(clause: str, found: Found) -> bool:
    """The people are no longer there; the sink is not visible."""
    match = re.match(rf"^(?P<what>.+?) (?:is|are|was|were) (?:no longer|not) {THERE}(?: any ?more)?$", clause, re.I)
    if match is None:
        return False
    found.forbid(match["what"])
    return True


def _not_very(clause: str, found: Found) -> bool:
    """Not very bright, isn't too crowded: the adjective's other end."""
    match = re.match(rf"^(?:(?:it |they )?(?:is|are|looks?) )?(?:not|isn't|aren't) {DEGREE} (?P<word>\S+)$", clause, re.I)
    form = forms().get(spelled(match["word"].lower())) if match else None
    end = read_end(match["word"].lower()) if match and form else None
    if end is None or not end.opposite:
        return False
    found.changes.append(Change(end.opposite, end.text, end.attribute))
    return True


def _without(clause: str, found: Found) -> bool:
    """Without X, no X, not X, remove X, no longer X."""
    match = WITHOUT.match(clause)
    if match is None:
        inner = re.match(r"^(?P<wanted>.+?) (?:without|with no|and no) (?P<what>.+)$", clause, re.I)
        if inner is None:
            return False
        read_clause(inner["wanted"], found)
        found.forbid(inner["what"])
        return True
    found.forbid(match["what"])
    return True


def _comparative(clause: str, found: Found) -> bool:
    """More people, fewer cars, brighter, an older man."""
    phrase = bare(clause).lower()
    if len(phrase.split()) > 5 or re.search(r"\b(?:than|and|or)\b", phrase) or re.match(r"^(?:one|two|three|\d+) (?:more|less|fewer)\b", phrase):
        return False
    end: End | None = read_end(phrase, loose=False)
    if end is None or not end.graded or not end.opposite:
        return False
    found.changes.append(Change(end.text, end.opposite, end.attribute))
    return True


RULES: tuple[Rule, ...] = (_polite, _instead, _becomes, _in_the_same, _same_and_more, _absent, _not_very, _without, _comparative)
