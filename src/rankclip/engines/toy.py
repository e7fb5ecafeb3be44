"""The toy engine: colour words rank coloured pictures, in milliseconds and without weights.

It ships, so that tests, docs and the first try run the real program with answers that a person can check: "red" puts the red square
first. A photo's embedding is a soft histogram over named colours (and how bright and how vivid it is); a text's embedding adds up the
colours it names.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from rankclip.backbones.specs import Backbone
from rankclip.engines.base import normalize
from rankclip.settings import Settings
from rankclip.types import Features

COLOURS = {
    "red": (220, 30, 30), "orange": (240, 140, 20), "yellow": (240, 230, 40), "green": (40, 160, 50), "blue": (30, 60, 210), "purple": (130, 40, 170),
    "pink": (250, 150, 190), "brown": (120, 70, 30), "black": (8, 8, 8), "white": (248, 248, 248), "grey": (128, 128, 128),
}  # fmt: skip
# position in the embedding: colours first, then bright, dark, vivid, dull, and one that every text and photo shares
WORDS = {name: i for i, name in enumerate([*COLOURS, "bright", "dark", "vivid", "dull"])}
WORDS |= {"gray": WORDS["grey"], "brighter": WORDS["bright"], "brightest": WORDS["bright"], "darker": WORDS["dark"], "darkest": WORDS["dark"],
          "light": WORDS["bright"], "colourful": WORDS["vivid"], "colorful": WORDS["vivid"], "redder": WORDS["red"], "bluer": WORDS["blue"],
          "greener": WORDS["green"], "reddest": WORDS["red"], "bluest": WORDS["blue"], "greenest": WORDS["green"], "unsaturated": WORDS["dull"]}  # fmt: skip
SHARED = 15
SOFTNESS = 60.0  # RGB distance over which a pixel still counts as a colour
PROTOTYPES = np.array(list(COLOURS.values()), np.float32)


class ToyEngine:
    """Needs nothing, knows eleven colours."""

    def __init__(self, backbone: Backbone, settings: Settings) -> None:
        self.backbone = backbone

    def describe(self) -> str:
        return "toy, cpu, fp32"

    def encode_images(self, pixels: np.ndarray) -> Features:
        """See `Engine`; the tokens are the same histogram over the four quarters of the picture."""
        half = pixels.shape[1] // 2
        quarters = [pixels[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        tokens = np.stack([_histogram(quarter) for quarter in quarters], axis=1)  # [B, 4, D]
        return Features(normalize(tokens.mean(axis=1)), tokens)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """See `Engine`."""
        return normalize(np.stack([_bag(text) for text in texts]))


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, 3] -> float32 [B, 16]."""
    flat = pixels.reshape(len(pixels), -1, 3).astype(np.float32)  # [B, M, 3]
    distances = np.linalg.norm(flat[:, :, None] - PROTOTYPES, axis=-1)  # [B, M, 11]
    near = np.exp(-((distances / SOFTNESS) ** 2))
    shares = (near / (near.sum(axis=-1, keepdims=True) + 1e-6)).mean(axis=1)  # [B, 11]
    bright = flat.mean(axis=(1, 2)) / 255  # [B]
    vivid = (flat.max(axis=-1) - flat.min(axis=-1)).mean(axis=1) / 255  # [B]
    rest = np.stack([bright, 1 - bright, vivid, 1 - vivid, np.full(len(flat), 0.5)], axis=1) * 0.4  # [B, 5]
    return np.concatenate([shares, rest], axis=1).astype(np.float32)


def _bag(text: str) -> np.ndarray:
    """text -> float32 [16]; unknown words leave a faint trace of their own, so that different texts differ."""
    vector = np.zeros(16, np.float32)
    vector[SHARED] = 0.3
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in WORDS:
            vector[WORDS[word]] += 1.0
        else:
            digest = hashlib.blake2b(word.encode(), digest_size=16).digest()
            vector[:SHARED] += (np.frombuffer(digest, np.uint8)[:SHARED].astype(np.float32) / 255 - 0.5) * 0.02
    return vector
