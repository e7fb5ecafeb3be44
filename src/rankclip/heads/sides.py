"""The two sides of a sentence that compares: what the first photo has, and what the second has.

"The first photo shows more dogs, while the second shows fewer", "the shirt is red instead of blue", "no car, brighter": a text tower sees the
same words whichever photo has them; this reading tells them apart, so that a linear map on embeddings can do the rest.

    two sides    "The first ... X, while the second ... Y" · "X instead of Y" · "X rather than Y" · "X, not Y"
    change       "the X Y became Z" · "change X to Z": the second photo has what was before
    absence      "without X" · "no X" · "X is gone" · "remove X": X belongs to the second photo
    degree       "more X" · "fewer X" · a comparative of the lexicon ("an older man", "brighter"): its opposite belongs to the second photo
    anything else belongs to the first photo
"""

from __future__ import annotations

import re
from functools import cache

from rankclip.heads.changes import NOTHING, Sides, gone, of_photos, orders, plain
from rankclip.instructions.lexicon import Form, forms, spelled

_PHOTO = r"(?:photo|image|picture|photograph|one|scene|flower|animal)"
_BOTH = re.compile(rf"^(?:in )?the first(?: {_PHOTO})?,? (?P<a>.+?)[,;]? (?:while|whereas|but|and) (?:in )?the second(?: {_PHOTO})?,? (?P<b>.+?)\.?$", re.I)
_VERB = re.compile(r"^(?:(?:there )?(?:is|are|was|were|shows?|has|have|contains?|depicts?|features?|looks?|appears?)\b(?: taken\b| a photo of\b)?\s*)+", re.I)
_LEAD = re.compile(r"^(?:a |the )?(?:photo|image|picture)(?: that is| with| of| where)?\b\s*", re.I)
_INSTEAD = re.compile(r"^(?P<a>.+?),? (?:instead of|rather than|and not|but not|not) (?P<b>.+)$", re.I)
_IS = re.compile(r"^the (?P<head>[\w-]+(?: [\w-]+)?) (?:is|are) (?P<value>.+)$", re.I)
_ABSENT = re.compile(r"^(?:without|no|not|no longer|lacks|missing|fewer|less)\s+(?P<rest>.+)$", re.I)
_MORE = re.compile(r"^(?:more|many more|a larger number of)\s+(?P<rest>.+)$", re.I)
_BECAME = re.compile(r"^(?:the )?(?P<rest>.+?) (?P<head>[\w-]+) (?:became|turned|is now) (?P<after>[\w-]+)$", re.I)
_REPLACED = re.compile(
    r"^(?P<before>.+?) (?:(?:is|are|was|were|has been|have been)(?: now)? replaced (?:by|with)|(?:has|have) changed (?:in)?to) (?P<after>.+)$", re.I
)
_CHANGED = re.compile(r"^(?:change|turn|replace)\s+(?P<before>.+?) (?:to|into|with|by) (?P<after>.+)$", re.I)
_REMOVED = re.compile(r"^(?:remove|delete|erase|crop out|cut out|take out|get rid of)\s+(?P<rest>.+)$", re.I)
_ADDED = re.compile(r"^(?:add|insert)\s+(?P<rest>.+)$|^(?P<new>.+?) (?:has|have) (?:appeared|been added)$", re.I)
_PARTS = re.compile(r",\s*|;\s*|\s+where\s+(?=the\b)|\s+and\s+(?=(?:no|with|without|more|fewer|is|are|was|shows?|has)\b)", re.I)


@cache
def read(sentence: str) -> Sides:
    """Split a comparing sentence into its two sides.

    >>> read("The first photo shows more dogs, while the second shows fewer dogs.")
    Sides(first=('many dogs', 'many dogs'), second=('few dogs', 'few dogs'))
    >>> read("the shirt is red instead of blue, no car")
    Sides(first=('red shirt',), second=('blue shirt', 'car'))
    >>> read("brighter")
    Sides(first=('bright',), second=('dark',))
    """
    text = " ".join(sentence.split()).rstrip(".")
    both = _BOTH.match(text)
    if both:
        one, other = _clauses(both["a"]), _clauses(both["b"])
        return one.joined(other.swapped())
    text = plain(text)
    if (asked := orders(text)) not in (None, NOTHING):
        return asked
    found = NOTHING
    for clause in of_photos(text):
        found = found.joined(clause.of(_clauses(clause.text)))
    return found if found != NOTHING else _clauses(text)


def _clauses(text: str) -> Sides:
    """Read what one photo is said to have."""
    first: list[str] = []
    second: list[str] = []
    parts = _PARTS.split(_joined_not(_LEAD.sub("", text)))
    for part in filter(None, (piece.strip() for one in parts for piece in _graded_pieces(one))):
        found = _clause(part)
        first += found.first
        second += found.second
    return Sides(tuple(first), tuple(second))


def _graded_pieces(part: str) -> list[str]:
    """Split "sharper and brighter", but not "black and white"."""
    pieces = re.split(r"\s+and\s+", part)
    return pieces if len(pieces) > 1 and all(_degree(_VERB.sub("", piece)) is not None for piece in pieces) else [part]


def _joined_not(text: str) -> str:
    """Keep "indoors, not outdoors" in one part."""
    return re.sub(r", (?=not )", " ", text)


def _clause(part: str) -> Sides:
    changed = _change(part)
    if changed is not None:
        return changed
    part = _VERB.sub("", part).strip()
    if part.lower().startswith("with ") and len(part) > 5:
        part = part[5:]
    head = ""
    stated = _IS.match(part) or re.match(r"^the (?P<head>[\w-]+) (?P<value>\w+ing\b.*)$", part, re.I)
    if stated:
        head, part = stated["head"], stated["value"]
    swap = _INSTEAD.match(part)
    if swap:
        other = re.sub(r"\bone$", "", swap["b"]).strip()
        if not head and other != swap["b"] and " " in swap["a"]:  # "a red shirt instead of a blue one"
            head_noun = swap["a"].rsplit(" ", 1)[1]
            return Sides((_bare(swap["a"]),), (f"{_bare(other)} {head_noun}",))
        return Sides((_of(swap["a"], head),), (_of(other, head),))
    if not head:
        graded = _degree(part)
        if graded is not None:
            return graded
        absent = _ABSENT.match(part)
        if absent:
            return Sides((), (_bare(absent["rest"]),))
    return Sides((_of(part, head),), ())


def _change(part: str) -> Sides | None:
    """Read what became of something: "the brown cube became green", "the car is gone", "remove the text", "add a hat"."""
    if became := _BECAME.match(part):
        return Sides((f"{became['after']} {became['head']}",), (f"{became['rest']} {became['head']}",))
    if changed := _CHANGED.match(part) or _REPLACED.match(part):
        return Sides((_bare(changed["after"]),), (_bare(changed["before"]),))
    if removed := _REMOVED.match(part):
        return Sides((), (_bare(removed["rest"]),))
    if (lost := gone(part)) is not None:
        return lost
    added = _ADDED.match(part)
    return Sides((_bare(added["rest"] or added["new"]),), ()) if added else None


def _degree(part: str) -> Sides | None:
    """Read "more dogs", "fewer dogs", "an older man", "more colourful"."""
    words = part.split()
    for size in (2, 1):
        for start in range(len(words) - size + 1):
            form = forms_of(" ".join(words[start : start + size]).lower())
            if form is not None and form.degree == "comparative":
                rest = [word for word in words[:start] + words[start + size :] if word.lower() not in ("a", "an", "the", "in")]
                return Sides((" ".join([form.word, *rest]),), (" ".join([form.opposite, *rest]),))
    more, fewer = _MORE.match(part), re.match(r"^(?:fewer|less)\s+(?P<rest>.+)$", part, re.I)
    if more:
        return Sides((f"many {more['rest']}",), (f"few {more['rest']}",))
    return Sides((f"few {fewer['rest']}",), (f"many {fewer['rest']}",)) if fewer else None


def forms_of(text: str) -> Form | None:
    """Return the lexicon's form for one or two words; a comparative with "more" or "less" too."""
    word = " ".join(spelled(one) for one in text.split())
    found = forms().get(word)
    if found is not None or " " not in word:
        return found
    degree, _, base = word.partition(" ")
    plain = forms().get(base)
    if degree not in ("more", "less") or plain is None or plain.degree != "base":
        return None
    return Form(plain.pair, plain.positive == (degree == "more"), "comparative")


def _bare(text: str) -> str:
    return re.sub(r"^(?:a|an|the|any)\s+", "", text.strip(), flags=re.I)


def _of(value: str, head: str) -> str:
    """ "red" of the "shirt": "red shirt"; "running" of the "dog": "dog running"."""
    value = _bare(value)
    if not head:
        return value
    return f"{head} {value}" if value.split()[0].endswith("ing") or " " in value else f"{value} {head}"
