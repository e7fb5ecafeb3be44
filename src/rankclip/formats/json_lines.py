"""JSON Lines: one object a photo, schema rankclip.rank/1. Absent fields are left out; fields are only ever added."""

from __future__ import annotations

import base64
import json
from typing import Any, BinaryIO

from rankclip.formats.base import FormatOptions, is_text, printable, raw
from rankclip.types import Hit, Ranking

SCHEMA = "rankclip.rank/1"
DIGITS = 6


def write(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write one object a line, UTF-8 whatever the locale."""
    for hit in ranking:
        out.write(json.dumps(record(ranking, hit), ensure_ascii=False).encode() + b"\n")


def record(ranking: Ranking, hit: Hit) -> dict[str, Any]:
    """Return a photo's object; a path that is not UTF-8 comes as `path_b64`."""
    path = {"path": hit.path} if is_text(hit.path) else {"path_b64": base64.b64encode(raw(hit.path)).decode()}
    found: dict[str, Any] = {
        "schema": SCHEMA, "rank": hit.rank, **path, "score": round(hit.score, DIGITS), "cosine": rounded(hit.cosine), "percentile": rounded(hit.percentile, 2),
        "value": rounded(hit.value, 4), "unit": ranking.unit or None, "interval": None if hit.interval is None else [round(end, 4) for end in hit.interval],
        "applies": hit.applies, "taken_at": hit.taken_at, "truncated": hit.truncated or None, "photo_cosine": rounded(hit.photo_cosine),
        "text_cosine": rounded(hit.text_cosine),
        "method": ranking.method, "instruction": ranking.instruction, "references": [printable(path) for path in ranking.references] or None,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def rounded(value: float | None, digits: int = DIGITS) -> float | None:
    return None if value is None else round(value, digits)
