"""`rankclip finetune adapter`: learn an order from labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, STORE, TALK, Shared, shared
from rankclip.errors import InputError


def register(app: typer.Typer) -> None:
    app.command("adapter", help="learn an order from labelled photos: a file of paths and values, or of winners and losers")(adapter)


@shared(ENGINE, STORE, DECODING, TALK)
def adapter(
    given: Shared,
    *,
    data: Annotated[Path | None, typer.Option("--data", metavar="FILE", help="labels: CSV, TSV or JSONL with path and value, or winner and loser")] = None,
    instruction: Annotated[str, typer.Option("--instruction", metavar="TEXT", help='what the values order by, for example "Sort by age"')] = "",
    unit: Annotated[str, typer.Option("--unit", metavar="WORD", help="unit of the values, for example years")] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="name of the head (default: the attribute)")] = "",
    size: Annotated[str, typer.Option("--size", metavar="NAME", help="full (reads patch tokens) or lite (reads embeddings)")] = "full",
    baseline: Annotated[bool, typer.Option("--baseline", help="make the ridge baseline the head, without training")] = False,
    checkpoint: Annotated[Path | None, typer.Option("--import", metavar="FILE", help="make a head from a released checkpoint of the paper's authors")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="seed of split, batches and weights")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the recipe, for example epochs=50")] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="folder of the run: log, checkpoints, report; an interrupted run goes on")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the data, say what would be trained, train nothing")] = False,
) -> None:
    tuning = registry.load("rankclip.training.tuning")
    if (data is None) == (checkpoint is None):
        raise InputError("give either --data FILE or --import FILE", hint='for example: rankclip finetune adapter --data ages.csv --instruction "Sort by age"')
    changes = {"size": size, "seed": seed, **pairs(set_ or [])}
    with console.Stop() as stop:
        progress = console.make_progress(given.settings().progress, quiet=given.quiet)
        job = tuning.AdapterJob(given.settings(), progress, stop.event, name=name, run=run, changes=changes)
        if checkpoint is not None:
            done = job.take_over(checkpoint, instruction or "Rank the numbers of objects.")
        else:
            done = job.train(data, instruction=instruction, unit=unit, baseline=baseline, dry_run=dry_run)
    for line in done.lines:
        typer.echo(line)
    if done.pack is not None and not given.quiet:
        console.say(f'rankclip: head {done.pack.name} is installed; try: rankclip rank ./photos "{done.instruction}" --explain')


def pairs(texts: list[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise InputError(f"--set {wrong[0]!r} is not NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)
