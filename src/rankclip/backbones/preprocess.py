"""Pixels -> what a torch tower eats. Geometry is `photos.fit`; here only scale, mean and deviation, in the order torchvision applies them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def to_float(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 [B, S, S, 3] -> float32 [B, 3, S, S], (x / 255 - mean) / std, bit-equal to open_clip's transform."""
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)  # [B, 3, S, S]
    centre, spread = (np.array(values_, np.float32)[None, :, None, None] for values_ in (mean, std))
    return np.ascontiguousarray((values - centre) / spread)
