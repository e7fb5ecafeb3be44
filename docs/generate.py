"""Fills the generated blocks of the documentation and writes the man page, or checks (--check) that they are current.

A block stands between `<!-- help: rankclip rank -->` (or exit-codes, settings, figures ...) and `<!-- end -->`; everything else on a page is
written by hand. `<!-- run: COMMAND -->` runs the command with the toy model, `<!-- demo -->` is only written with --demo.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cards
import figures
import man_page
import sessions

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAN_PAGE = ROOT / "docs/rankclip.1"
COMPOSED = """
rankclip compose-search photos photos/cat.jpg "a cup of coffee" --top 3
rankclip compose-search photos photos/coffee.jpg "a cat instead" --top 3 --explain
rankclip compose-search photos photos/palace.jpg "darker" --top 2
rankclip compose-search photos photos/cat.jpg "a portrait, without a cat" --top 3 --explain
rankclip compose-search photos photos/grace_hopper.jpg "in an orange suit" --top 8 --html sheet.html
"""
COMPARED = """
rankclip diff photos/cat.jpg photos/coffee.jpg
rankclip diff photos/palace.jpg photos/motorcycle.jpg
rankclip diff photos/cat.jpg photos/cat_cropped.jpg
rankclip diff photos/cat.jpg photos/cat_darker.jpg
rankclip diff photos/astronaut.jpg photos/grace_hopper.jpg --ask "which is older?"
"""
BLOCK = re.compile(r"<!-- (?P<what>[a-z-]+)(?:: (?P<argument>[^\n]*?))? -->\n(?P<body>.*?)<!-- end -->", re.S)


def help_text(command: str) -> str:
    """The command's help, as a terminal of 100 columns shows it."""
    from typer.testing import CliRunner

    from rankclip.cli.app import app

    found = CliRunner().invoke(app, [*command.split()[1:], "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert found.exit_code == 0, command
    lines = (line.rstrip() for line in found.stdout.strip("\n").splitlines())
    return "```text\n$ " + command + " --help\n" + "\n".join(lines) + "\n```\n"


def exit_codes(_: str) -> str:
    """The table of exit codes, from the error tree."""
    from rankclip import errors

    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RankclipError) and kind.exit_code > 1]
    rows = ["| code | error | when |", "|---|---|---|"]
    for kind in sorted(kinds, key=lambda one: (one.exit_code, len(one.__mro__), one.__name__)):
        about = (kind.__doc__ or "").strip().split("\n")[0]
        rows.append(f"| {kind.exit_code} | `{kind.__name__}` | {about} |")
    return "\n".join(rows) + "\n"


def settings(_: str) -> str:
    """The table of settings with their defaults and variables."""
    from rankclip.settings import PREFIX, Settings

    rows = ["| setting in config.toml | environment | default |", "|---|---|---|"]
    for field in dataclasses.fields(Settings):
        default = "true" if field.default is True else "false" if field.default is False else field.default
        rows.append(f"| `{field.name.replace('_', '-')}` | `{PREFIX}{field.name.upper()}` | `{default}` |" if default != "" else
                    f"| `{field.name.replace('_', '-')}` | `{PREFIX}{field.name.upper()}` | your own |")  # fmt: skip
    return "\n".join(rows) + "\n"


def instruction_table(_: str) -> str:
    """Examples of instructions and what becomes of them, from the table that is the parser's test."""
    import rankclip.instructions

    rows = ["| instruction | first | last | by |", "|---|---|---|---|"]
    for line in (rankclip.instructions.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip().split("|")]
        if line.startswith("    ") and len(cells) == 5:
            rows.append(f"| {cells[0]} | {cells[1]} | {cells[2]} | {cells[3] or '-'} |")
    return "\n".join(rows) + "\n"


def role_table(_: str) -> str:
    """Changes and how they are read, from the table that is the parser's test."""
    import rankclip.instructions.roles

    rows = ["| change | wanted | left out | more of < less of | kept |", "|---|---|---|---|---|"]
    for line in (rankclip.instructions.roles.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip().split("|")]
        if line.startswith("    ") and len(cells) == 5:
            rows.append("| " + " | ".join(["photos like the reference" if cell == "=" else cell or "-" for cell in cells]) + " |")
    return "\n".join(rows) + "\n"


def page_list(_: str) -> str:
    """Every page of the documentation by its title, with its first sentence."""
    rows = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        title, _, rest = page.read_text(encoding="utf-8").partition("\n")
        first = re.sub(r"\[([^]]+)]\([^)]*\)", r"\1", " ".join(rest.strip().split("\n\n")[0].split()))
        sentence = "" if first.startswith(("|", "#", "<", "`", "-")) else re.split(r"(?<=[a-z)`])[.:] ", first)[0].rstrip(".:")
        if page.name != "index.md":
            rows.append(f"- [{title.lstrip('# ')}]({page.relative_to(ROOT / 'docs')})" + (f": {sentence}" if sentence else ""))
    return "\n".join(rows) + "\n"


WRITERS: dict[str, Callable[[str], str]] = {
    "help": help_text, "exit-codes": exit_codes, "settings": settings, "instructions": instruction_table, "roles": role_table,
    "head": cards.table, "figures": figures.table, "machines": figures.machines, "pages": page_list,
}  # fmt: skip


def filled(text: str, *, demo: bool = False) -> str:
    """Return a page with its blocks as they should be; demo: those of the bundled model, too, which differ a little from machine to machine."""
    opened: list[sessions.Session] = []

    def body(what: str, argument: str, now: str) -> str:
        if what == "run":
            opened[:] = opened or [sessions.Session()]
            return opened[0].run(argument)
        if what == "demo":
            return sessions.demo_output() if demo else now
        if what in ("composed", "compared"):
            return sessions.commands_output(COMPOSED if what == "composed" else COMPARED) if demo else now
        if what == "picture":
            return f"![{argument}](docs/images/contact-sheet.png)\n" if sessions.PICTURE.is_file() else ""
        return WRITERS[what](argument)

    def fill(match: re.Match[str]) -> str:
        head = match["what"] + (f": {match['argument']}" if match["argument"] else "")
        return f"<!-- {head} -->\n{body(match['what'], match['argument'] or '', match['body'])}<!-- end -->"

    return BLOCK.sub(fill, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    parser.add_argument("--demo", action="store_true", help="run `rankclip demo` for the README and photograph a contact sheet (needs the bundled model)")
    options = parser.parse_args()
    check = options.check
    os.environ["COLUMNS"] = "100"
    stale = []
    for page in [*PAGES, MAN_PAGE]:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        wanted = man_page.page() if page == MAN_PAGE else filled(text, demo=options.demo)
        if wanted != text:
            stale.append(page)
            if not check:
                page.write_text(wanted, encoding="utf-8")
    for page in stale:
        print(f"{'stale' if check else 'written'}: {page.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
