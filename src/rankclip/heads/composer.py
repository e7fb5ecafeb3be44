"""A trained composer at work: a reference photo's features and an instruction's token states -> the query. NumPy and ONNX Runtime.

A pack holds `head.onnx`: patch tokens, pooled embedding, token states (with which of them are real) and the text's embedding go in, the predicted
embedding of the photo that is looked for comes out, in the stored space, so that a gallery is never embedded again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from rankclip.errors import ModelError
from rankclip.heads.packs import Pack
from rankclip.types import Features

GRAPH = "head.onnx"
INPUTS = ("tokens", "pooled", "states", "real", "text")


@dataclass(frozen=True, slots=True)
class ComposerConfig:
    """The head's own part of the card. patches 0: it reads the pooled embedding alone."""

    kind: str
    embedding: int  # D
    patches: int  # P
    token: int  # W
    state: int  # V
    parameters: int


class ComposerHead:
    """A composer's pack, loaded on demand.

    >>> ComposerHead(packs.find("composer-mini")).compose(features, states, real, text).shape  # doctest: +SKIP
    (1, 384)
    """

    def __init__(self, pack: Pack, threads: int = 1) -> None:
        self.pack, self.threads = pack, threads
        names = [one.name for one in fields(ComposerConfig)]
        found = set(pack.card.config)
        if found != set(names):
            wrong = ", ".join(sorted(found.symmetric_difference(names)))
            raise ModelError(f"head {pack.name}: its card's config has unknown or missing keys: {wrong}", hint="install the head again")
        self.config = ComposerConfig(**pack.card.config)

    def compose(self, features: Features, states: np.ndarray, real: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Predict the embedding of the photo that is looked for.

        features: pooled [B, D] and tokens [B, P, W] of the references. states: float32 [B, T, V]. real: bool [B, T]. text: float32 [B, D].
        Returns float32 [B, D], unit rows. Raises ModelError where the head reads patch tokens and the store has none.
        """
        tokens = features.tokens
        if self.config.patches and tokens is None:
            raise ModelError(
                f"head {self.pack.name} reads patch tokens, and the store has none of the reference",
                hint="embed with --tokens, or use --composer slerp",
            )
        if tokens is None:
            tokens = np.zeros((len(text), 1, 1), np.float32)  # [B, P, W] of nothing
        given: dict[str, Any] = {"tokens": tokens, "pooled": features.pooled, "states": states, "real": real.astype(np.float32), "text": text}
        (query,) = self._session.run(["query"], {name: given[name] for name in INPUTS if name in self._inputs})  # [B, D]
        unit: np.ndarray = query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)  # [B, D]
        return unit

    @cached_property
    def _session(self) -> Any:
        return self.pack.session(GRAPH, self.threads)

    @cached_property
    def _inputs(self) -> frozenset[str]:
        """What the graph reads; a head that uses no tokens has no such input."""
        return frozenset(one.name for one in self._session.get_inputs())
