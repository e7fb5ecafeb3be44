"""`rankclip compose-search`: photos like this one, with a change that a sentence asks for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, FILTERS, HEAD, OUTPUT, STORE, TALK, Shared, finish, read_instructions, shared
from rankclip.cli.output import answer, deliver, filters, format_of
from rankclip.errors import InputError

EXAMPLE = 'for example: rankclip compose-search ./photos dog.jpg "the same but in snow"'


def register(app: typer.Typer) -> None:
    app.command("compose-search", help="find photos like a reference, with a change asked for in words")(compose_search)


@shared(FILTERS, OUTPUT, FILES, HEAD, ENGINE, STORE, DECODING, TALK)
def compose_search(
    given: Shared,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH... REFERENCE INSTRUCTION", help="folders to search, the photo to start from, what to change", show_default=False),
    ] = None,
    *,
    composer: Annotated[str, typer.Option("--composer", metavar="NAME", help=f"auto, {', '.join(registry.COMPOSERS)}, mllm or mllm:NAME")] = "auto",
    strength: Annotated[float | None, typer.Option("--strength", metavar="X", help="0: like the photo ... 1: what the text says")] = None,
    ref: Annotated[list[str] | None, typer.Option("--ref", metavar="[W:]PHOTO", help="another reference, with a weight")] = None,
    also: Annotated[list[str] | None, typer.Option("--and", metavar="[W:]TEXT", help="another change, with a weight")] = None,
    with_reference: Annotated[bool, typer.Option("--with-reference", help="keep the reference and its near-duplicates in the result")] = False,
    instructions: Annotated[str | None, typer.Option("--instructions", metavar="FILE", help="many instructions, one a line, - for stdin; writes JSONL")] = None,
) -> None:
    chosen = format_of(given, many=instructions is not None)
    paths, reference, texts = split_words(words or [], given, instructions)
    with console.Stop() as stop:
        collection = given.collection(paths, stop)
        rankings = collection.compose_all(reference, texts, composer=composer, strength=strength, refs=ref or (), ands=also or (),
                                          with_reference=with_reference, details=given.explain or chosen != "paths", **filters(given, chosen))  # fmt: skip
        stop.check(collection.report, collection.report.due)
        deliver(rankings, chosen, given)
        finish(given, collection, collection.report, stop, always=False)
    answer(rankings, given)


def split_words(words: list[str], given: Shared, instructions: str | None) -> tuple[list[str], str, list[str]]:
    """Tell paths, reference and instruction apart: the last word is the instruction, the one before it the reference."""
    if instructions is not None:
        texts = read_instructions(instructions)
    elif words and os.path.lexists(words[-1]):
        raise InputError(f"{words[-1]!r} is a path: the instruction is missing", hint=EXAMPLE)
    else:
        texts, words = words[-1:], words[:-1]
    if not words:
        raise InputError("a reference photo and an instruction are missing" if not texts else "a reference photo is missing", hint=EXAMPLE)
    return words[:-1] if len(words) > 1 or given.files_from else ["."], words[-1], texts
