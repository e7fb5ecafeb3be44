"""The table of commands, sweeps over it, and how the program ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.conftest import Run, rankclip_command, subprocess_environment
from typer.testing import CliRunner

from rankclip.cli.app import COMMANDS, app, build

ROOT = typer.main.get_command(app)


def commands(found: object = ROOT, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """Every command with its path."""
    inner = getattr(found, "commands", None)
    if not inner:
        return [(path, found)]
    return [pair for name, one in inner.items() for pair in commands(one, (*path, name))]


ALL = commands()


def test_the_sweep_sees_them() -> None:
    assert len(ALL) >= 20 and len(COMMANDS) == 10


@pytest.mark.parametrize(("path", "command"), ALL, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_every_command_and_option_has_help(path: tuple[str, ...], command: object) -> None:
    assert command.help, path  # type: ignore[attr-defined]
    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "option":
            assert parameter.help, (path, parameter.name)
            assert parameter.help[0].islower() or not parameter.help[0].isalpha(), parameter.help
            assert not parameter.help.endswith("."), parameter.help


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_help_never_fails(run: Run, path: tuple[str, ...]) -> None:
    found = run(*path, "--help")
    assert found.code == 0 and found.text.startswith("Usage: ") and found.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_its_own_is_the_same_command(name: str) -> None:
    def shown(only: str) -> str:
        return CliRunner().invoke(build(only), [name.replace("_", "-"), "--help"], prog_name="rankclip").output

    assert shown(name) == shown("") and shown(name).startswith(f"Usage: rankclip {name.replace('_', '-')}")


def test_version(run: Run) -> None:
    assert run("--version").text == "rankclip 0.1.0\n"


def test_a_wrong_command_suggests_the_nearest(run: Run) -> None:
    found = run("rnak")
    assert found.code == 2 and "rank" in found.err


def test_config_show(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_THREADS", "3")
    lines = {line.split()[0]: line.split()[1:] for line in run("config", "show").lines}
    assert lines["threads"] == ["3", "RANKCLIP_THREADS"]
    assert lines["batch-size"] == ["32", "default"]
    assert run("config", "path").text.endswith("config.toml\n")


def process(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(rankclip_command(*words), capture_output=True, timeout=60, **{"env": subprocess_environment(), **options})  # type: ignore[call-overload, no-any-return]


def test_python_m(squares: Path, run: Run) -> None:
    found = process("rank", "photos", "red first", "--top", "1")
    assert (found.returncode, found.stdout) == (0, b"photos/red.png\n")


def test_a_closed_pipe_is_no_error(squares: Path, run: Run) -> None:
    run("embed", "photos")
    script = f"{' '.join(rankclip_command('rank', 'photos', '--json', 'red'))} | head -c 1; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, env=subprocess_environment(), timeout=60)
    assert (found.stdout, found.stderr) == (b"{0\n", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_stdout_is_one_line(squares: Path, run: Run) -> None:
    run("embed", "photos")
    with open("/dev/full", "wb") as full:
        found = subprocess.run(rankclip_command("rank", "photos", "red"), stdout=full, stderr=subprocess.PIPE, env=subprocess_environment(), timeout=60)
    assert (found.returncode, found.stderr) == (1, b"rankclip: stdout: no space left on device\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["rank", "--help"], ["config", "show"], ["store", "info"], ["models", "list"]])
def test_stdout_is_full_or_closed_whatever_is_printed(squares: Path, run: Run, words: list[str]) -> None:
    run("embed", "photos")
    with open("/dev/full", "wb") as full:
        found = subprocess.run(rankclip_command(*words), stdout=full, stderr=subprocess.PIPE, env=subprocess_environment(), timeout=60)
    assert (found.returncode, found.stderr.splitlines()[0]) == (1, b"rankclip: stdout: no space left on device")
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(rankclip_command(*words), stdout=writer, stderr=subprocess.PIPE, env=subprocess_environment(), timeout=60)
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_closed_stdout_is_one_line(squares: Path, run: Run) -> None:
    run("embed", "photos")
    found = subprocess.run(
        ["bash", "-c", " ".join(rankclip_command("rank", "photos", "red")) + " >&-"], stderr=subprocess.PIPE, env=subprocess_environment(), timeout=60
    )
    assert found.returncode == 1 and found.stderr.startswith(b"rankclip: stdout") and found.stderr.count(b"\n") <= 2


def test_in_a_locale_without_utf8_bytes_come_out_exactly(squares: Path, run: Run) -> None:
    (squares / "red.png").rename(squares / "röd 日本.png")
    found = process("rank", "photos", "red first", "--top", "1", env=subprocess_environment(LC_ALL="C"))
    assert found.stdout == "photos/röd 日本.png\n".encode()


HEAVY = ("torch", "torchvision", "open_clip", "onnxruntime", "transformers", "numpy", "PIL")
PROBE = "import sys; from rankclip.cli.app import main\ntry: main()\nexcept SystemExit: pass\nprint([m for m in %r if m in sys.modules], file=sys.stderr)"


def loaded(words: list[str], heavy: tuple[str, ...]) -> bytes:
    code = f"import sys; sys.argv = ['rankclip', *{words!r}]; " + PROBE % (heavy,)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=subprocess_environment(), timeout=60).stderr.splitlines()[-1]


@pytest.mark.parametrize("path", [(), *[path for path, _ in ALL]], ids=" ".join)
def test_help_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    assert loaded([*path, "--help"], HEAVY) == b"[]"


def test_a_repeated_query_loads_no_runtime(squares: Path, run: Run) -> None:
    words = ["rank", "photos", "from dark to bright", "-q"]
    run(*words)
    assert loaded(words, ("torch", "torchvision", "open_clip", "onnxruntime", "transformers", "rich", "tqdm", "rankclip.engines.toy")) == b"[]"


def test_colour_only_on_a_terminal(squares: Path, run: Run) -> None:
    assert b"\x1b" not in process("rank", "photos", "red first", "--format", "table").stdout


def test_a_misspelt_variable_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_BACTH_SIZE", "3")
    assert run("config", "show").err.splitlines() == ["rankclip: RANKCLIP_BACTH_SIZE is no setting", "  did you mean RANKCLIP_BATCH_SIZE?"]


def test_refusing_the_torch_engine_does_not_load_torch(squares: Path, run: Run) -> None:
    code = "import sys; from rankclip.cli import app; sys.argv = ['rankclip', 'rank', 'photos', 'red', '--engine', 'torch']\ntry: app.main()\nfinally: print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, env=subprocess_environment(), timeout=60)
    assert (found.returncode, found.stdout.strip()) == (6, b"False") and b"cannot run in torch" in found.stderr
