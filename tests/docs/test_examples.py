"""The examples run: Python files as they are, pipelines with the real tool or a stand-in that records its call."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT, Run, subprocess_environment

PYTHON = sorted((ROOT / "examples/python").glob("*.py"))
WORDS = {"diff": ["photos/red.png", "photos/blue.png"], "classify": ["photos"]}
PIPES = sorted((ROOT / "examples/pipes").glob("*.sh"))


def test_there_are_enough() -> None:
    assert len(PYTHON) >= 14 and len(PIPES) == 6


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_python(path: Path, squares: Path, run: Run) -> None:
    run("embed", "photos")
    words = ["photos"] if path.stem in ("embed", "rank", "store_forget") else ["demo"] if path.stem == "demo" else WORDS.get(path.stem, [])
    found = subprocess.run([sys.executable, str(path), *words], capture_output=True, text=True, cwd=squares.parent, env=subprocess_environment(), timeout=60)
    assert found.returncode == 0 and found.stdout.strip(), found.stderr
    assert (path.read_text().split('"""')[1]).startswith("rankclip "), "the docstring is the command that these lines stand beside"


SCRIPTS = sorted(path for folder in ("examples", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[tuple[str, str]]:
    """The names that a script takes from rankclip, in functions too: (module, name)."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {(node.module, name.name) for node in nodes if node.module and node.module.split(".")[0] == "rankclip" for name in node.names}


def missing(module: str, name: str) -> bool:
    """Whether importing `name` from `module` would fail, be it a part or a module of its own."""
    return not hasattr(importlib.import_module(module), name) and not importlib.util.find_spec(f"{module}.{name}")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_exists(path: Path) -> None:
    """Recipes of hours are run by no other test: a module that moved must not be found out by a user."""
    assert not [f"{module}.{name}" for module, name in imported(path) if missing(module, name)]


STAND_INS = {
    "jq": "#!/usr/bin/env python3\nimport json, sys\nfor line in sys.stdin:\n    one = json.loads(line)\n    if one['percentile'] >= 90: print(one['score'], one['path'], sep='\\t')\n",
    "rsync": "#!/usr/bin/env python3\nimport os, shutil, sys\nfor path in sys.stdin.buffer.read().split(b'\\0'):\n    if path: shutil.copy(path, os.fsencode(sys.argv[-1]))\n",
    "exiftool": '#!/bin/sh\nprintf "%s\\n" "$@" > "$RECORD"\n',
    "fd": '#!/bin/sh\nfind photos -type f -print0\n',
}  # fmt: skip


@pytest.fixture
def tools(tmp_path: Path, run: Run) -> dict[str, str]:
    """A PATH with rankclip and, where it is not installed, each tool's stand-in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rankclip").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rankclip "$@"\n')
    for name, text in STAND_INS.items():
        if not shutil.which(name) or name == "exiftool":
            (folder / name).write_text(text)
    for path in folder.iterdir():
        path.chmod(0o755)
    return subprocess_environment(PATH=f"{folder}:{os.environ['PATH']}", RECORD=str(tmp_path / "record"))


def pipe(name: str, *words: str, cwd: Path, tools: dict[str, str]) -> subprocess.CompletedProcess[str]:
    found = subprocess.run([str(ROOT / "examples/pipes" / f"{name}.sh"), *words], capture_output=True, text=True, cwd=cwd, env=tools, timeout=60)
    assert found.returncode == 0, found.stderr
    return found


def test_pipelines(squares: Path, tmp_path: Path, tools: dict[str, str]) -> None:
    run_in = {"cwd": tmp_path, "tools": tools}
    pipe("best_to_folder", "photos", "red first", "best", **run_in)  # type: ignore[arg-type]
    assert len(os.listdir(tmp_path / "best")) == 5
    assert pipe("first", "photos", "red first", **run_in).stdout == "photos/red.png\n"  # type: ignore[arg-type]
    assert pipe("scores", "photos", "red first", **run_in).stdout.split("\t")[1] == "photos/red.png\n"  # type: ignore[arg-type]
    assert pipe("only_this_year", "photos", "red first", **run_in).stdout.splitlines()[0] == "photos/red.png"  # type: ignore[arg-type]
    pipe("rate", "photos", "red first", **run_in)  # type: ignore[arg-type]
    assert (tmp_path / "record").read_text().splitlines()[-2:] == ["--", "photos/red.png"]
    (tmp_path / "target").mkdir()
    pipe("sync_best", "photos", "red first", str(tmp_path / "target"), **run_in)  # type: ignore[arg-type]
    assert "red.png" in os.listdir(tmp_path / "target")


def test_schedules_name_real_options() -> None:
    from tests.cli.test_app import ALL

    options = {name for path, command in ALL if path == ("embed",) for parameter in command.params for name in parameter.opts}  # type: ignore[attr-defined]
    for name in ("crontab", "rankclip.service"):
        text = (ROOT / "examples/scheduled" / name).read_text()
        used = {word for word in text.split() if word.startswith("--")}
        assert len(used) >= 2 and used <= options, used - options
