"""`rankclip evaluate composition`: measure a composer on a published benchmark or on triplets of your own."""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, HEAD, STORE, TALK, Shared, finish, shared
from rankclip.errors import InputError

SCHEMA = "rankclip.evaluation/1"
KINDS = ("fashioniq", "cirr", "circo", "genecis", "triplets")
LOOSE = {name: FILES[name] for name in ("hidden", "follow_links", "strict")}


def register(app: typer.Typer) -> None:
    app.command("composition", help="measure a composer: FashionIQ, CIRR, CIRCO, GeneCIS, or triplets of your own")(composition)


@shared(HEAD, ENGINE, STORE, DECODING, TALK, LOOSE)
def composition(
    given: Shared,
    kind: Annotated[str, typer.Argument(metavar="BENCHMARK", help=", ".join(KINDS))],
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="the benchmark's folder or file; for triplets a JSONL file")],
    *,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="folder of the pictures (default: that of the annotations)")] = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="val, test, test1")] = "val",
    composer: Annotated[str, typer.Option("--composer", metavar="NAME", help=f"auto, {', '.join(registry.COMPOSERS)}, mllm or mllm:NAME")] = "auto",
    strength: Annotated[float | None, typer.Option("--strength", metavar="X", help="0: like the photo ... 1: what the text says")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="measure what is there when photos are missing")] = False,
    submission: Annotated[Path | None, typer.Option("--submission", metavar="DIR", help="write the files for CIRR's or CIRCO's server")] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a gallery")] = False,
) -> None:
    if kind not in KINDS:
        raise InputError(f"unknown benchmark {kind!r}", hint=f"valid: {', '.join(KINDS)}")
    folder = images or (annotations if annotations.is_dir() else annotations.parent)
    with console.Stop() as stop:
        collection = given.collection([os.fspath(folder)], stop)
        measured = registry.load("rankclip.evaluation.protocol").measure(
            collection, kind, annotations, split, composer=composer, strength=strength, partial=partial, submission=submission
        )
        finish(given, collection, collection.report, stop, always=False)
    for report in measured.reports:
        typer.echo(jsonlib.dumps(record(report)) if json else "\n".join(lines(report)))
    if len(measured.reports) > 1:
        typer.echo(jsonlib.dumps({"schema": SCHEMA, "benchmark": kind, "name": "mean", "metrics": measured.mean}) if json else mean_line(measured.mean))
    for path, size in measured.written:
        console.say(f"rankclip: for the server: {path} ({size:,} bytes)")


def record(report: Any) -> dict[str, Any]:
    """Return a report's object."""
    metrics = {name: {"value": round(one.value, 6), "low": round(one.low, 6), "high": round(one.high, 6)} for name, one in report.figures.items()}
    return {"schema": SCHEMA, "benchmark": report.benchmark, "name": report.name, "composer": report.composer, "model": report.model,
            "queries": report.queries, "gallery": report.gallery, "left_out": report.left_out, "metrics": metrics}  # fmt: skip


def lines(report: Any) -> list[str]:
    """A report for people, shares in per cent with their 95 % intervals."""
    out = f", {report.left_out:,} queries left out" if report.left_out else ""
    found = [f"{report.benchmark} {report.name}: {report.queries:,} queries, {report.gallery:,} photos, composer {report.composer}, {report.model}{out}"]
    for name, one in report.figures.items():
        scale = 1 if name == "place" else 100
        found.append(f"  {name:<24} {scale * one.value:6.1f}   [{scale * one.low:.1f}, {scale * one.high:.1f}]")
    return found


def mean_line(mean: dict[str, float]) -> str:
    return "mean: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in mean.items())
