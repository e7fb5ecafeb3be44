"""Picture -> the tower's input: uint8 RGB [S, S, 3]. The one place where geometry happens, for every engine.

`crop` is CLIP's way (short side to S, bicubic, centre crop) and equals open_clip's pixels bit for bit; `squash` resizes both
sides to S, so that nothing at the edges is lost; `inside` keeps the shape within S x S (thumbnails).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from rankclip.types import InputSpec

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def fit(picture: Image.Image, spec: InputSpec) -> np.ndarray:
    """Resize an RGB picture to the tower's input, uint8 [S, S, 3] (smaller on one side for `inside`)."""
    assert picture.mode == "RGB", picture.mode
    size, resample = spec.size, FILTERS[spec.filter]
    if spec.mode == "squash":
        return np.asarray(picture.resize((size, size), resample))
    width, height = picture.size
    if spec.mode == "inside":
        scale = min(size / width, size / height, 1.0)
        return np.asarray(picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), resample))
    # torchvision's rule: the short side becomes S, the long side is cut to a whole number
    wide, high = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    if (wide, high) != (width, height):
        picture = picture.resize((wide, high), resample)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))
