"""How people tell what changed between two photos: which photo a clause is about, what is gone, and what an order to edit one asks for.

    photos       "in the before image", "the left picture", "photo 2", "after": A is the first, left or after photo, B the other.
                 "X in the before image that is not in the after image" · "the second picture is missing X" · "2 cars in the left image, 4 in the right"
    gone         "X has disappeared" · "X isn't there anymore" · "X missing" · "there is no longer X" · "one less X"
    orders       "make the sky darker" · "color her hair blue" · "increase the contrast" · "brighten the photo" · "take X out" · "zoom in"

Written from the training texts of Spot-the-diff (Jhamtani & Berg-Kirkpatrick 2018) and of the image editing requests (Tan et al. 2019), where
many orders follow each other without a comma.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rankclip.instructions.lexicon import axes, forms, spelled

_WORD = {"before": 1, "after": 0, "first": 0, "1st": 0, "1": 0, "one": 0, "left": 0, "second": 1, "2nd": 1, "2": 1, "two": 1, "right": 1}
_NOUN = r"(?:images?|photos?|pictures?|pics?|photographs?|frames?|shots?)"
_HAND = r"(?:[ -]hand)?(?: side)?"
_NAMED = re.compile(
    rf"(?:\b(?:in|on|from|of|at|for)\s+)?(?:\bthe\s+)?(?:\b(?P<order>before|after|first|second|1st|2nd|left|right){_HAND} {_NOUN}\b"
    rf"|\b{_NOUN} (?:(?P<number>[12]|one|two)\b|(?:on|to) the (?P<side>left|right)\b)"
    r"|^(?:the )?(?P<short>left|right)(?= (?:has|have|shows|does|is missing)\b)|(?<=\bin )(?:the )?(?P<end>before|after)\b(?! \w))",
    re.I,
)
_NOT = re.compile(r"\b(is|are|was|were|do|does|did|has|have)(?:n ?['’]?t| not)\b", re.I)
_BE = r"(?:is|are|was|were|do|does|has|have|seems?|appears?)"
_LACKS = r"(?:not|no longer|none|absent|missing|gone|nobody|no one|disappeared|vanished|removed)"
_WHO = r"(?:that|which|who|where|whereas|while|and|but|it|they|now)"
_DENIED = re.compile(rf"\s*(?:\b{_WHO} )*\b{_BE} (?:not|missing|absent)(?: \w+)?\s*$|\s+(?:not|missing|absent)(?: \w+)?\s*$", re.I)  # at the end
_DENIES = re.compile(rf"^[\s,]*(?:\b{_WHO} )*(?:there )?(?:{_BE} )*(?:to be |now |been )*{_LACKS}\b", re.I)  # at the beginning
_JOINING = re.compile(r"^[\s,;.]*(?:(?:and|but|while|whereas|where as|where|when|then|as opposed to|as|versus|than|now)\b[\s,]*)*", re.I)
_LOST = re.compile(
    r"^(?P<rest>.+?)(?: that| which| who)? (?:(?:is|are|was|were|has|have|had|seems?|appears?)\s+)*(?:to be |to have |been |now |both |all |being )*"
    r"(?:gone|(?<!not )missing|absent|(?<!not )removed|disappeared|vanished|(?<=has )left|(?<=have )left|(?<=now )left|no longer\b|"
    r"not (?:there|here|present|visible|seen|shown|any(?:more)?)\b)(?P<after>.*)$",
    re.I,
)
_NO_LONGER = re.compile(r"^(?:there (?:is|are|was|were) )?no longer (?:any |a |an )?(?P<rest>.+)$", re.I)
_COUNT = r"^(?:there (?:is|are|appears to be) )?(?:an?|one|two|three|four|five|\d+|several|many|significantly|far|much|a lot|noticeably)"
_LESS = re.compile(rf"{_COUNT} (?:less|fewer)\s+(?P<rest>.+?)(?: than)?$", re.I)
_ONE_MORE = re.compile(rf"{_COUNT.replace('an?|', '')} more\s+(?P<rest>.+?)(?: than)?$", re.I)
_NEW = re.compile(r"(?: that| which| who)? (?:was|were|is|are|had) not (?:(?:there|here|present|visible|seen|shown|in it) )?before$", re.I)
_THERE = re.compile(
    r"^(?:there |now |also |it |that |which )*(?:(?:is|are|was|were|has|have|shows?|contains?|appears?)\b\s*)*(?:now |also |only |still )*", re.I
)
_ANY = re.compile(r"^(?:a|an|the|any|some|this|these|that|his|her|its|their|my)\s+", re.I)

# ---------------------------------------------------------------- orders

_VERBS = (
    "remove add change make crop brighten lighten darken zoom increase decrease replace rotate sharpen delete blur erase insert reduce turn put photoshop "
    "desaturate saturate enlarge shrink raise boost enhance color colour paint whiten soften place paste take cut give flip mirror"
).split()
_BEGINS = re.compile(
    rf"^(?:please |can you |could you |i want (?:you )?to |you should |just |and |then )*(?P<order>(?:{'|'.join(_VERBS)}|lower the)\b.*)$", re.I
)
_NEXT = re.compile(rf"[.;]\s+|,\s*(?:and |then )*(?=(?:{'|'.join(_VERBS)})\b)|\s+(?:and |then )*(?=(?:{'|'.join(_VERBS[:24])})\b)", re.I)
_SLIGHTLY = re.compile(r"(?: (?:slightly|here|up|a bit|a little(?: bit)?|just|more|some|very))+$", re.I)
_WHOLE = re.compile(rf"^(?:(?:the|this|that|whole|entire|overall|of|all|image|it|everything|{_NOUN[3:-1]})\s*)*$", re.I)
_FROM_IT = re.compile(rf"\s+(?:from|in|of|to|on|into|onto) (?:the |this |that |whole |entire )*{_NOUN}$", re.I)
_TAKEN = re.compile(
    r"^(?:remove|delete|erase|eliminate|(?:take|cut|crop) (?:out|away|off)|get rid of)\s+(?P<one>.+)$"
    r"|^(?:take|cut|crop|edit|photoshop) (?P<two>.+?) (?:out|off|away)\b.*$",
    re.I,
)
_PUT = re.compile(r"^(?:add(?: in)?|insert|put|place|paste|photoshop|give (?:it|him|her|them|me)?)\s+(?P<rest>.+)$", re.I)
_SWAP = re.compile(r"^(?:change|turn|replace|swap)\s+(?P<what>.+?)(?: from (?P<old>.+?))? (?:to|into|with|by|for) (?:be )?(?P<new>.+)$", re.I)
_MAKE = re.compile(
    r"^(?:make|turn|color|colour|paint)\s+(?P<what>.+?)(?: (?:to|in|into|look|appear|a lot|much|a bit|a little(?: bit)?|slightly|more))*"
    r" (?P<new>black (?:and|&) white|\S+)$", re.I
)  # fmt: skip
_AMOUNT = re.compile(r"^(?P<verb>increase|raise|boost|enhance|turn up|decrease|lower|reduce|turn down)\s+(?P<rest>.+)$", re.I)
_DEGREE = re.compile(r"^(?P<verb>brighten|lighten|darken|sharpen|blur|desaturate|saturate|whiten|soften|enlarge|shrink)(?: up| out)?\b\s*(?P<what>.*)$", re.I)
_ZOOM = re.compile(r"^zoom (?P<way>in|out)\b", re.I)
_ENDS = {
    "brighten": ("bright", "dark"), "lighten": ("bright", "dark"), "darken": ("dark", "bright"), "sharpen": ("sharp", "blurry"), "blur": ("blurry", "sharp"),
    "desaturate": ("desaturated", "saturated"), "saturate": ("saturated", "desaturated"), "whiten": ("white", "dark"), "soften": ("soft", "hard"),
    "enlarge": ("large", "small"), "shrink": ("small", "large"), "lighter": ("bright", "dark"), "darker": ("dark", "bright"),
}  # fmt: skip
_COLOURS = frozenset("red green blue yellow orange purple pink brown black white grey gray gold golden silver teal turquoise auburn blond blonde beige".split())
_CLOSE = ("a close-up", "a wide shot")


@dataclass(frozen=True, slots=True)
class Sides:
    """Phrases that hold for the first photo and phrases that hold for the second; either may be empty."""

    first: tuple[str, ...]
    second: tuple[str, ...]

    def swapped(self) -> Sides:
        return Sides(self.second, self.first)

    def joined(self, other: Sides) -> Sides:
        return Sides(self.first + other.first, self.second + other.second)


NOTHING = Sides((), ())


@dataclass(frozen=True, slots=True)
class Clause:
    """What is said of one photo. second: of the second one."""

    text: str
    second: bool

    def of(self, sides: Sides) -> Sides:
        """Turn what this photo has and lacks into what the first and the second have."""
        return sides.swapped() if self.second else sides


def plain(text: str) -> str:
    """Write contractions as two words: "isn t", "isn't" and "is not" are one."""
    return _NOT.sub(r"\1 not", text)


def of_photos(text: str) -> list[Clause]:
    """Split a text at the photos that it names, without their names; an empty list where it names none.

    >>> of_photos("there is a man in the before image that is not in the after image")
    [Clause(text='a man', second=True)]
    >>> of_photos("2 cars in the left picture and 4 cars in the right picture")
    [Clause(text='2 cars', second=False), Clause(text='4 cars', second=True)]
    """
    named = list(_NAMED.finditer(text))
    if not named:
        return []
    places = [bool(_WORD[next(filter(None, one.groups())).lower()]) for one in named]
    other = next((i for i, place in enumerate(places) if place != places[0]), 0)
    lead, rest = text[: named[0].start()], text[named[0].end() : named[other].start() if other else None]
    tail = text[named[other].end() :] if other else ""
    if _DENIED.search(lead):  # "X is not in the left picture", and what more may be said is that it is in the other
        return clauses((f"{lead} there", places[0]))
    if _DENIES.match(rest) or (not content(lead) and other and _DENIED.search(rest)):  # "X in the left picture is not in the right one"
        return clauses((lead if content(lead) else _DENIED.sub("", rest), places[0]))
    if not other:
        return clauses((f"{lead} {rest}", places[0]))
    if content(lead):  # "X in the left picture, Y in the right one"
        return clauses((lead, places[0]), (f"{rest} {tail}", places[other]))
    return clauses((rest, places[0]), ("" if _DENIES.match(tail) else tail, places[other]))  # "in the left picture X, in the right one Y"


def clauses(*given: tuple[str, bool]) -> list[Clause]:
    return [Clause(said, second) for text, second in given if (said := content(text))]


def content(text: str) -> str:
    """Take off what joins a clause to others, and "there is"."""
    joined = re.sub(r"[\s,;]+(?:and|but|while|whereas|where|as|than)$", "", " ".join(text.split()))
    return _THERE.sub("", _JOINING.sub("", joined)).strip(" ,.;")


def gone(text: str) -> Sides | None:
    """Read what is said to be there no longer, which belongs to the second photo, or to be more, less or new.

    >>> gone("the man is not there anymore"), gone("there is one less person")
    (Sides(first=(), second=('man',)), Sides(first=('few person',), second=('many person',)))
    """
    if lost := _NO_LONGER.match(text):
        return Sides((), (bare(lost["rest"]),))
    if less := _LESS.match(text):
        return Sides((f"few {less['rest']}",), (f"many {less['rest']}",))
    if more := _ONE_MORE.match(text):
        return Sides((f"many {more['rest']}",), (f"few {more['rest']}",))
    if new := _NEW.search(text):
        return Sides((bare(content(text[: new.start()])),), ())
    lost = _LOST.match(text)
    if lost is None or not content(lost["rest"]):
        return None
    return Sides((), (bare(content(lost["rest"])),))


def orders(text: str) -> Sides | None:
    """Read orders to edit a photo, one after the other; None for a text that does not begin with one.

    The first photo is the one that comes of it.

    >>> orders("Remove the dog Make the sky darker")
    Sides(first=('dark sky',), second=('dog', 'bright sky'))
    >>> orders("change the background to black and zoom in")
    Sides(first=('black background', 'a close-up'), second=('background', 'a wide shot'))
    """
    begun = _BEGINS.match(text)
    if begun is None:
        return None
    found = NOTHING
    for part in _NEXT.split(begun["order"]):
        if one := _BEGINS.match(part.strip(" ,.")):
            found = found.joined(_order(one["order"].strip(" ,.")) or NOTHING)
    return found


def _order(text: str) -> Sides | None:
    if taken := _TAKEN.match(text):
        return Sides((), (bare(_FROM_IT.sub("", taken["one"] or taken["two"])),))
    for rule in (_zoomed, _swapped, _graded, _amount, _made):
        if (found := rule(text)) is not None:
            return found
    put = _PUT.match(text)
    return Sides((bare(_FROM_IT.sub("", put["rest"])),), ()) if put else None


def _zoomed(text: str) -> Sides | None:
    zoom = _ZOOM.match(text)
    if zoom is None:
        return None
    found = Sides(_CLOSE[:1], _CLOSE[1:])
    return found if zoom["way"].lower() == "in" else found.swapped()


def _swapped(text: str) -> Sides | None:
    """ "change the sky from grey to blue": a blue sky, not a grey one; "change the dog to a cat": a cat, not a dog."""
    swap = _SWAP.match(text)
    if swap is None:
        return None
    what = re.sub(r"\s*\b(?:the )?colou?rs?\b(?: of)?\s*", " ", bare(swap["what"])).strip()
    what, new, old = bare(what), bare(swap["new"]), bare(swap["old"] or "")
    new = re.sub(r"\bone(?=$| with\b)", what, new) if what else new
    if adjective(new) and what:
        return Sides((f"{new} {what}",), (f"{old} {what}" if old else what,))
    return Sides((new,), (old or what or bare(swap["what"]),))


def _graded(text: str) -> Sides | None:
    """ "brighten the sky": a bright sky, not a dark one."""
    found = _DEGREE.match(text)
    return ends(_ENDS[found["verb"].lower()], found["what"]) if found else None


def _amount(text: str) -> Sides | None:
    """ "increase the contrast": by the lexicon's axis of that name."""
    found = _AMOUNT.match(text)
    if found is None:
        return None
    words = [spelled(word.strip(",.").lower()) for word in found["rest"].split()]
    pair = next((axes()[word] for word in words if word in axes()), None)
    quality = bare(_FROM_IT.sub("", found["rest"]))
    word = pair.axis if pair else quality
    sides = Sides((f"high {word}",), (f"low {word}",)).joined(ends((pair.positive, pair.negative), "") if pair else NOTHING)
    return sides if found["verb"].lower() in ("increase", "raise", "boost", "enhance", "turn up") else sides.swapped()


def _made(text: str) -> Sides | None:
    """ "make the sky blue": a blue sky; "make the photo darker": dark, not bright."""
    made = _MAKE.match(text)
    if made is None:
        return None
    word = spelled(made["new"].strip(".,").lower())
    if word in _ENDS:
        return ends(_ENDS[word], made["what"])
    if (form := forms().get(word)) is not None and form.degree == "comparative":
        return ends((form.word, form.opposite), made["what"])
    return Sides(ends((word, word), made["what"]).first, (bare(made["what"]),)) if adjective(word) else None


def ends(pair: tuple[str, str], what: str) -> Sides:
    """Say both ends of a thing; of the photo, where the whole of it is meant."""
    what = _SLIGHTLY.sub("", f" {what}").strip()
    thing = "" if _WHOLE.match(what) else f" {bare(_FROM_IT.sub('', what))}"
    return Sides((f"{pair[0]}{thing}",), (f"{pair[1]}{thing}",))


def adjective(text: str) -> bool:
    """Tell whether a text is an adjective of the lexicon or a colour, alone or as in "black and white"."""
    return all(spelled(word) in forms() or word in _COLOURS for word in text.lower().split() if word not in ("and", "&"))


def bare(text: str) -> str:
    """Take off the article."""
    return _ANY.sub("", text.strip(" ,.;"))
