"""What `rank` and `compose-search` do with a ranking: choose a format, write it, make links, explain."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.console import counted
from rankclip.cli.options import Shared
from rankclip.errors import InputError
from rankclip.formats.base import FormatOptions, printable
from rankclip.types import Ranking

FIRST = 20  # photos shown on a terminal
NO_MATCH = 10  # exit code of --check
TARGETS = ("--output", "--html", "--link-to", "--copy-to")  # what writes besides stdout


def filters(given: Shared, chosen: str) -> dict[str, object]:
    """Return what FILTERS asks for, as options of `Collection.rank`; on a terminal the table shows the first photos only."""
    top = given.top
    if chosen == "table" and not given.everything and top is None and given.bottom is None:
        top = FIRST
    return {"scan": not given.no_scan, "unique": given.unique, "top": top, "bottom": given.bottom, "min_percentile": given.min_percentile,
            "min_score": given.min_score, "exact": given.exact}  # fmt: skip


def format_of(given: Shared, *, many: bool = False) -> str:
    """Settle on a format from OUTPUT; many rankings at once are JSONL. What cannot be done is refused before any work."""
    if many and (given.print0 or given.format not in (None, "jsonl")):
        raise InputError("--instructions writes JSONL and cannot be combined with -0 or another --format")
    check_targets(given, many=many)
    return choose_format(given.format, json=given.json or many, print0=given.print0, output=given.output)


def check_targets(given: Shared, *, many: bool) -> None:
    """Refuse files and folders that could not be written, before anything is embedded."""
    named = {option: value for option in TARGETS if (value := getattr(given, option[2:].replace("-", "_"))) is not None}
    for option in named if given.check else ():
        raise InputError(f"--check only answers by its exit code and cannot be combined with {option}")
    if given.dry_run and not ("--link-to" in named or "--copy-to" in named):
        raise InputError("--dry-run needs --link-to or --copy-to", hint="rankclip embed --dry-run counts what would be embedded")
    for option, target in named.items():
        if many and option != "--output":
            raise InputError(f"{option} takes one order and cannot be combined with --instructions", hint="give one instruction at a time")
        folder = os.path.dirname(target) or "."
        if option in ("--link-to", "--copy-to"):
            registry.load("rankclip.formats.folders").check(target, links=option == "--link-to")
        elif target != console.STDOUT and (os.path.isdir(target) or not os.path.isdir(folder)):
            fault = "is a folder" if os.path.isdir(target) else f"there is no folder {printable(folder)}"
            raise InputError(f"{option} {target}: cannot be written ({fault})", hint="name a file in a folder that exists")


def deliver(rankings: Sequence[Ranking], chosen: str, given: Shared) -> None:
    """Write the rankings and do what else OUTPUT asks for; nothing with --check."""
    if given.check:
        return
    write(rankings, chosen, FormatOptions(null=given.print0), given.output)
    for ranking in rankings:
        act(ranking, given)
        if given.explain and not given.quiet:
            say_explanation(ranking)


def answer(rankings: Sequence[Ranking], given: Shared) -> None:
    """The exit code of --check."""
    if given.check and not any(len(ranking) for ranking in rankings):
        raise typer.Exit(NO_MATCH)


def choose_format(format: str | None, *, json: bool, print0: bool, output: str | None) -> str:
    """Settle on a format: what is asked for, else a table on a terminal and plain paths in a pipe."""
    if json and (print0 or format not in (None, "jsonl")):
        raise InputError("--json cannot be combined with -0 or another --format")
    if print0 and format not in (None, "paths"):
        raise InputError("-0 gives plain paths and cannot be combined with another --format")
    if format is not None:
        registry.check_name(registry.FORMATS, format, what="format")
    automatic = "table" if output in (None, console.STDOUT) and console.is_terminal(sys.stdout) else "paths"
    return "jsonl" if json else "paths" if print0 else format or automatic


def write(rankings: Sequence[Ranking], name: str, options: FormatOptions, output: str | None) -> None:
    """Write the rankings to stdout or a file."""
    to_terminal = output in (None, console.STDOUT) and console.is_terminal(sys.stdout)
    if to_terminal:
        options = FormatOptions(options.null, console.wants_colour(sys.stdout), console.terminal_width())
    elif name == "paths" and not options.null and any("\n" in path for ranking in rankings for path in ranking.paths):
        console.say("rankclip: a path holds a newline, so lines cannot be told apart\n  use -0, or --json")
    writer = registry.resolve(registry.FORMATS, name, what="format")
    with console.results(output) as out:
        for ranking in rankings:
            writer(ranking, out, options)


def act(ranking: Ranking, given: Shared) -> None:
    """Do what was asked for besides printing."""
    say = (lambda line: None) if given.quiet else console.say
    if given.html is not None:
        with console.results(given.html) as out:
            registry.resolve(registry.FORMATS, "html", what="format")(ranking, out, FormatOptions())
        say(f"rankclip: contact sheet of {counted(len(ranking), 'photo')}: {printable(given.html)}")
    for folder, name, done in ((given.link_to, "link_to", "linked"), (given.copy_to, "copy_to", "copied")):
        if folder is None:
            continue
        folders = registry.load("rankclip.formats.folders")
        if given.dry_run:
            for placement in folders.placements(ranking, folder):
                console.say(f"would put {printable(placement.target)} -> {printable(placement.source)}")
        else:
            say(f"rankclip: {done} {counted(getattr(folders, name)(ranking, folder), 'photo')}: {printable(folder)}")


def say_explanation(ranking: Ranking) -> None:
    found = ranking.explanation
    if found is None:
        return
    console.say(f"understood: {found.parse}")
    console.say(f"method:     {found.method}, because {found.rule}")
    if found.texts:
        console.say(f"compared:   {' | '.join(found.texts)}")
    if found.head:
        console.say(f"head:       {found.head}")
    if ranking.photo_cosines is not None:
        say_similarities(ranking)


def say_similarities(ranking: Ranking) -> None:
    """How near the first photos are to the reference and to the text, one line each."""
    console.say("like photo  text")
    for hit in ranking[:FIRST]:
        photo, text = (f"{value:+.3f}" if value is not None else "     -" for value in (hit.photo_cosine, hit.text_cosine))
        console.say(f"    {photo} {text}  {printable(hit.path)}")
