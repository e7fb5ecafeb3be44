"""Facts measured on a decoded picture and read from its EXIF. Certain, cheap (under 2 ms), and independent of any model.

Pixel facts are taken where the short side is 448 px (or the photo's own, if smaller), so that they compare between photos of
different size; a compressor's blocks are looked for in the picture as it was decoded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from rankclip.types import PixelFacts

SHORT_SIDE = 448  # px
BLACK, WHITE = 2, 253  # luma at or beyond these counts as clipped
BLOCK = 8  # px, a side of a JPEG's blocks
LEAST_BLOCKS = 3  # with fewer, chance stands out
SPARSE = 4  # every fourth row or column is enough for a mean
_DATE = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)")


def pixel_facts(picture: Image.Image) -> PixelFacts:
    """Measure an RGB picture. See `PixelFacts` for each value's scale."""
    blocks = _blocks(np.asarray(picture.getchannel(1)))  # before it is made smaller: blocks are 8 px wide
    short = min(picture.size)
    if short > SHORT_SIDE:
        scale = SHORT_SIDE / short
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX, reducing_gap=1.0)
    luma, levels = picture.convert("L"), np.arange(256)
    counts = np.array(luma.histogram())  # [256]
    total = luma.width * luma.height
    mean = float(counts @ levels) / total
    deviation = math.sqrt(max(float(counts @ levels**2) / total - mean**2, 0.0))
    rgb = [np.asarray(channel).astype(np.int16) for channel in picture.split()]  # three of [H, W]: much faster than one of [H, W, 3]
    clipped = float(counts[: BLACK + 1].sum() + counts[WHITE:].sum()) / total
    return PixelFacts(mean / 255, deviation / 255, *_colour(rgb), clipped, *_detail(np.asarray(luma).astype(np.int16)), *blocks, *_colour_noise(rgb))


def _colour(rgb: list[np.ndarray]) -> tuple[float, float]:
    """Mean saturation and Hasler & Suesstrunk's colourfulness of every ninth pixel; three of int16 [H, W]."""
    red, green, blue = (channel[::3, ::3].ravel() for channel in rgb)
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    saturation = float(np.mean((high - low) / np.maximum(high, 1)))
    rg, yb = red - green, (red + green) / 2 - blue  # [M]
    spread, centre = math.hypot(float(rg.std()), float(yb.std())), math.hypot(float(rg.mean()), float(yb.mean()))
    return saturation, (spread + 0.3 * centre) / 255


def _detail(luma: np.ndarray) -> tuple[float, float]:
    """Log variance of the Laplacian, and the noise level from the finest diagonal detail (Donoho's median rule); int16 [H, W]."""
    if min(luma.shape) < 3:
        return 0.0, 0.0
    laplacian = 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    return math.log10(1 + float(np.var(laplacian, dtype=np.float32))), _percentile(np.bincount(_diagonal(luma).ravel()), 0.5) / 2 / 0.6745 / 255


def _diagonal(values: np.ndarray) -> np.ndarray:
    """Size of the finest diagonal detail, of each two by two pixels: int16 [H / 2, W / 2]. values: int16 [H, W]."""
    high, wide = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    left, right = values[:, :wide:2], values[:, 1:wide:2]
    return np.abs(left[0:high:2] - left[1:high:2] - right[0:high:2] + right[1:high:2])


def _percentile(counts: np.ndarray, share: float) -> float:
    """The value below which a share of the counted integers lies, within its bin: a plain percentile of integers is too coarse."""
    sums = np.cumsum(counts)
    place = int(np.searchsorted(sums, share * sums[-1]))
    below = sums[place - 1] if place else 0
    return max(place - 0.5 + (share * sums[-1] - below) / max(sums[place] - below, 1), 0.0)


def _colour_noise(rgb: list[np.ndarray]) -> tuple[float, float]:
    """Mean and 98th percentile of the finest diagonal detail of red - green and blue - green, as log(1 + levels); three of int16 [H, W].

    What all channels share, edges and grain of the light, is not in it: what is left is a sensor's noise, or a compressor's.
    """
    red, green, blue = rgb
    if min(green.shape) < 3:
        return 0.0, 0.0
    counts = np.bincount(np.concatenate([_diagonal(red - green).ravel(), _diagonal(blue - green).ravel()]))
    return math.log1p(float(counts @ np.arange(len(counts))) / counts.sum()), math.log1p(_percentile(counts, 0.98))


def _blocks(channel: np.ndarray) -> tuple[float, float]:
    """How much one of every eight rows and columns stands out, as a ratio and in levels, both logarithms; uint8 [H, W]."""
    if min(channel.shape) < LEAST_BLOCKS * BLOCK:
        return 0.0, 0.0
    values = channel.astype(np.int16)
    found = [_steps(side) for side in (values[:, ::SPARSE], values[::SPARSE].T)]
    return sum(ratio for ratio, _ in found) / 2, sum(levels for _, levels in found) / 2


def _steps(values: np.ndarray) -> tuple[float, float]:
    """The same along the first axis; int16 [L, M]."""
    steps = np.abs(values[1:] - values[:-1]).mean(axis=1, dtype=np.float32)  # [L - 1]
    places = _by_place(steps)  # [8]
    beyond = _by_place(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)  # [8]
    return math.log((places.max() + 0.1) / (float(np.median(places)) + 0.1)), math.log1p(max(float(beyond.max() - np.median(beyond)), 0.0))


def _by_place(values: np.ndarray) -> np.ndarray:
    """Mean of every eighth value, for each of the eight places, float32 [8]."""
    found: np.ndarray = values[: len(values) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=0)
    return found


def taken_at(exif: Mapping[int, Any], details: Mapping[int, Any]) -> str:
    """Return the time of the shot as "2023-05-01T12:00:00", empty when it is absent or nonsense."""
    for value in (details.get(ExifTags.Base.DateTimeOriginal), details.get(ExifTags.Base.DateTimeDigitized), exif.get(ExifTags.Base.DateTime)):
        match = _DATE.match(str(value or "").strip())
        if match and _is_date([int(part) for part in match.groups()]):
            year, month, day, hour, minute, second = match.groups()
            return f"{year}-{month}-{day}T{hour}:{minute}:{second}"
    return ""


def _is_date(parts: list[int]) -> bool:
    year, month, day, hour, minute, second = parts
    return 1826 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60


def camera(exif: Mapping[int, Any]) -> str:
    """Return maker and model, the maker once."""
    make, model = (str(exif.get(tag) or "").replace("\0", "").strip() for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    return model if not make or model.lower().startswith(make.lower().split()[0]) else f"{make} {model}".strip()


def place(gps: Mapping[int, Any]) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees, or two None."""
    try:
        latitude = _degrees(gps[ExifTags.GPS.GPSLatitude]) * (-1 if str(gps.get(ExifTags.GPS.GPSLatitudeRef, "N")).upper().startswith("S") else 1)
        longitude = _degrees(gps[ExifTags.GPS.GPSLongitude]) * (-1 if str(gps.get(ExifTags.GPS.GPSLongitudeRef, "E")).upper().startswith("W") else 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError):
        return None, None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return None, None
    return round(latitude, 6), round(longitude, 6)


def _degrees(parts: Any) -> float:
    degrees, minutes, seconds = (float(part) for part in (*parts, 0, 0)[:3])
    return degrees + minutes / 60 + seconds / 3600
