"""`rankclip diff`: what differs between two photos, which of two is more so, and what sets two folders apart."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, HEAD, STORE, TALK, Shared, finish, shared
from rankclip.errors import InputError, reason

EXIT = {"unclear": 0, "A": 10, "B": 11}
NEEDED, EXAMPLE = 'needs a JSON object with "a" and "b"', '{"a": "x.jpg", "b": "y.jpg", "ask": "which is older?"}'  # a line of --pairs


def register(app: typer.Typer) -> None:
    app.command("diff", help="say what differs between two photos or two folders, or which of two is more so")(diff)


@shared(HEAD, ENGINE, STORE, DECODING, TALK)
def diff(
    given: Shared,
    paths: Annotated[list[str] | None, typer.Argument(metavar="A B", help="two photos, or two folders", show_default=False)] = None,
    *,
    ask: Annotated[str, typer.Option("--ask", metavar="TEXT", help='a question with two answers, for example "which is older?"')] = "",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="answer --ask by exit code, too: 10 for A, 11 for B, 0 for unclear")] = False,
    pairs: Annotated[str | None, typer.Option("--pairs", metavar="FILE", help="compare many pairs: JSONL with a, b and ask, - for stdin")] = None,
    attributes: Annotated[str, typer.Option("--attributes", metavar="FILE", help="further opposites to compare by, two a line with a tab between")] = "",
    phrases: Annotated[str, typer.Option("--phrases", metavar="FILE", help="names or captions that two folders may differ in, one a line")] = "",
    top: Annotated[int, typer.Option("--top", "-n", metavar="N", help="differences told at most")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="one JSON object instead of text, schema rankclip.diff/1")] = False,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="also write a page with the photos side by side")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="write the result to FILE")] = None,
) -> None:
    first, second = two(paths or [], pairs)
    check_together(first, pairs is not None, ask=ask, exit_code=exit_code, phrases=phrases, html=html)
    formats = registry.load("rankclip.formats.differences")
    if pairs is not None:
        answers = given.collection([], console.Stop()).diff_pairs(asked_pairs(pairs, ask), attributes=attributes, top=top)
        with console.results(output) as out:  # nothing holds Ctrl-C back: each answer is out at once
            for one in answers:
                formats.write_json(one, out)
                out.flush()
        return
    with console.Stop() as stop:
        collection = given.collection([first, second], stop)
        if os.path.isdir(first):
            found = collection.diff_folders(first, second, attributes=attributes, phrases=phrases, top=top)
        else:
            found = collection.diff(first, second, ask=ask, attributes=attributes, top=top)
        with console.results(output) as out:
            (formats.write_json if json_ else formats.write_text)(found, out)
        if html is not None:
            with console.results(html) as out:
                formats.write_html(found, out)
        for note in found.notes:
            console.say(f"rankclip: {note}")
        finish(given, collection, collection.report, stop, always=False)
    if exit_code:
        raise typer.Exit(EXIT[found.answer])


def two(paths: list[str], pairs: str | None) -> tuple[str, str]:
    """Check the arguments: two photos or two folders, or none with --pairs."""
    if pairs is not None:
        if paths:
            raise InputError("--pairs names the photos itself; give no others")
        return "", ""
    if len(paths) != 2:
        raise InputError(f"two photos or two folders are needed, not {len(paths)}", hint="for example: rankclip diff a.jpg b.jpg")
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"{path}: no such photo or folder")
    if os.path.isdir(paths[0]) != os.path.isdir(paths[1]):
        raise InputError("a photo cannot be compared with a folder", hint="give two photos, or two folders")
    return paths[0], paths[1]


def check_together(first: str, pairs: bool, *, ask: str, exit_code: bool, phrases: str, html: str | None) -> None:
    """Refuse options that do not go with each other, or with what is compared."""
    if exit_code and not ask:
        raise InputError("--exit-code needs a question: --ask", hint='for example: --ask "which is older?"')
    for option, value in (("--html", html), ("--phrases", phrases), ("--exit-code", exit_code)):
        if pairs and value:
            raise InputError(f"{option} is not for --pairs", hint="each line that it writes has its own answer")
    if phrases and not os.path.isdir(first):
        raise InputError("--phrases is for two folders", hint="opposites for two photos: --attributes FILE")
    if ask and os.path.isdir(first):
        raise InputError("--ask is for two photos", hint="what sets two folders apart is told without a question; opposites of your own: --attributes FILE")


def asked_pairs(source: str, ask: str) -> Iterator[Any]:
    """Read the lines of --pairs as they come. Raises InputError naming the line."""
    differences = registry.load("rankclip.collection.differences")
    name = "stdin" if source == "-" else source
    try:
        lines = sys.stdin.buffer if source == "-" else open(source, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"{source}: {reason(error)}") from error
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                a, b, question = row["a"], row["b"], row.get("ask") or ask
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{name}, line {number}: {NEEDED}", hint=EXAMPLE) from error
            if not (isinstance(a, str) and isinstance(b, str) and isinstance(question, str)):
                raise InputError(f"{name}, line {number}: {NEEDED}", hint=EXAMPLE)
            yield differences.Pair(a, b, question)
