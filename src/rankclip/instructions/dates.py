"""Orders by when photos were taken: "newest photos first", "by date", "in chronological order". "Oldest first" alone is about people."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rankclip.instructions.lexicon import PHOTOS

ATTRIBUTE = "date taken"
_NEWEST, _OLDEST = "newest|latest|most recent(?:ly taken)?", "oldest|earliest|least recent"
_WHEN = rf"(?:the )?(?:(?P<late>{_NEWEST}|newer|new|later|more recent|recent(?:ly taken)?)|(?P<early>{_OLDEST}|older|old|earlier))"
_MOST = rf"(?:the )?(?:(?P<late>{_NEWEST}|recent(?:ly taken)?)|(?P<early>{_OLDEST}))"
_CLEARLY = rf"(?:the )?(?:(?P<late>{_NEWEST}|recent)|(?P<early>earliest|least recent))"  # nobody says these of people
_WHOSE = rf"(?:(?:the |my |all )*{PHOTOS}(?: (?:of|with|from|showing) (?P<subject>[^,]+?))?)"
_PLACE = ",? (?P<place>first|last|(?:on|at the) (?:top|start|beginning)|at the (?:bottom|end))"
_BY = r"by (?:the )?(?:date|time)(?:(?: (?:they|it) (?:were|was))? taken| of (?:the )?(?:shot|capture))?"
_FORMS = tuple((re.compile(f"^{form}$"), newest) for form, newest in (  # newest: which way, where the words do not say
    (rf"(?:{_WHOSE} )?(?:from )?{_MOST}(?: {PHOTOS})? to (?:the )?(?P<other>{_NEWEST}|{_OLDEST})(?: {PHOTOS})?", True),  # photos from oldest to newest
    (rf"{_WHEN} {_WHOSE}{_PLACE}", True),  # newest photos of the dog first
    (rf"{_MOST} {_WHOSE}", True),  # latest pictures
    (rf"{PHOTOS},? {_WHEN}{_PLACE}", True),  # photos, oldest first
    (rf"(?:{_WHOSE} )?{_BY}(?:,? {_WHEN}(?:{_PLACE})?)?", True),  # by date, oldest first
    (rf"(?:{_WHOSE} )?{_BY},? (?:(?P<late>descending)|(?P<early>ascending))", True),
    (rf"(?:{_WHOSE} )?(?:in )?(?:(?P<late>reverse|reversed|inverse) )?chronological(?:ly| order)?", False),
    (rf"(?:{_WHOSE},? )?{_CLEARLY}(?:{_PLACE})?", True),  # photos of the dog, newest first
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dated:
    """An order by date. newest: the newest photos come first. subject: what the photos show, as it was said."""

    newest: bool
    subject: str = ""


def read_date(body: str) -> Dated | None:
    """Read an order by date, lower case and without the verb of sorting; None for anything else.

    >>> read_date("oldest photos of the dog first"), read_date("by date"), read_date("oldest people first")
    (Dated(newest=False, subject='the dog'), Dated(newest=True, subject=''), None)
    """
    for form, newest in _FORMS:
        if match := form.match(body):
            return _dated(match.groupdict(), newest)
    return None


def _dated(found: dict[str, str | None], newest: bool) -> Dated | None:
    """Turn the named parts of a form into an order; None for "from newest to latest"."""
    if found.get("late") or found.get("early"):
        newest = bool(found.get("late"))
    if (other := found.get("other")) and newest == bool(re.fullmatch(_NEWEST, other)):
        return None
    return Dated(newest != ((found.get("place") or "").endswith(("last", "bottom", "end"))), found.get("subject") or "")
