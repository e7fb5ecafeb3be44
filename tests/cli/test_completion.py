"""Shell completion: a script for each shell, and what it offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import subprocess_environment

from rankclip import registry
from rankclip.settings import CHOICES

PROGRAM = "import sys; sys.argv[0] = 'rankclip'; from rankclip.cli.app import main; main()"
SHELLS = {"bash": "complete -o default -F _rankclip_completion rankclip", "zsh": "compdef _rankclip_completion rankclip", "fish": "complete --command rankclip"}


def rankclip(**environment: str) -> str:
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, env=subprocess_environment(**environment)).stdout


def offered(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    return rankclip(_RANKCLIP_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(line.count(" "))).split()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell: str) -> None:
    assert SHELLS[shell] in rankclip(_RANKCLIP_COMPLETE=f"source_{shell}")


def test_commands_are_completed() -> None:
    assert offered("rankclip ra") == ["rank"]
    assert {"embed", "rank", "store", "models"} <= set(offered("rankclip "))
    assert {"info", "verify", "forget"} <= set(offered("rankclip store "))
    assert offered("rankclip rank --min-p") == ["--min-percentile"]


def test_values_of_options_are_completed() -> None:
    assert offered("rankclip rank --format ") == list(registry.FORMATS)
    assert offered("rankclip rank --format cs") == ["csv"]
    assert offered("rankclip rank --method ") == ["auto", *registry.METHODS]
    assert offered("rankclip embed --engine ") == list(CHOICES["engine"])
    assert "toy" in offered("rankclip rank --model ") and offered("rankclip models info to") == ["toy"]
    assert "recommended" in offered("rankclip models fetch ")


def test_the_other_shells_are_offered_the_same() -> None:
    assert '"jsonl"' in rankclip(_RANKCLIP_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="rankclip rank --format ")
    fish = rankclip(_RANKCLIP_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS="rankclip models inf", _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert fish.startswith("info\tsay what is known")


def test_the_script_works_in_bash(tmp_path: Path) -> None:
    """Source the script in a real shell, then do what the tab key does."""
    program = tmp_path / "rankclip"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{PROGRAM}" "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(rankclip(_RANKCLIP_COMPLETE="source_bash"))
    line = f'. {script}; COMP_WORDS=(rankclip rank --method ""); COMP_CWORD=3; _rankclip_completion rankclip; echo "${{COMPREPLY[@]}}"'
    found = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, env=subprocess_environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    )
    assert found.stdout.split() == ["auto", *registry.METHODS], found.stderr
