"""Tables of docs/performance.md, from what benchmarks/run.py recorded; a figure that nobody has measured says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks/results"
MISSING = "not measured yet"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what, its target, and which recorded figure answers. `memory` is the target for the peak in MiB, 0: none."""

    what: str
    target: float
    file: str
    figure: str
    memory: int = 0
    at_least: bool = False


TABLES = {
    "queries": (
        Row("`--help`, the slowest of all commands", 0.25, "startup", "help"),
        Row("seen instruction, 100,000 rows, `--top 20`", 0.25, "rank_store", "100000-seen-top", 200),
        Row("seen instruction, 100,000 rows, all paths", 0.4, "rank_store", "100000-seen-all", 200),
        Row("new instruction, 100,000 rows, `--top 20`", 0.5, "rank_store", "100000-new-top"),
        Row("seen instruction, 1,000,000 rows, `--top 20`", 0.4, "rank_store", "1000000-seen-top", 600),
        Row("seen instruction, 1,000,000 rows, all paths", 2.0, "rank_store", "1000000-seen-all", 600),
        Row("`compose-search` with the bundled head, a new change of a stored photo, 100,000 rows, `--top 20`", 0.6, "compose_store", "100000-head"),
        Row("the same with a photo that the store does not know", 0.6, "compose_store", "100000-head-new-photo"),
        Row("the shipped adapter for the first time, the slowest of six of its tasks, 10,000 rows, all paths", 12.0, "adapter_store", "10000-first"),
        Row("the same again, 10,000 rows, all paths", 0.25, "adapter_store", "10000-again"),
        Row("`embed` over 20,000 unchanged files", 0.45, "scan", "20000-embed"),
    ),
    "embedding": (
        Row("12-megapixel JPEGs, ViT-B-32-256 with random weights: CPU seconds a photo", 0.072, "embed", "vit-12-cpu"),
        Row("12-megapixel JPEGs, rankclip-mini: CPU seconds a photo", 0.060, "embed", "mini-12-cpu"),
        Row("12-megapixel JPEGs, rankclip-mini: photos a second", 33, "embed", "mini-12-rate", at_least=True),
        Row("0.5-megapixel JPEGs, rankclip-mini: CPU seconds a photo", 0.022, "embed", "mini-0.5-cpu"),
        Row("all processes of `embed`, rankclip-mini, 12-megapixel JPEGs: MiB (PSS)", 450, "embed", "mini-12-pss"),
    ),
}


def recorded(file: str) -> dict[str, Any]:
    path = RESULTS / f"{file}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"figures": []}


def line(row: Row) -> str:
    """One row of a table: as measured, and the processor time beside the floor of the same run."""
    target = f"{'at least' if row.at_least else 'at most'} {row.target:g}" + (f", {row.memory} MiB" if row.memory else "")
    found = next((one for one in recorded(row.file)["figures"] if one["name"] == row.figure), None)
    if found is None:
        return f"| {row.what} | {target} | {MISSING} | | | |"
    value = f"{found['value']:.3g}" + (f", {found['more']['peak_mib']:.0f} MiB" if row.memory else "")
    cpu = found["more"].get("cpu", 0)
    floor = (f"{cpu:.3g}", f"{found['floor']:.3g}", f"{cpu / found['floor']:.2f}") if found["floor"] else ("", "", "")
    return f"| {row.what} | {target} | {value} | {' | '.join(floor)} |"


def table(name: str) -> str:
    """Return a table with its head (called by generate.py for `<!-- figures: NAME -->`)."""
    return "\n".join(["| what | target | measured | CPU s | floor, CPU s | ratio |", "|---|---|---|---|---|---|", *(line(row) for row in TABLES[name])]) + "\n"


def machines(_: str) -> str:
    """Say on what, and when, the figures were measured."""
    lines = []
    for file in sorted(path.stem for path in RESULTS.glob("*.json")):
        found = recorded(file)
        machine = found["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number != "-")
        lines.append(f"- `{file}`: {found['date']}, {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, load {machine['load']:g}; "
                     f"Python {machine['python']}, {versions}")  # fmt: skip
    return "\n".join(lines or [MISSING]) + "\n"
