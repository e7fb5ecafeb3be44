"""What the camera wrote down, as facts that are certain: the hour of the day, and the season where the place is known, too."""

from __future__ import annotations

from rankclip.types import PhotoFacts

DAY = (5.0, 22.0)  # hours in which later by the clock means later in the day; at night the count begins anew
TROPIC = 23.5  # degrees of latitude up to which the months tell no season
SEASONS = ("winter", "spring", "summer", "autumn")  # from December in the north, from June in the south


def hour(photo: PhotoFacts) -> float:
    """Return the hour of the day that a photo was taken at; NaN where it is unknown or night.

    >>> hour(PhotoFacts(4, 3, "JPEG", "2021-07-04T18:30:00")), hour(PhotoFacts(4, 3, "JPEG", "2021-07-04T23:30:00"))
    (18.5, nan)
    """
    taken = photo.moment
    value = taken.hour + taken.minute / 60 if taken is not None else float("nan")
    return value if DAY[0] <= value <= DAY[1] else float("nan")


def season(photo: PhotoFacts) -> str:
    """Return the season that a photo was taken in; an empty text where time or place are unknown, or the tropics.

    >>> season(PhotoFacts(4, 3, "JPEG", "2021-07-04T18:30:00", latitude=52.5)), season(PhotoFacts(4, 3, "JPEG", "2021-07-04T18:30:00", latitude=-33.9))
    ('summer', 'winter')
    """
    taken = photo.moment
    if taken is None or photo.latitude is None or abs(photo.latitude) <= TROPIC:
        return ""
    return SEASONS[(taken.month % 12 // 3 + (0 if photo.latitude > 0 else 2)) % 4]
