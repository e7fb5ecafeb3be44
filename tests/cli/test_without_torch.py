"""Where torch, torchvision and open_clip raise on import, everything but the torch engine and training works."""

import subprocess
from pathlib import Path

import pytest
from tests.conftest import Result, Run, rankclip_command, subprocess_environment

BLOCKED = ("torch", "torchvision", "open_clip")


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """An environment in which these packages are installed but broken."""
    folder = tmp_path / "broken"
    for name in BLOCKED:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name} is broken here', name='{name}')\n")
    environment = subprocess_environment()
    environment["PYTHONPATH"] = f"{folder}:{environment['PYTHONPATH']}"
    return environment


def process(environment: dict[str, str], *words: object) -> Result:
    found = subprocess.run(rankclip_command(*words), capture_output=True, env=environment, timeout=120)
    return Result(found.returncode, found.stdout, found.stderr.decode())


def test_the_blockade_works(blocked: dict[str, str]) -> None:
    for name in BLOCKED:
        import sys

        found = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, env=blocked, timeout=60)
        assert b"broken here" in found.stderr


@pytest.mark.parametrize("words", [("embed", "photos"), ("rank", "photos", "red first"), ("rank", "photos", "from dark to bright", "--json"),
                                   ("compose-search", "photos", "photos/red.png", "the same but blue"), ("models", "list"),
                                   ("diff", "photos/red.png", "photos/blue.png"), ("classify", "photos"),
                                   ("doctor", "--quick"), ("config", "show")])  # fmt: skip
def test_commands_do_without(run: Run, squares: Path, blocked: dict[str, str], words: tuple[str, ...]) -> None:
    (squares.parent / "classes.txt").write_text("red\nblue\n")
    found = process(blocked, *words)
    assert found.code == 0, found.err


def test_what_needs_torch_says_so_with_the_pip_line(run: Run, squares: Path, blocked: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (squares.parent / "labels.csv").write_text(
        "path,value\n" + "".join(f"photos/{path.name},{number}\n" for number, path in enumerate(sorted(squares.iterdir())))
    )
    found = process(blocked, "finetune", "adapter", "--data", "labels.csv", "--instruction", "Sort by number", "--model", "toy")
    assert found.code == 6
    assert found.err.splitlines()[-1] == "  run: python -m pip install torch open_clip_torch"
    assert "torch is broken here" in found.err or "open_clip is broken here" in found.err
