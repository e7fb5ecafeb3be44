"""`rankclip finetune difference`: teach the text side what differs between two photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, STORE, TALK, Shared, shared
from rankclip.errors import InputError


def register(app: typer.Typer) -> None:
    app.command("difference", help="learn to compare two photos, from captions or from sentences about pairs")(difference)


@shared(ENGINE, STORE, DECODING, TALK)
def difference(
    given: Shared,
    *,
    captions: Annotated[
        Path | None, typer.Option("--captions", metavar="FILE", help="captioned photos, JSONL with path and captions; rules make the sentences")
    ] = None,
    pairs: Annotated[Path | None, typer.Option("--pairs", metavar="FILE", help="sentences about pairs, JSONL with a, b and text: how a differs from b")] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="name of the head")] = "difference",
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="map (ours), whole, authors, lowrank or control")] = "map",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the recipe, for example epochs=3")] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="folder of the run: log and checkpoints; an interrupted run goes on")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="write the head there instead of installing it")] = None,
    writer: Annotated[str, typer.Option("--writer", metavar="URL", help="let a language model write the sentences: an OpenAI-compatible endpoint")] = "",
    writer_model: Annotated[str, typer.Option("--writer-model", metavar="NAME", help="its model")] = "",
    writer_pairs: Annotated[int, typer.Option("--writer-pairs", metavar="N", help="pairs to ask about")] = 1_000,
    writer_tokens: Annotated[int, typer.Option("--writer-tokens", metavar="N", help="stop asking after so many tokens, 0 for no limit")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be trained on, train nothing")] = False,
) -> None:
    comparing = registry.load("rankclip.training.comparing")
    if bool(writer) != bool(writer_model):
        raise InputError("--writer and --writer-model go together", hint="for example: --writer http://localhost:11434/v1 --writer-model llama3.1")
    if writer and captions is None:
        raise InputError("--writer needs --captions FILE", hint="the model is shown captions, never photos")
    with console.Stop() as stop:
        progress = console.make_progress(given.settings().progress, quiet=given.quiet)
        job = comparing.DifferenceJob(given.settings(), progress, stop.event, name=name, run=run, changes={"recipe": recipe, **assigned(set_ or [])})
        if writer:
            pairs = job.write_sentences(captions, writer, writer_model, count=writer_pairs, token_limit=writer_tokens)
        done = job.train(captions, pairs, output=output, dry_run=dry_run)
    for line in done.lines:
        typer.echo(line)
    if done.pack is not None and not given.quiet:
        console.say(f"rankclip: head {done.pack.name} is in {done.pack.folder}; try: rankclip diff A.jpg B.jpg")


def assigned(texts: list[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    for text in texts:
        if "=" not in text:
            raise InputError(f"--set {text!r} is not NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)
