"""`rankclip finetune composer`: learn what a reference photo becomes after an instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, STORE, TALK, Shared, shared
from rankclip.errors import InputError

EXAMPLE = "for example: rankclip finetune composer --data triplets.jsonl"


def register(app: typer.Typer) -> None:
    app.command("composer", help="learn to search with a photo and a change: from triplets, or from captions alone")(composer)


@shared(ENGINE, STORE, DECODING, TALK)
def composer(
    given: Shared,
    *,
    data: Annotated[Path | None, typer.Option("--data", metavar="FILE", help="triplets: JSONL with reference, instruction, target and/or caption")] = None,
    captions: Annotated[Path | None, typer.Option("--captions", metavar="FILE", help="lines with path and captions; alone, rules write the triplets")] = None,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="folder that the paths are below (default: that of the file)")] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="name of the head")] = "composer",
    kind: Annotated[str, typer.Option("--kind", metavar="NAME", help="combiner, transformer or flow")] = "combiner",
    mllm: Annotated[str, typer.Option("--mllm", metavar="NAME", help="tune this multimodal language model instead of a small head (docs/mllm.md)")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="change a setting of the recipe, for example epochs=10")] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="folder of the run: log and checkpoints; an interrupted run goes on")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="write the head there instead of installing it")] = None,
    writer: Annotated[str, typer.Option("--writer", metavar="URL", help="let a language model write instructions: an OpenAI-compatible endpoint")] = "",
    writer_model: Annotated[str, typer.Option("--writer-model", metavar="NAME", help="its model")] = "",
    writer_photos: Annotated[int, typer.Option("--writer-photos", metavar="N", help="captions to ask about")] = 1_000,
    writer_tokens: Annotated[int, typer.Option("--writer-tokens", metavar="N", help="stop asking after so many tokens, 0 for no limit")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the data, say what would be trained, train nothing")] = False,
) -> None:
    if data is None and captions is None:
        raise InputError("give --data FILE, --captions FILE, or both", hint=EXAMPLE)
    if bool(writer) != bool(writer_model) or (writer and (captions is None or data is not None)):
        raise InputError("--writer goes with --writer-model and --captions, and not with --data", hint="the model is shown captions, never photos")
    with console.Stop() as stop:
        progress = console.make_progress(given.settings().progress, quiet=given.quiet)
        small = registry.load("rankclip.training.composer_job").ComposerJob
        where = {"name": name, "run": run, "images": images, "output": output}
        job = small(given.settings(), progress, stop.event, **where, changes={"kind": kind, **assigned(set_ or [])})
        written = job.write_triplets(captions, writer, writer_model, count=writer_photos, token_limit=writer_tokens) if writer else None
        if mllm:
            large = registry.load("rankclip.training.mllm_job").MllmJob
            job = large(given.settings(), progress, stop.event, mllm, **where, changes=assigned(set_ or []))
        done = job.train(data, captions, written=written, dry_run=dry_run)
    for line in done.lines:
        typer.echo(line)
    if done.pack is not None and not given.quiet:
        use = f" --model mllm:{done.pack.folder if output else done.pack.name}" if mllm else ""
        console.say(
            f'rankclip: head {done.pack.name} is in {done.pack.folder}; try: rankclip compose-search ./photos photo.jpg "the same at night"{use} --explain'
        )


def assigned(texts: list[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    for text in texts:
        if "=" not in text:
            raise InputError(f"--set {text!r} is not NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)
