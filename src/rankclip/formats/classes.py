"""What `classify` found, as a table or JSON lines (schema rankclip.classify/1)."""

from __future__ import annotations

import base64
import json
from typing import BinaryIO

import numpy as np

from rankclip.collection.classifying import Classification
from rankclip.formats.base import is_text, printable, raw

SCHEMA = "rankclip.classify/1"
SHOWN = 5  # classes of a photo in JSON, likeliest first


def write_table(found: Classification, out: BinaryIO) -> None:
    """Write class, probability and path, by tabs."""
    for place, path in enumerate(found.paths):
        best = int(found.best[place])
        out.write(f"{found.classes[best]}\t{found.probabilities[place, best]:.3f}\t{printable(path)}\n".encode("utf-8", "replace"))


def write_json(found: Classification, out: BinaryIO) -> None:
    """Write one object a photo."""
    for place, path in enumerate(found.paths):
        row = found.probabilities[place]  # float32 [C]
        order = np.argsort(-row, kind="stable")[:SHOWN]
        record = {
            "schema": SCHEMA, **({"path": path} if is_text(path) else {"path_b64": base64.b64encode(raw(path)).decode()}),
            "class": found.classes[int(found.best[place])], "probability": round(float(row[found.best[place]]), 4),
            "classes": [{"class": found.classes[i], "probability": round(float(row[i]), 4)} for i in order.tolist()], "alpha": found.alpha,
        }  # fmt: skip
        out.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
