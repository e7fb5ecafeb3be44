"""Instruction text -> `Instruction`: which photos come first, which last, and by what.

The grammar is small on purpose and written out in docs/instructions.md. A form that it does not know is a plain sentence: never an
error, and `rule` says so. The only errors are an empty instruction and a two-ended form with one end missing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass, replace

from rankclip.errors import InstructionError
from rankclip.instructions import dates
from rankclip.instructions.lexicon import PHOTOS, Form, axes, forms, opposites, pairs, spelled

LONGEST_PHRASE = 6  # words; a longer text is a sentence and gets no template
TEMPLATES = ("a photo of {}", "{}", "a picture of {}")
PLAIN = "plain sentence"

_COMPOUNDS = {"high quality": "high-quality", "low quality": "low-quality", "high resolution": "high-resolution", "low resolution": "low-resolution",
              "out of focus": "out-of-focus", "in focus": "focused"}  # fmt: skip
PEOPLE = frozenset(
    (
        "people person persons faces face men man women woman children child kids boys girls boy girl adults ladies guys portraits babies family members "
        "friends actors players "
    ).split()
)  # fmt: skip
_LIVING = PEOPLE | frozenset(("dogs cats animals horses dog cat animal birds ").split())
_MASS = frozenset(("food hair water snow light weather furniture clothing grass sand ice rain smoke fur music art fruit traffic noise clutter ").split())
_HUES = frozenset(("red green blue yellow orange purple pink brown black white grey golden ").split())  # no opposite worth the name
PHOTO_GROUPS = frozenset({"quality", "light", "composition"})  # these describe the photo, not the thing in it
_POLITE = re.compile(r"^(?:(?:please|can you|could you|would you|i want to|i want|i'd like to|i would like to|i'd like|i would like|let's)\s+)+", re.I)
_SORT = re.compile(r"^(?:sort|order|rank|arrange|put|show|list|give me|get me|find)(?:\s+|\s*:\s*)(?:(?:me|all|the|my|these|them|it)\s+)*", re.I)
_ORDERING = re.compile(r"^(?:sort|order|rank|arrange)\b", re.I)
_SEARCH = re.compile(r"^(?:show me|give me|get me|find(?: me)?|search for|look for|see)\s+(?P<what>.+)$", re.I)
_PHOTOS_OF = re.compile(rf"^(?:the |my |all )*{PHOTOS}(?: (?:of|with|from|showing))? ?", re.I)
_VERBS = frozenset(
    (
        "is are was were be been has have had does do did can will shows show wears wear holds hold sits sit stands stand looks look runs run rides "
        "ride plays play makes make gets get goes go comes come takes take jumps jump walks walk eats eat drinks drink smiles smile talks talk "
        "holding wearing sitting standing looking running riding playing walking eating jumping smiling talking swimming climbing leads lies flies "
        "fly add remove change replace "
    ).split()
)  # fmt: skip
_ARTICLES = frozenset(("a an the this that these those some my our ").split())
_PLURALS = frozenset(("people children men women sheep fish geese mice teeth feet deer faces ").split())
_QUESTION = re.compile(r"^(?:which|who|what)\s+(?P<subject>.*?)\s*\b(?:is|are|looks?|has|have|shows?)\b\s+(?P<rest>.+)$", re.I)
_DEGREES = frozenset(("most fewest least none few many more lots lowest highest ").split())
_HIGH = frozenset(["highest", "most", "best", "first", "descending", "biggest", "largest", "top"])
_LOW = frozenset(["lowest", "least", "worst", "fewest", "last", "ascending", "smallest", "bottom"])
_COUNT = r"(?:\d+|two|three|four|five|six|ten|twenty)"
_DEGREE = "very|really|super|extremely|truly|quite"
_EXTREME = {"high": "highest", "low": "lowest", "many": "most", "few": "fewest"}
_REWRITTEN = tuple((re.compile(pattern), plain) for pattern, plain in (
    (r"\b1st\b", "first"), (r"\bdesc\b", "descending"), (r"\basc\b", "ascending"),
    (r"\b(?:highest|best|higher|better)[ -](quality|resolution)\b", r"most high-\1"), (r"\b(?:lowest|worst|lower)[ -](quality|resolution)\b", r"most low-\1"),
    (rf"^(?:the )?(?:(?:top|first) )?{_COUNT} (?=(?:\w+est|best|worst|most|least)\b)", ""),  # how many is what --top says
    (rf"^(?:the )?(\w+est|best|worst|(?:most|least) \w+) {_COUNT} ", r"\1 "),
))  # fmt: skip
PEOPLE_AXES = frozenset({"age", "seniority", "maturity"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a text asks for. `first` and `last` describe the photos at both ends; one of them may be empty."""

    text: str
    rule: str
    first: str
    last: str = ""
    attribute: str = ""  # name of the axis, "" where there is none
    ascending: bool = False  # the attribute's low values come first
    subject: str = ""
    said: str = ""  # the same said plainly, where the text has words that a trained head does not read: "top 5", "not"

    @property
    def two_ended(self) -> bool:
        return bool(self.first and self.last)

    def describe(self) -> str:
        """Say how the text was understood, in one line."""
        if self.rule == PLAIN:
            return f"taken as a plain sentence: {self.first!r}"
        ends = f"first {self.first!r}, last {self.last!r}" if self.two_ended else f"first {self.first!r}" if self.first else f"last {self.last!r}"
        about = f"; attribute: {self.attribute}{' (low first)' if self.ascending else ''}" if self.attribute else ""
        return f"{ends}{about}; rule: {self.rule}"


@dataclass(frozen=True, slots=True)
class End:
    """One end of an order: its text, the other end's text, and what changes between them."""

    text: str
    opposite: str = ""
    attribute: str = ""
    positive: bool = True
    subject: str = ""
    graded: bool = False  # a comparative or superlative said so


def parse(text: str) -> Instruction:
    """Understand an instruction. See the table in `rankclip.instructions` for what becomes what.

    Raises InstructionError for an empty text or a two-ended form with one end missing.

    >>> parse("older faces first").last
    'young faces'
    """
    cleaned = " ".join(text.split())
    if not cleaned.isascii() and any("\ud800" <= character <= "\udfff" for character in cleaned):  # bytes of another encoding than the terminal's
        raise InstructionError("the instruction is not valid UTF-8", hint="set the terminal's and the locale's encoding to UTF-8")
    if not cleaned.strip(string.punctuation + " "):
        raise InstructionError("the instruction is empty", text=text, hint='say what should come first, for example "older faces first"')
    body = _plainer(cleaned)
    for rule in RULES:
        found = rule(body, text)
        if found is not None:
            return _said(found, cleaned)
    return Instruction(text, PLAIN, cleaned)


def _said(found: Instruction, cleaned: str) -> Instruction:
    """Add the plain way of saying it where the text has a number, a negation, or another word for first."""
    loose = found.rule == "not X" or cleaned.lower().startswith("which") or any(pattern.search(cleaned.lower()) for pattern, _ in _REWRITTEN)
    plain = loose and found.two_ended and found.attribute and not found.attribute.startswith("number of")
    return replace(found, said=f"{found.first} first") if plain else found


def _plainer(cleaned: str) -> str:
    """Write the many ways of saying a thing as one: without courtesies and the verb of sorting, "1st" as first, "(oldest first)" as ", oldest first".

    >>> _plainer('Could you sort these by age (youngest first), please?'), _plainer("top 5 sharpest photos"), _plainer("by size, big to small")
    ('by age, youngest first', 'sharpest photos', 'by size, big first')
    """
    body = re.sub(r",?\s+(?:please|thanks|thank you|for me)$", "", cleaned.strip("\"'“”‘’ ").rstrip(" .!?").lower())
    body = _SORT.sub("", _POLITE.sub("", body))
    body = re.sub(r"\s*\(([^()]+)\)$", r", \1", body).replace(": ", ", ").replace("; ", ", ")
    for loose, compound in _COMPOUNDS.items():
        body = body.replace(loose, compound)
    for pattern, plain in _REWRITTEN:
        body = pattern.sub(plain, body)
    ranged = re.match(r"^(?P<axis>(?:.* )?by [^,]+?),? (?:from )?(?P<first>\S+) to (?P<last>\S+)$", body)  # by size, big to small
    if ranged and _gradable([ranged["first"]]) and _gradable([ranged["last"]]):
        body = f"{ranged['axis']}, {_EXTREME.get(ranged['first'], ranged['first'])} first"
    return re.sub(rf"\b(?:{_DEGREE}) (?=(\S+))", lambda match: "" if spelled(match[1]) in forms() else match[0], body)


def prompts(phrase: str) -> list[str]:
    """Return the texts to embed for one end: templates around a noun phrase, a sentence as it is.

    >>> prompts("old faces")
    ['a photo of old faces', 'old faces', 'a picture of old faces']
    >>> prompts("a dog is running on the beach")
    ['a dog is running on the beach']
    """
    words = phrase.lower().split()
    if len(words) > LONGEST_PHRASE or any(word in _VERBS for word in words) or re.match(rf"^(?:a |an |the )?(?:\S+ )*?{PHOTOS}\b", phrase, re.I):
        return [phrase]
    return [template.format(phrase) for template in TEMPLATES]


# ---------------------------------------------------------------- phrases


def read_end(phrase: str, subject: str = "", *, loose: bool = True) -> End | None:
    """Read "oldest faces", "faces, oldest", "most people", "old" or (if `loose`) any short noun phrase."""
    phrase = phrase.strip(" ,;.")
    photos = _PHOTOS_OF.match(phrase)
    words = [spelled(word) for word in re.split(r"[\s,]+", phrase[photos.end() :] if photos else phrase) if word]
    if not words:
        return None
    return _read_graded(words, subject) or _read_adjective(words, subject) or (_read_noun(words, subject) if loose else None)


def _read_graded(words: list[str], subject: str) -> End | None:
    """Read "most crowded beaches", "fewest people", "older faces", "faces older"."""
    words = [word for i, word in enumerate(words) if not (i == 0 and word in ("the", "a", "an"))]
    if not words:
        return None
    if words[0] in ("most", "more", "least", "less", "fewest", "fewer") and len(words) > 1:
        up = words[0] in ("most", "more")
        form = forms().get(words[1])
        if form is not None and form.degree == "base" and words[0] not in ("fewest", "fewer"):
            return _adjective_end(form, up, _join(words[2:]) or subject, graded=True)
        if words[0] in ("fewest", "fewer") or (_is_plural(words[-1]) and len(words) <= 4):
            return _count_end(_join(words[1:]), up)
        thing = _join(words[1:])
        if not up and words[-1] in _MASS:
            return End(f"no {thing}", thing, "", True, subject, graded=True)
        return End(f"{'' if up else 'not '}{thing}", "", "", True, subject, graded=True) if len(words) <= 4 else None
    for place in (0, -1):
        form = forms().get(words[place])
        if form is not None and form.degree != "base":
            rest = words[1:] if place == 0 else words[:-1]
            return _adjective_end(form, True, _join(rest) or subject, graded=True)
    return None


def _read_adjective(words: list[str], subject: str) -> End | None:
    form = forms().get(words[0])
    return _adjective_end(form, True, _join(words[1:]) or subject) if form is not None and form.degree == "base" else None


def _read_noun(words: list[str], subject: str) -> End | None:
    phrase = _join(words)
    return End(phrase, opposites().get(phrase, ""), phrase if phrase in opposites() else "", True, subject) if len(words) <= LONGEST_PHRASE else None


def _adjective_end(form: Form, same: bool, subject: str, *, graded: bool = False) -> End:
    subject = _subject(subject)
    if form.pair.axis == "age" and subject and not set(subject.split()) & _LIVING:
        newer = forms()["new"]  # a car is new, not young
        form = Form(newer.pair, not form.positive, form.degree)
    first, last = (form.word, form.opposite) if same else (form.opposite, form.word)
    opposite = "" if form.word in _HUES and not graded else _with(last, subject, form)
    return End(_with(first, subject, form), opposite, form.pair.axis if opposite else "", form.positive == same, subject, graded)


def _with(adjective: str, subject: str, form: Form) -> str:
    article = "an" if adjective[0] in "aeiou" else "a"
    if not subject:
        return f"{article} {adjective} {'person' if form.pair.axis in PEOPLE_AXES else 'photo'}"
    if form.pair.group in PHOTO_GROUPS:
        return f"{article} {adjective} photo of {_one(subject)}"
    single = not _is_plural(subject.split()[-1]) and subject.split()[-1] not in _MASS
    return f"{article} {adjective} {subject}" if single else f"{adjective} {subject}"


def _one(subject: str) -> str:
    return subject if _is_plural(subject.split()[-1]) else f"a {subject}"


def _count_end(noun: str, up: bool) -> End:
    noun = _subject(noun)
    many, few = f"many {noun}", f"no {noun}"
    return End(many if up else few, few if up else many, f"number of {noun}", up, noun, graded=True)


def _subject(subject: str) -> str:
    """Strip "photos of" and articles: "photos of the dog" -> "dog"."""
    subject = _PHOTOS_OF.sub("", subject.strip(" ,"))
    words = subject.split()
    while words and words[0] in ("the", "of", "with", "my"):
        words = words[1:]
    return " ".join(words)


def _is_plural(word: str) -> bool:
    return word in _PLURALS or (word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3)


def _join(words: list[str]) -> str:
    return " ".join(words)


def _ordered(text: str, rule: str, end: End, *, reverse: bool = False) -> Instruction:
    """Make an instruction whose first photos are `end` (last photos, if reversed)."""
    if not reverse:
        return Instruction(text, rule, end.text, end.opposite, end.attribute, bool(end.attribute) and not end.positive, end.subject)
    return Instruction(text, rule, end.opposite, end.text, end.attribute, bool(end.attribute) and end.positive, end.subject)


# ---------------------------------------------------------------- rules, in the order they are tried


def _dated(body: str, text: str) -> Instruction | None:
    """Newest photos of the dog first; by date; in chronological order."""
    found = dates.read_date(body)
    if found is None:
        return None
    subject = _subject(found.subject)
    new, old = (f"{age} photo{f' of {_one(subject)}' if subject else ''}" for age in ("a new", "an old"))
    first, last = (new, old) if found.newest else (old, new)
    return Instruction(text, "by date", first, last, dates.ATTRIBUTE, not found.newest, subject)


def _from_to(body: str, text: str) -> Instruction | None:
    """[subject] from X to Y."""
    match = re.match(r"^(?P<subject>.*?)[\s,]*\b(?:going |ranging |running )?from\b\s*(?P<first>.*?)\s*\bto\b\s*(?P<last>.*)$", body)
    if match is None:
        dangling = re.match(r"^(?P<subject>(?:\S+ ){0,2}?)from (?P<first>\S+)(?: to)?$", body)
        if dangling and dangling["first"] in forms():
            raise _missing_end(text, len(text))
        return None
    subject = _subject(match["subject"])
    if not match["first"] or not match["last"]:
        raise _missing_end(text, text.lower().find("from") + 5 if not match["first"] else len(text))
    first, last = match["first"].split(), match["last"].split()
    asked = body.startswith("from") or _asked(text) or bool(_PHOTOS_OF.match(body)) or (_gradable(first) and _gradable(last))
    if not asked or len(first) > 4 or len(last) > 4 or set(subject.split()) & _VERBS:
        return None
    return _between(text, "from X to Y", match["first"], match["last"], subject)


def _asked(text: str) -> bool:
    """Tell whether the text begins with a verb of sorting."""
    return bool(_SORT.match(_POLITE.sub("", text.strip())))


def _to(body: str, text: str) -> Instruction | None:
    """X to Y, where both are gradable words or both are plural nouns."""
    match = re.match(r"^(?:(?P<subject>[^,]+), )?(?P<first>[^,]*?)\s*\bto\b\s*(?P<last>[^,]*)$", body)
    if match is None:
        return None
    first, last = match["first"].split(), match["last"].split()
    if not last and first and _gradable(first):
        raise _missing_end(text, len(text))
    if not first and last and _gradable(last):
        raise _missing_end(text, 0)
    if not (0 < len(first) <= 3 and 0 < len(last) <= 3) or set(first + last) & (_VERBS | _ARTICLES):
        return None
    if (_gradable(first) and _gradable(last)) or (_is_plural(first[-1]) and _is_plural(last[-1]) and len(first + last) <= 4):
        return _between(text, "X to Y", match["first"], match["last"], _subject(match["subject"] or ""))
    return None


def _before(body: str, text: str) -> Instruction | None:
    """X before Y, X then Y."""
    match = re.match(r"^(?P<first>[^,]*?),?\s*\b(?:before|and then|then)\b\s*(?P<last>.*)$", body)
    if match is None:
        return None
    first, last = match["first"].split(), match["last"].split()
    if len(first + last) <= 2 and ((not first and last and _gradable(last)) or (not last and first and _gradable(first))):
        raise _missing_end(text, 0 if not first else len(text))
    if not first or not last or len(first) > 4 or len(last) > 4 or set(first + last) & (_VERBS | _ARTICLES):
        return None
    return _between(text, "X before Y", match["first"], match["last"], "")


def _between(text: str, rule: str, first: str, last: str, subject: str) -> Instruction | None:
    one, other = read_end(first, subject), read_end(last, subject)
    if one is None or other is None:
        return None
    if last.strip() in _DEGREES and one.graded:  # "most people to fewest"
        return _ordered(text, rule, one)
    if first.strip() in _DEGREES and other.graded:  # "most to fewest people"
        return _ordered(text, rule, other, reverse=True)
    pair = _common_pair(first, last)
    if pair is not None:  # "from newest to oldest" is not about people
        return Instruction(
            text, rule, _with(pair[0].word, subject, pair[0]), _with(pair[1].word, subject, pair[1]), pair[0].pair.axis, not pair[0].positive, subject
        )
    subject = one.subject or other.subject
    one, other = read_end(first, subject) or one, read_end(last, subject) or other  # "biggest to smallest dogs": both ends get the dogs
    axis = one.attribute if one.attribute == other.attribute else ""
    return Instruction(text, rule, one.text, other.text, axis, bool(axis) and not one.positive, subject)


def _common_pair(first: str, last: str) -> tuple[Form, Form] | None:
    """Find the opposites that two single words are, where the lexicon's first meaning of each belongs to another pair."""
    one, other = forms().get(spelled(first)), forms().get(spelled(last))
    if one is None or other is None or one.pair == other.pair:
        return None
    for pair in pairs():
        if pair.form == "adj" and {pair.positive, pair.negative} == {one.word, other.word}:
            return Form(pair, pair.positive == one.word, one.degree), Form(pair, pair.positive == other.word, other.degree)
    return None


def _by(body: str, text: str) -> Instruction | None:
    """[subject] by X[, Y first|last|descending|ascending]; [subject] by how Y they are."""
    match = re.match(r"^(?P<subject>[^,]*?)\s*\bby\b (?:the |their |its )?(?P<axis>[^,]+)(?:, (?P<order>[^,]+))?$", body)
    if match is None:
        return None
    axis, order = match["axis"].split(), (match["order"] or "").split()
    while len(axis) > 1 and (axis[-1] in ("first", "last") or axis[-1] in _HIGH | _LOW or (order and _degree(axis[-1]))):
        order.insert(0, axis.pop())
    subject = _subject(match["subject"])
    if axis[0] == "how" and len(axis) > 1 and (form := forms().get(spelled(axis[1]))) is not None:
        return _with_order(text, _adjective_end(form, True, subject), order)
    end = _axis_end(_join(axis), subject)
    if (
        end is None
        and not set(axis + subject.split()) & _VERBS
        and ((form := forms().get(spelled(axis[0]))) is not None and form.degree == "superlative" or axis[0] in ("most", "least", "fewest"))
    ):
        end = _read_graded([spelled(word) for word in axis], subject)  # by sharpest first
    return _with_order(text, end, order) if end is not None else None


def _degree(word: str) -> bool:
    form = forms().get(spelled(word))
    return form is not None and form.degree != "base"


def _named(body: str, text: str) -> Instruction | None:
    """Rank the number of apples; sort the age of the person: a verb of sorting and the name of an axis; or the name of an axis alone."""
    match = re.match(r"^(?:the )?(?P<axis>numbers? of .+?|\S+)(?: of (?:the |a )?(?P<subject>\S+))?(?: first)?$", body)
    if match is None:
        return None
    pair = axes().get(spelled(match["axis"]))
    alone = re.fullmatch(r"numbers? of \S+(?: \S+)?", match["axis"]) or (pair is not None and pair.form == "adj" and not match["subject"])
    if not alone and not _ORDERING.match(_POLITE.sub("", text.strip())):
        return None
    subject = match["subject"] or ""
    end = _axis_end(match["axis"], "" if re.fullmatch(PHOTOS, subject) else subject)
    return _ordered(text, "by X", end) if end is not None else None


def _axis_end(name: str, subject: str) -> End | None:
    name = spelled(name)
    counted = re.match(r"^(?:numbers?|count|amount|quantity) of (?P<noun>.+)$", name)
    if counted:
        return _count_end(counted["noun"], True)
    pair = axes().get(name)
    if pair is not None and pair.form == "noun":
        return _count_end(pair.positive, True)
    if pair is not None and pair.form == "adj":
        return _adjective_end(forms().get(pair.positive) or Form(pair, True, "base"), True, subject)
    return End(pair.positive, pair.negative, pair.axis) if pair is not None else None


def _with_order(text: str, end: End, order: list[str]) -> Instruction:
    last = bool(order) and order[-1] == "last"
    words = [word for word in order if word not in ("first", "last")]
    if words:
        form = forms().get(spelled(words[0]))
        if form is not None and form.pair.axis == end.attribute:
            return _ordered(text, "by X", end, reverse=(not form.positive) != last)
        return _ordered(text, "by X", end, reverse=(words[0] in _LOW) != last)
    return _ordered(text, "by X", end, reverse=last)


def _both_ends(body: str, text: str) -> Instruction | None:
    """X first, Y last; Y last, X first."""
    match = re.match(r"^(?P<first>.+?),? first,?(?: and| then)? (?P<last>.+?),? last$", body)
    match = match or re.match(r"^(?P<last>.+?),? last,?(?: and| then)? (?P<first>.+?),? first$", body)
    if match is None or max(len(match["first"].split()), len(match["last"].split())) > 4:
        return None
    return _between(text, "X first, Y last", match["first"], match["last"], "")


def _two_criteria(body: str, text: str) -> Instruction | None:
    """Bright and sharp; the sharpest and most colourful photos of flowers first: between both and neither."""
    word = r"(?:(?:most|least|more|less) )?\S+"
    match = re.match(rf"^(?:the )?(?:{PHOTOS}, )?(?P<one>{word}) (?:and|&) (?P<other>{word}?)(?P<rest>(?: [^\s,]+)*?)(?P<first>,? first)?$", body)
    if match is None:
        return None
    ends = [_quality(match[name]) for name in ("one", "other")]
    if any(end is None or end.word in _HUES for end in ends):
        return None
    one, other = (end for end in ends if end is not None)
    subject = _subject(match["rest"])
    asked = bool(match["first"]) or _asked(text)
    if one.pair == other.pair or len(subject.split()) > 3 or ("comparative" in (one.degree, other.degree) and not asked):
        return None
    if subject and not asked and "superlative" not in (one.degree, other.degree):  # "a big and friendly dog" is looked for
        return None
    leading = other if other.pair.group in PHOTO_GROUPS else one  # decides whether the photo or the thing in it is meant
    first, last = (_with(f"{a} and {b}", subject, leading) for a, b in ((one.word, other.word), (one.opposite, other.opposite)))
    return Instruction(text, "X and Y", first, last, "", False, subject)


def _quality(words: str) -> Form | None:
    """Read "sharp", "sharpest", "most colourful", "least crowded"; the last as its opposite."""
    degree, _, word = words.rpartition(" ")
    form = forms().get(spelled(word))
    if form is None or not degree:
        return form
    return Form(form.pair, form.positive == (degree in ("most", "more")), "superlative" if degree in ("most", "least") else "comparative")


def _negated(body: str, text: str) -> Instruction | None:
    """Not blurry, photos that are not too dark, no people, without a dog: what is named comes last. Models do not read "not"."""
    match = re.match(rf"^(?:{PHOTOS} )?(?:(?:that|which) )?(?:(?:is|are) )?(?:not|aren't|isn't) (?:(?:so|too|that|{_DEGREE}) )?"
                     r"(?P<word>\S+)(?P<rest>(?: \S+){0,3}?)(?: first)?$", body)  # fmt: skip
    form = forms().get(spelled(match["word"])) if match else None
    if match and form and not set(match["rest"].split()) & _VERBS:
        end = _adjective_end(form, False, _subject(match["rest"]))
        hue = form.word in _HUES
        return Instruction(text, "not X", "", _with(form.word, end.subject, form)) if hue else _ordered(text, "not X", end)
    match = re.match(rf"^(?:{PHOTOS} )?(?:with )?(?:no|without(?: any)?) (?P<noun>\S+(?: \S+){{0,2}}?)(?: first)?$", body)
    if match is None or set(match["noun"].split()) & (_VERBS | {"and", "or", "longer", "more"}):
        return None
    if _is_plural(match["noun"].split()[-1]):
        return _ordered(text, "not X", _count_end(match["noun"], False))
    return Instruction(text, "not X", "", match["noun"])


def _placed(body: str, text: str) -> Instruction | None:
    """X first, X last, X at the top, X at the bottom."""
    match = re.match(r"^(?P<end>.+?),?\s+(?P<place>first|last|(?:at|on|to) (?:the )?(?:top|bottom|start|end|front|back))$", body)
    if match is None or len(match["end"].split()) > 8:
        return None
    low = any(word in match["place"] for word in ("last", "bottom", "end", "back"))
    positional = match["place"] not in ("first", "last")
    subject, _, phrase = match["end"].rpartition(", ")
    end = read_end(phrase, _subject(subject), loose=not positional or body != text.strip().lower())
    if end is None or {word for word in phrase.split() if word not in forms()} & _VERBS:
        return None
    return _ordered(text, "X last" if low else "X first", end, reverse=low)


def _question(body: str, text: str) -> Instruction | None:
    """Which photo is brighter? Who is younger? Which has more people? Which have a dog? How old is the person? How many cars are there?"""
    match = _QUESTION.match(body)
    if match is None:
        return _how(body, text)
    subject = _subject(re.sub(r"\b(?:one|of (?:the )?(?:two|these|them))\b", "", match["subject"]))
    words = re.sub(r"^the ", "", match["rest"]).split()
    end = _read_graded(words, subject) or (_read_adjective([spelled(words[0])], subject) if len(words) == 1 else None)
    if end is not None:
        return _ordered(text, "comparative", end)
    return Instruction(text, "search", match["rest"]) if re.match(r"^(?:a|an) \S+(?: \S+){0,4}$", match["rest"]) else None


def _how(body: str, text: str) -> Instruction | None:
    """How old is the person? How crowded is it? How many people are there? Most of it first."""
    counted = re.match(r"^how many (?P<noun>\S+(?: \S+)?)(?: (?:are|can|do)\b.*)?$", body)
    if counted:
        return _ordered(text, "by X", _count_end(counted["noun"], True))
    match = re.match(r"^how (?P<word>\S+) (?:is|are|does|do) (?P<subject>.+?)(?: looks?| seems?)?$", body)
    form = forms().get(spelled(match["word"])) if match else None
    if match is None or form is None or form.degree != "base":
        return None
    subject = "" if re.fullmatch(rf"it|they|this|these|(?:the |my )?{PHOTOS}", match["subject"]) else _subject(match["subject"])
    return _ordered(text, "by X", _adjective_end(form, True, subject)) if len(subject.split()) <= 3 else None


def _search(body: str, text: str) -> Instruction | None:
    """Show me dogs, find a red car: the thing, without the asking."""
    match = _SEARCH.match(_POLITE.sub("", text.strip().rstrip(" .!?")))
    return Instruction(text, "search", match["what"]) if match and len(match["what"].split()) <= 10 else None


def _comparative(body: str, text: str) -> Instruction | None:
    """A short phrase around one comparative or superlative."""
    words = [spelled(word) for word in _PHOTOS_OF.sub("", body).replace(",", " ").split()]
    words = words[1:] if words and words[0] in ("is", "are", "looks", "with", "has", "having", "the") else words
    if not 0 < len(words) <= LONGEST_PHRASE or set(words) & (_VERBS | {"and", "or", "than", "but"}):
        return None
    end = _read_graded(words, "")
    if end is None or not end.graded or (len(words) > 4 and words[0] not in ("most", "more", "least", "less", "fewest", "fewer") and words[0] not in forms()):
        return None
    return _ordered(text, "comparative", end)


def _gradable(words: list[str]) -> bool:
    return spelled(words[0]) in forms() or words[0] in ("most", "least", "fewest", "many", "few") or (len(words) == 1 and words[0] in _HIGH | _LOW)


def _missing_end(text: str, position: int) -> InstructionError:
    return InstructionError("one end of the order is missing", text=text, position=position, hint='say both ends, for example "from dark to bright"')


RULES: tuple[Callable[[str, str], Instruction | None], ...] = (
    _dated, _from_to, _by, _both_ends, _two_criteria, _named, _negated, _placed, _question, _to, _before, _comparative, _search,
)  # fmt: skip
