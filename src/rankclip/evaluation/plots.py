"""A scatter plot as PNG, drawn with Pillow: predicted against true."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

SIDE, MARGIN, DOT = 480, 48, 3  # px


def scatter(y: np.ndarray, p: np.ndarray, *, title: str, unit: str = "") -> bytes:
    """Draw predictions (up) over true values (right) with the diagonal. y, p: float [N]. Returns a PNG."""
    low, high = float(min(y.min(), p.min())), float(max(y.max(), p.max()))
    span = (high - low) or 1.0
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image, "RGBA")

    def place(true: float, predicted: float) -> tuple[float, float]:
        inside = SIDE - 2 * MARGIN
        return MARGIN + (true - low) / span * inside, SIDE - MARGIN - (predicted - low) / span * inside

    draw.rectangle((*place(low, high), *place(high, low)), outline="black")
    draw.line((place(low, low), place(high, high)), fill=(0, 0, 0, 90))
    for true, predicted in zip(y.tolist(), p.tolist(), strict=True):
        x, up = place(true, predicted)
        draw.ellipse((x - DOT, up - DOT, x + DOT, up + DOT), fill=(30, 90, 200, 110))
    draw.text((MARGIN, 14), f"{title}: predicted over true{f', in {unit}' if unit else ''}", fill="black")
    for value in (low, (low + high) / 2, high):
        x, up = place(value, value)
        draw.text((x - 12, SIDE - MARGIN + 6), f"{value:.3g}", fill="black")
        draw.text((6, up - 6), f"{value:.3g}", fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
