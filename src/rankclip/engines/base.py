"""What every engine can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rankclip.backbones.specs import Backbone
from rankclip.settings import Settings
from rankclip.types import Features


class Engine(Protocol):
    """Computes features of photos and texts in one space; arrays in, arrays out.

    Made by `Engine(backbone, settings)`; loading happens at the first call, so that an engine that is not needed costs nothing.
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, settings: Settings) -> None: ...

    def describe(self) -> str:
        """Name engine, device and precision, for the summary line: "onnx, cpu, int8"."""
        ...

    def encode_images(self, pixels: np.ndarray) -> Features:
        """pixels: uint8 [B, S, S, 3]. Returns float32 embeddings [B, D], L2-normalised, and patch tokens [B, P, W]."""
        ...

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Returns float32 [Q, D], L2-normalised."""
        ...


def text_states(engine: Engine, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return token states, float32 [Q, T, W], and which of them are real, bool [Q, T]: what trained composers read of an instruction.

    An engine whose text tower gives no states stands in with the embedding as the only state.
    """
    encode = getattr(engine, "encode_text_states", None)
    if encode is None:
        states = engine.encode_texts(texts)[:, None]  # [Q, 1, D]
        return states, np.ones(states.shape[:2], bool)
    found: tuple[np.ndarray, np.ndarray] = encode(texts)
    return found


def normalize(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length. rows: float32 [..., D]; a zero row stays zero."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
