"""The man page: every command and option in it, and clean to the formatter where one is installed."""

import re
import shutil
import subprocess

import typer
from tests.cli.test_app import ALL
from tests.conftest import ROOT

from rankclip.cli.app import app

PAGE = ROOT / "docs/rankclip.1"


def plain() -> str:
    """The page without roff's markup."""
    return re.sub(r"\\f[BIR]|\\&", "", PAGE.read_text()).replace("\\-", "-")


def test_every_command_and_option_is_in_it() -> None:
    text = plain()
    seen = 0
    for path, command in [*ALL, ((), typer.main.get_command(app))]:
        assert f"rankclip {' '.join(path)}".strip() in text
        for parameter in command.params:  # type: ignore[attr-defined]
            seen += 1
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                assert all(name in text for name in (*parameter.opts, *parameter.secondary_opts)) and parameter.help in text, (path, parameter.name)
    assert seen >= 80


def test_every_part_is_there() -> None:
    parts = re.findall(r"^\.SH (.*)", PAGE.read_text(), re.M)
    assert parts == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "SHARED OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"]


def test_formatters_find_no_fault() -> None:
    tools = {"groff": ["-man", "-ww", "-Tutf8"], "mandoc": ["-Tlint", "-Wwarning"]}
    for tool, words in tools.items():
        if shutil.which(tool):
            found = subprocess.run([tool, *words, str(PAGE)], capture_output=True, text=True, timeout=60)
            lint = [line for line in (found.stderr + (found.stdout if tool == "mandoc" else "")).splitlines() if "missing date" not in line]
            assert lint == []
