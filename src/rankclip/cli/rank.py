"""`rankclip rank`: put photos in the order an instruction asks for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, FILTERS, HEAD, OUTPUT, STORE, TALK, Shared, among, finish, read_instructions, shared
from rankclip.cli.output import answer, deliver, filters, format_of
from rankclip.errors import InputError

METHODS = ("auto", *registry.METHODS)


def register(app: typer.Typer) -> None:
    app.command("rank", help="order photos by an instruction, best first")(rank)


@shared(FILTERS, OUTPUT, FILES, ENGINE, HEAD, STORE, DECODING, TALK)
def rank(
    given: Shared,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="PATH... INSTRUCTION", help="folders and files, then the instruction", show_default=False)
    ] = None,
    *,
    method: Annotated[str, typer.Option("--method", metavar="NAME", help=", ".join(METHODS), autocompletion=among(METHODS))] = "auto",
    plus: Annotated[list[str] | None, typer.Option("--plus", metavar="[W:]WHAT", help="add a text or photo, with a weight")] = None,
    minus: Annotated[list[str] | None, typer.Option("--minus", metavar="[W:]WHAT", help="subtract a text or photo")] = None,
    low: Annotated[str, typer.Option("--low", metavar="PHOTO", help="a photo that should come late; with --high it turns the order")] = "",
    high: Annotated[str, typer.Option("--high", metavar="PHOTO", help="a photo that should come early")] = "",
    instructions: Annotated[str | None, typer.Option("--instructions", metavar="FILE", help="many instructions, one a line, - for stdin; writes JSONL")] = None,
) -> None:
    chosen = format_of(given, many=instructions is not None)
    paths, texts = split_words(words or [], given, instructions)
    with console.Stop() as stop:
        collection = given.collection(paths, stop)
        details = chosen != "paths" or given.html is not None
        rankings = collection.rank_all(texts, method=method, plus=plus or (), minus=minus or (), low=low, high=high, details=details,
                                       **filters(given, chosen))  # fmt: skip
        stop.check(collection.report, collection.report.due)
        deliver(rankings, chosen, given)
        finish(given, collection, collection.report, stop, always=False)
    answer(rankings, given)


def split_words(words: list[str], given: Shared, instructions: str | None) -> tuple[list[str], list[str]]:
    """Tell paths from the instruction: the last word is the instruction, unless it is a path that exists."""
    if instructions is not None:
        texts = read_instructions(instructions)
        return words, texts
    if not words:
        raise InputError("an instruction is missing", hint='for example: rankclip rank ./photos "older faces first"')
    if os.path.lexists(words[-1]) and words[-1] not in ("",):
        raise InputError(f"{words[-1]!r} is a path: the instruction is missing", hint=f'for example: rankclip rank {words[-1]} "older faces first"')
    return words[:-1] if len(words) > 1 or given.files_from else ["."], [words[-1]]
