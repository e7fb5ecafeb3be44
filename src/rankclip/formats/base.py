"""What every format gets, and how paths become text."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """null: paths end with NUL instead of a newline. colour, width: what the terminal can show (0: not a terminal)."""

    null: bool = False
    colour: bool = False
    width: int = 0
    explain: bool = False
    title: str = ""


def printable(path: str) -> str:
    r"""Escape what would break a line or a terminal: control characters, and bytes that are not UTF-8.

    >>> printable("a\nb"), printable("caf\udce9.jpg")
    ('a\\nb', 'caf\\xe9.jpg')
    """
    if path.isprintable():
        return path
    return "".join(character if character.isprintable() else _escaped(character) for character in path)


def _escaped(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is no UTF-8, as the system's file names carry it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def is_text(path: str) -> bool:
    """Tell whether a path is UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def raw(path: str) -> bytes:
    """The bytes of a path, exactly as the system has them."""
    return os.fsencode(path)


def clock(moment: str) -> str:
    """A time for people.

    >>> clock("2023-05-01T12:00:00")
    '2023-05-01 12:00:00'
    """
    return moment.replace("T", " ")
