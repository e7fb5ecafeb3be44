"""`rankclip evaluate difference`: the sign test, ours and as released, and the geometry of comparing sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, HEAD, STORE, TALK, Shared, finish, shared

SCHEMA = "rankclip.evaluation/1"


def register(app: typer.Typer) -> None:
    app.command("difference", help="test whether comparing sentences point the right way: AwA2, CIFAR-100, Flowers, CUB, or your own JSONL")(difference)


@shared(HEAD, ENGINE, STORE, DECODING, TALK)
def difference(
    given: Shared,
    kind: Annotated[str, typer.Argument(metavar="SET", help="jsonl, awa2, awa2-size, cifar100-size, flowers-colour or cub; classes or captions: plain search")],
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="the set's official folder, or a JSONL file")],
    *,
    released: Annotated[bool, typer.Option("--released", help="the authors' protocol, their code's index errors included")] = False,
    untuned: Annotated[bool, typer.Option("--untuned", help="only the plain text path, without the difference head")] = False,
    json_: Annotated[bool, typer.Option("--json", help="one JSON object a test")] = False,
) -> None:
    if kind in ("classes", "captions"):
        return searches(given, kind, source, json_=json_)
    signs = registry.load("rankclip.evaluation.signs")
    tests = signs.read(kind, source, released=released)
    with console.Stop() as stop:
        collection = given.collection(sorted({path for test in tests for path in test.paths}), stop)
        reports = signs.measure(collection, tests, released=released, untuned=untuned)
        finish(given, collection, collection.report, stop, always=False)
    for report in reports:
        typer.echo(json.dumps({"schema": SCHEMA, **signs.record(report)}) if json_ else "\n".join(signs.lines(report)))


def searches(given: Shared, kind: str, source: Path, *, json_: bool) -> None:
    """Say what becomes of plain search when the head is installed."""
    searching = registry.load("rankclip.evaluation.searches")
    photos = searching.read(kind, source)
    with console.Stop() as stop:
        collection = given.collection(sorted({photo.path for photo in photos}), stop)
        found = searching.measure(collection, kind, photos)
        finish(given, collection, collection.report, stop, always=False)
    for one in found:
        typer.echo(json.dumps({"schema": SCHEMA, **searching.record(one)}) if json_ else "\n".join(searching.lines(one)))
