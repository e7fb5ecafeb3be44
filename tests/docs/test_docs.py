"""The documentation cannot drift: blocks current, commands and options named, code executed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_app import ALL
from tests.conftest import ROOT, Run, subprocess_environment

from rankclip.settings import Settings

PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.S)
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: str) -> list[str]:
    return PYTHON_BLOCK.findall((ROOT / page).read_text())


def test_generated_blocks_are_current() -> None:
    found = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, env=subprocess_environment(), timeout=120)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def test_every_command_has_a_page_with_its_help() -> None:
    pages = "\n".join(page.read_text() for page in PAGES)
    assert len(ALL) >= 12
    for path, _ in ALL:
        assert f"<!-- help: rankclip {' '.join(path)} -->" in pages, path


def test_every_setting_is_in_the_table() -> None:
    text = (ROOT / "docs/commands/config.md").read_text()
    names = list(Settings.__dataclass_fields__)
    assert len(names) >= 15
    assert all(f"`{name.replace('_', '-')}`" in text for name in names)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(f"`{path[0]}`" in text or f"rankclip {path[0]}" in text for path, _ in ALL)


def test_links_between_pages_lead_somewhere() -> None:
    seen = 0
    for page in [ROOT / "README.md", *PAGES]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            seen += 1
            assert (page.parent / target).exists(), (page.name, target)
    assert seen >= 10


@pytest.mark.parametrize("number", range(len(blocks("docs/python.md"))))
def test_python_examples_run(number: int, squares: Path, run: Run) -> None:
    code = blocks("docs/python.md")[number]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=squares.parent, env=subprocess_environment(), timeout=60)
    assert found.returncode == 0 and found.stderr == "" and found.stdout, found.stderr


def test_ten_lines_read_a_store_without_rankclip(squares: Path, run: Run, tmp_path: Path) -> None:
    run("embed", "photos")
    (code,) = blocks("docs/store.md")
    assert "rankclip" not in code and len(code.splitlines()) <= 14
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert sorted(line.split()[0].rsplit("/", 1)[1] for line in found.stdout.splitlines()) == ["black.png", "blue.png", "green.png", "red.png", "white.png"]


def test_error_classes_are_documented() -> None:
    from tests.unit.test_errors import classes

    text = (ROOT / "docs/exit-codes.md").read_text()
    found = [kind for kind in classes() if kind.exit_code > 1 and kind.__name__ not in ("RankclipError",)]
    assert len(found) >= 14 and all(f"`{kind.__name__}`" in text for kind in found)


def test_the_tutorials_python_runs(tmp_path: Path, run: Run) -> None:
    first, last = blocks("docs/tutorial.md")
    environment = subprocess_environment(RANKCLIP_MODEL="toy")
    for code in (first, last):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
        assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0] == "1 photos/red.png"


def test_pages_with_output_show_what_commands_print() -> None:
    """`--check` runs them; here only that none is empty and none failed by surprise."""
    shown = [
        body for page in ("README.md", "docs/tutorial.md") for body in re.findall(r"<!-- run: .*? -->\n(.*?)<!-- end -->", (ROOT / page).read_text(), re.S)
    ]
    assert len(shown) >= 12 and all(body.startswith("```console\n$ ") for body in shown)
    assert sum("(exit code" in body for body in shown) == 2
