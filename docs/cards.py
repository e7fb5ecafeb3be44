"""Tables of figures of the heads that ship with rankclip, read from their cards, so that a page says what the pack says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).resolve().parent.parent / "src/rankclip/heads/bundled"
MISSING = "not shipped yet\n"


def table(name: str) -> str:
    """Return the figures of a pack (called by generate.py for `<!-- head: NAME -->`; NAME gains: a composer's headline alone)."""
    name, _, short = name.partition(" ")
    path = BUNDLED / name / "card.json"
    if not path.is_file():
        return MISSING
    card = json.loads(path.read_text(encoding="utf-8"))
    if short == "gains":
        return "\n".join(gains(name, card["figures"])) + "\n"
    return "\n".join(ROWS[card["kind"]](card["figures"])) + "\n"


def shown(figure: dict[str, float], digits: int = 3) -> str:
    """A value with its interval.

    >>> shown({"value": 0.5, "low": 0.25, "high": 0.75})
    '0.500 [0.250, 0.750]'
    """
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def adapter(found: dict[str, Any]) -> list[str]:
    """Each task on its validation photos; degraded photos; five folds where the validation split is small (all counting is); ablations."""
    rows = ["| task | photos | SRCC | its network alone, its kernel regression alone | MAE | in the 80 % interval | best without training, SRCC |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    for task, figures in found.items():
        if "SRCC" in figures and not task.startswith("number-of"):
            best = figures["best baseline"]
            alone = ", ".join(f"{value:.3f}" for value in figures["SRCC alone"].values())
            rows.append(f"| {task} | {figures['photos']} | {shown(figures['SRCC'])} | {alone} | {figures['MAE']['value']:.3g} | {figures['coverage']:.0%} | "
                        f"{best} {figures['baselines'][best]['SRCC']:.3f} |")  # fmt: skip
    return [*rows, *degraded(found.get("degradations", {})), *folds(found.get("five folds", {})), *ablations(found.get("ablations", {}))]


def degraded(found: dict[str, Any]) -> list[str]:
    """Degraded validation photos: by fault within the series of one photo, and over all."""
    if not found:
        return []
    rows = ["", "| quality, degraded photos of the validation split | series | SRCC |", "|---|---|---|"]
    rows += [f"| one photo from clean to strongest: {name} | {one['series']} | {shown(one)} |" for name, one in found["within a photo's series"].items()]
    every = found["over all photos"]
    return [*rows, f"| all {every['photos']:,} photos at once, by strength | | {shown(every)} |"]


def folds(found: dict[str, Any]) -> list[str]:
    """The trained part and ridge on the same five folds; the mean of the counted series without intervals of its own."""
    rows = [
        "",
        "| task, five folds by content, kernel regression alone | photos | SRCC | ridge, SRCC | difference | in the 80 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for task, one in found.items():
        values = [shown(one[name]) if isinstance(one[name], dict) else f"{one[name]:.3f}" for name in ("adapter", "ridge", "difference")]
        inside = "" if one.get("coverage") is None else f"{one['coverage']:.0%}"
        rows.append(f"| {task} | {one.get('photos', '')} | {' | '.join(values)} | {inside} |")
    return rows if found else []


def ablations(found: dict[str, list[float]]) -> list[str]:
    """Each change over its seeds: mean, lowest and highest."""
    rows = ["", "| age, the network alone | SRCC, mean of the seeds | lowest, highest |", "|---|---|---|"]
    rows += [f"| {name} | {sum(values) / len(values):.3f} | {min(values):.3f}, {max(values):.3f} |" for name, values in found.items()]
    return rows if found else []


def composer(found: dict[str, Any]) -> list[str]:
    """Each part of the validation triplets: what needs no training, and the head."""
    rows = ["| triplets | composer | R@1 | R@10 | the reference itself first |", "|---|---|---|---|---|"]
    for part, figures in found.items():
        for one, values in measured(figures):
            rows.append(f"| {part} | {one} | {shown(values['R@1'])} | {shown(values['R@10'])} | {values['reference first']['value']:.3f} |")
        if "gain" in figures:
            over = f"{figures['queries']:,} queries over {figures['gallery']:,} photos"
            rows.append(f"| {part}: {over} | head minus {figures['best without training']} | | {shown(figures['gain'])} | |")
        elif "Spearman" in figures:
            rows += [
                "",
                f"Where no change is asked for, Spearman of the head alone with image search: {shown(figures['Spearman'])} ({figures['queries']} queries).",
            ]
    return rows


def gains(name: str, found: dict[str, Any]) -> list[str]:
    """A composer's headline: for each part of the validation triplets what is best without training, the head, and the difference."""
    rows = [
        f"| `{name}` on | queries, photos | best without training, R@10 | head, R@10 | difference | the reference itself first |",
        "|---|---|---|---|---|---|",
    ]
    for part, one in found.items():
        if "gain" in one:
            best, head = one[one["best without training"]], one["head"]
            rows.append(f"| {part} | {one['queries']:,}, {one['gallery']:,} | {one['best without training']} {shown(best['R@10'])} | {shown(head['R@10'])} | "
                        f"{shown(one['gain'])} | {head['reference first']['value']:.1%} |")  # fmt: skip
    return rows


def measured(figures: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, values in figures.items():
        if isinstance(values, dict) and "R@10" in values:
            yield name, values


ROWS: dict[str, Callable[[dict[str, Any]], list[str]]] = {"adapter": adapter, "composer": composer}
