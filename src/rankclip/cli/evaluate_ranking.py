"""`rankclip evaluate ranking`: measure an order against labels."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, HEAD, STORE, TALK, Shared, finish, shared
from rankclip.errors import InputError

SCHEMA = "rankclip.evaluation/1"
SETS = ("csv", "utkface", "adience", "hci", "koniq", "ava", "coco-rem")
LOOSE = {name: FILES[name] for name in ("hidden", "strict")}


def register(app: typer.Typer) -> None:
    app.command("ranking", help="measure an order against labels: your own CSV, UTKFace, Adience, HCI, KonIQ-10k, AVA, COCO-REM")(ranking)


@shared(HEAD, ENGINE, STORE, DECODING, TALK, LOOSE)
def ranking(
    given: Shared,
    kind: Annotated[str, typer.Argument(metavar="SET", help=", ".join(SETS))],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="the set's label file or folder")],
    *,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="folder of the pictures (default: that of the labels)")] = None,
    instruction: Annotated[str, typer.Option("--instruction", metavar="TEXT", help="what to order by, where the set does not say")] = "",
    method: Annotated[str, typer.Option("--method", metavar="NAME", help=f"auto, {', '.join(registry.METHODS)}")] = "auto",
    baselines: Annotated[bool, typer.Option("--baselines", help="also what needs no adapter, out of fold: ridge, extremes, prompts, tuned CLIP")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="measure what is there when photos are missing")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="write a scatter plot (PNG) of the first instruction")] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object for each instruction")] = False,
) -> None:
    orders = registry.load("rankclip.evaluation.orders")
    found = orders.read(kind, labels, images=images, instruction=instruction)
    reports, beside = [], []
    with console.Stop() as stop:
        for one in found:
            here = [row.path for row in one.rows if Path(row.path).exists()]
            if not here:
                raise InputError(
                    f"{one.name}: none of its {len(one.rows):,} photos is there", hint=orders.SOURCES.get(kind, "paths start at the label file's folder")
                )
            collection = given.collection(here, stop)
            reports.append(orders.measure(collection, one, method=method, partial=partial))
            beside.append(registry.load("rankclip.training.held_out").reports(collection, one) if baselines else [])
            finish(given, collection, collection.report, stop, always=False)
    for report in (one for main, others in zip(reports, beside, strict=True) for one in (main, *others)):
        typer.echo(jsonlib.dumps(record(report)) if json else "\n".join(lines(report)))
    if len(reports) > 1:
        mean, skipped = orders.mean_over(reports)
        said = "; ".join(f"{name} {value:.3f}" for name, value in mean.items())
        typer.echo(
            jsonlib.dumps({"schema": SCHEMA, "name": "mean", "metrics": mean, "skipped": skipped})
            if json
            else f"mean of {len(reports)}: {said}; without correlation: {skipped}"
        )
    if plot is not None:
        first = reports[0]
        with console.results(str(plot)) as out:
            out.write(registry.load("rankclip.evaluation.plots").scatter(first.values, first.predictions, title=first.instruction, unit=found[0].unit))


def record(report: Any) -> dict[str, Any]:
    """Return a report's object."""
    metrics = {name: {part: round(value, 6) for part, value in asdict(one).items()} for name, one in report.figures.items()}
    return {"schema": SCHEMA, "name": report.name, "instruction": report.instruction, "method": report.method, "photos": report.photos,
            "missing": report.missing, "metrics": metrics}  # fmt: skip


def lines(report: Any) -> list[str]:
    """A report for people, with 95 % intervals."""
    missing = f", {report.missing:,} missing" if report.missing else ""
    return [f"{report.name}: {report.instruction!r}, method {report.method}, {report.photos:,} photos{missing}",
            *(f"  {name:<25} {one.value:8.3f}   [{one.low:.3f}, {one.high:.3f}]" for name, one in report.figures.items())]  # fmt: skip
