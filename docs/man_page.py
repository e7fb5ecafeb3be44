"""Writes the man page from the table of commands; `generate.py` keeps docs/rankclip.1 current."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

import rankclip
from rankclip.cli.app import app

DOCS = Path(__file__).resolve().parent
SHARED_FROM = 2  # an option that so many commands have is described once
HEAD = '.\\" Written by docs/generate.py from the table of commands: change the help texts there.'
DESCRIPTION = """Results go to stdout, everything for people (bars, summary, warnings) to stderr. On a terminal,
.B rank
prints a table of the first 20; in a pipe, plain paths, best first, all of them.
Photos that are not in the store yet are embedded on the way; an unchanged photo costs one look at its size and time."""
EXAMPLES = (
    ("Old faces first, young faces last", 'rankclip rank ~/Pictures "older faces first"'),
    ("A contact sheet in order of brightness", 'rankclip rank ~/Pictures "from dark to bright" --html sheet.html'),
    ("Copy the 20 best, whatever their names hold", 'rankclip rank ~/Pictures "a dog on the beach" --top 20 -0 | xargs -0 cp -t best/'),
    ("What cron runs at night", "rankclip embed ~/Pictures --progress plain --lock-timeout 600"),
)
FILES = (
    ("~/.config/rankclip/config.toml", "settings (Linux; rankclip config path prints it)"),
    ("~/.cache/rankclip/store", "the store (Linux; rankclip store info prints it)"),
    (".rankclipignore", "patterns of photos to leave out, as in gitignore"),
)


def escaped(text: str) -> str:
    r"""Escape what roff would read as a request or change while setting.

    >>> escaped("--top N"), escaped(".hidden")
    ('\\-\\-top N', '\\&.hidden')
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def table_of(page: str) -> list[tuple[str, str]]:
    """Return the rows of a documentation page's first table, without its markup."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[start + 1 :]))
    plain = [re.sub(r"\[([^]]+)]\([^)]*\)|[`*]", lambda match: match[1] or "", row) for row in rows]
    return [(first.strip(), second.strip()) for first, second in (row.strip("|").split("|") for row in plain)]


def commands(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its path."""
    inner = getattr(found, "commands", None)
    if not inner:
        yield path, found
    for name, one in (inner or {}).items():
        yield from commands(one, (*path, name))


def options_of(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]


def key(option: Any) -> tuple[object, ...]:
    return (*option.opts, *option.secondary_opts, option.help)


def option_lines(option: Any) -> Iterator[str]:
    """Yield a tagged paragraph for one option."""
    words = [word for word in (*reversed(option.opts), *option.secondary_opts)]
    metavar = "" if option.is_flag or not option.metavar else f" \\fI{escaped(option.metavar)}\\fR"
    yield ".TP"
    yield ", ".join(f"\\fB{escaped(word)}\\fR" for word in words) + metavar
    yield escaped(option.help)


def command_lines(path: tuple[str, ...], command: Any, shared: set[tuple[object, ...]]) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    metavars = "".join(f" \\fI{escaped(one.metavar)}\\fR" for one in arguments)
    yield f'.SS "{escaped(" ".join(path))}"'
    yield f".B rankclip {escaped(' '.join(path))}"
    yield f"[\\fIOPTIONS\\fR]{metavars}"
    yield ".PP"
    yield escaped(command.help[0].upper() + command.help[1:] + ".")
    own = [one for one in options_of(command) if key(one) not in shared]
    for option in own:
        yield from option_lines(option)
    common = [one.opts[0] for one in options_of(command) if key(one) in shared]
    if common:
        yield ".PP"
        yield f"Shared options: {', '.join(escaped(name) for name in common)}."


def section(name: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f".SH {name}"
    for term, meaning in rows:
        yield ".TP"
        yield f"\\fB{escaped(term)}\\fR"
        yield escaped(meaning)


def page() -> str:
    """Return the whole man page."""
    root = typer.main.get_command(app)
    table = list(commands(root))
    counted = Counter(key(option) for _, command in table for option in options_of(command))
    shared = {one for one, count in counted.items() if count >= SHARED_FROM}
    first = {key(option): option for _, command in table for option in options_of(command) if key(option) in shared}
    lines = [HEAD, f'.TH RANKCLIP 1 "" "rankclip {rankclip.__version__}" "User Commands"', ".SH NAME", "rankclip \\- order a local photo folder by a sentence",
             ".SH SYNOPSIS", ".B rankclip", "\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]", ".SH DESCRIPTION", escaped(root.help or ""), DESCRIPTION,
             ".SH OPTIONS", *(line for option in options_of(root) for line in option_lines(option)), ".SH COMMANDS"]  # fmt: skip
    lines += [line for path, command in table for line in command_lines(path, command, shared)]
    lines += [".SH SHARED OPTIONS", *(line for option in first.values() for line in option_lines(option)), ".SH EXAMPLES"]
    for what, command in EXAMPLES:
        lines += [f"{escaped(what)}:", ".PP", ".nf", f".RS\n{escaped(command)}\n.RE", ".fi", ".PP"]
    lines = lines[:-1]
    lines += [*section("EXIT STATUS", table_of("exit-codes.md")), *section("ENVIRONMENT", table_of("environment.md")), *section("FILES", FILES)]
    return "\n".join(lines) + "\n"
