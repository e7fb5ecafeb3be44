"""`rankclip rank`: put photos in the order an instruction asks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, STORE, TALK, Shared, finish, read_paths, shared
from rankclip.errors import InputError
from rankclip.formats.base import FormatOptions, printable
from rankclip.types import Ranking

FIRST = 20  # photos shown on a terminal
NO_MATCH = 10  # exit code of --check


def register(app: typer.Typer) -> None:
    app.command("rank", help="order photos by an instruction, best first")(rank)


@shared(FILES, ENGINE, STORE, DECODING, TALK)
def rank(
    given: Shared,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="PATH... INSTRUCTION", help="folders and files, then the instruction", show_default=False)
    ] = None,
    *,
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="auto, similarity or direction")] = "auto",
    top: Annotated[int | None, typer.Option("--top", "-n", metavar="N", help="only the first N (20 on a terminal)")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of them on a terminal, too")] = False,
    bottom: Annotated[int | None, typer.Option("--bottom", metavar="N", help="only the last N")] = None,
    min_percentile: Annotated[float | None, typer.Option("--min-percentile", metavar="P", help="only photos better than P per cent of the gallery")] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", metavar="X", help="only photos with at least this score")] = None,
    plus: Annotated[list[str] | None, typer.Option("--plus", metavar="[W:]WHAT", help="add a text or photo, with a weight")] = None,
    minus: Annotated[list[str] | None, typer.Option("--minus", metavar="[W:]WHAT", help="subtract a text or photo")] = None,
    unique: Annotated[bool, typer.Option("--unique", help="one path for each content")] = False,
    no_scan: Annotated[bool, typer.Option("--no-scan", help="take the store as it is, without looking at the disk")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="exact scores for every photo, not only the first 1,000")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="say how the instruction was understood")] = False,
    instructions: Annotated[str | None, typer.Option("--instructions", metavar="FILE", help="many instructions, one a line, - for stdin; writes JSONL")] = None,
    format: Annotated[str | None, typer.Option("--format", "-f", metavar="NAME", help="table, paths, tsv, csv, jsonl or html")] = None,
    json: Annotated[bool, typer.Option("--json", help="the same as --format jsonl")] = False,
    print0: Annotated[bool, typer.Option("--print0", "-0", help="plain paths ended by NUL")] = False,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="write the result to FILE")] = None,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="also write a contact sheet")] = None,
    link_to: Annotated[str | None, typer.Option("--link-to", metavar="DIR", help="make numbered links in DIR")] = None,
    copy_to: Annotated[str | None, typer.Option("--copy-to", metavar="DIR", help="copy the photos to DIR under numbered names")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what --link-to or --copy-to would do")] = False,
    check: Annotated[bool, typer.Option("--check", help="print nothing; exit 0 if a photo passes, else 10")] = False,
) -> None:
    chosen = choose_format(format, json=json or instructions is not None, print0=print0, output=output)
    paths, texts = split_words(words or [], given, instructions)
    if chosen == "table" and not everything and top is None and bottom is None:
        top = FIRST
    with console.Stop() as stop:
        collection = given.collection(paths, stop)
        rankings = collection.rank_all(texts, scan=not no_scan, unique=unique, method=method, top=top, bottom=bottom, min_percentile=min_percentile,
                                       min_score=min_score, exact=exact, plus=plus or (), minus=minus or (),
                                       details=chosen != "paths" or html is not None)  # fmt: skip
        stop.check(collection.report, collection.report.new + len(collection.report.failures))
        if not check:
            write(rankings, chosen, FormatOptions(null=print0), output)
            for ranking in rankings:
                act(ranking, html=html, link_to=link_to, copy_to=copy_to, dry_run=dry_run)
                if explain and not given.quiet:
                    say_explanation(ranking)
        finish(given, collection, collection.report, stop, always=False)
    if check and not any(len(ranking) for ranking in rankings):
        raise typer.Exit(NO_MATCH)


def choose_format(format: str | None, *, json: bool, print0: bool, output: str | None) -> str:
    """Settle on a format: what is asked for, else a table on a terminal and plain paths in a pipe."""
    if json and (print0 or format not in (None, "jsonl")):
        raise InputError("--json cannot be combined with -0 or another --format")
    if print0 and format not in (None, "paths"):
        raise InputError("-0 gives plain paths and cannot be combined with another --format")
    if format is not None:
        registry.check_name(registry.FORMATS, format, what="format")
    automatic = "table" if output is None and console.is_terminal(sys.stdout) else "paths"
    return "jsonl" if json else "paths" if print0 else format or automatic


def split_words(words: list[str], given: Shared, instructions: str | None) -> tuple[list[str], list[str]]:
    """Tell paths from the instruction: the last word is the instruction, unless it is a path that exists."""
    if instructions is not None:
        texts = [text for text in read_paths(instructions, null=False) if text.strip()]
        return words, texts
    if not words:
        raise InputError("an instruction is missing", hint='for example: rankclip rank ./photos "older faces first"')
    if os.path.lexists(words[-1]) and words[-1] not in ("",):
        raise InputError(f"{words[-1]!r} is a path: the instruction is missing", hint=f'for example: rankclip rank {words[-1]} "older faces first"')
    return words[:-1] if len(words) > 1 or given.files_from else ["."], [words[-1]]


def write(rankings: Sequence[Ranking], name: str, options: FormatOptions, output: str | None) -> None:
    """Write the rankings to stdout or a file."""
    to_terminal = output is None and console.is_terminal(sys.stdout)
    if to_terminal:
        options = FormatOptions(options.null, console.wants_colour(sys.stdout), console.terminal_width())
    elif name == "paths" and not options.null and any("\n" in path for ranking in rankings for path in ranking.paths):
        console.say("rankclip: a path holds a newline, so lines cannot be told apart\n  use -0, or --json")
    writer = registry.resolve(registry.FORMATS, name, what="format")
    with console.results(output) as out:
        for ranking in rankings:
            writer(ranking, out, options)


def act(ranking: Ranking, *, html: str | None, link_to: str | None, copy_to: str | None, dry_run: bool) -> None:
    """Do what was asked for besides printing."""
    if html is not None:
        with console.results(html) as out:
            registry.resolve(registry.FORMATS, "html", what="format")(ranking, out, FormatOptions())
        console.say(f"rankclip: contact sheet of {len(ranking):,} photos: {html}")
    for folder, name, done in ((link_to, "link_to", "linked"), (copy_to, "copy_to", "copied")):
        if folder is None:
            continue
        folders = registry.load("rankclip.formats.folders")
        if dry_run:
            for placement in folders.placements(ranking, folder):
                console.say(f"would put {printable(placement.target)} -> {printable(placement.source)}")
        else:
            console.say(f"rankclip: {done} {getattr(folders, name)(ranking, folder):,} photos: {folder}")


def say_explanation(ranking: Ranking) -> None:
    found = ranking.explanation
    if found is None:
        return
    console.say(f"understood: {found.parse}")
    console.say(f"method:     {found.method}, because {found.rule}")
    console.say(f"compared:   {' | '.join(found.texts)}")
    if found.head:
        console.say(f"head:       {found.head}")
