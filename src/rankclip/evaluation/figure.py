"""A measured value and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % bootstrap interval, in the unit of what was measured.

    >>> Figure(0.62, 0.58, 0.66).low
    0.58
    """

    value: float
    low: float
    high: float
