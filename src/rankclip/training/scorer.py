"""Score rows of a feature table by an exported graph: what was written is what is measured."""

from __future__ import annotations

import numpy as np
import onnxruntime

from rankclip.training.tasks import Data


def graph_scores(graph: bytes, data: Data, rows: np.ndarray, instruction: str, batch: int = 64) -> np.ndarray:
    """Scores, float32 [n], standardised."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    states, mask = data.states[instruction]
    lite = "tokens" not in wanted
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        feed = {
            "tokens": None if lite else data.features.tokens(some),
            "text": data.texts[instruction][None, None] if lite else states[None],
            "mask": np.ones((1, 1), bool) if lite else mask[None],
            "facts": np.nan_to_num(data.features.facts[some]),
            "pooled": data.features.pooled[some],
        }
        out[start : start + batch] = session.run(["score"], {name: value for name, value in feed.items() if name in wanted})[0]
    return out
