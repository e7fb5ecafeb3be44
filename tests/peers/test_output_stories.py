"""Stories 51 to 70 of other tools' users: names, pipes, start-up, messages, exit codes. Each must not happen here."""

import base64
import json
import os
import re
import socket
import subprocess
import threading
import time
import tomllib
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from tests.cli.test_app import ALL, HEAVY, loaded
from tests.conftest import ROOT, Run, noise_photo, rankclip_command, subprocess_environment
from tests.peers.conftest import PHOTOS
from tests.peers.processes import finished

HELP_SECONDS = 0.25  # processor time of `--help`, the best of several


def test_row_51_names_come_out_as_bytes_in_any_locale(run: Run, photos: Path) -> None:
    (photos / "01.png").rename(photos / "größe 日本.png")
    for locale in ("C", "POSIX", "C.UTF-8"):
        found = finished("rank", "photos", "red", LC_ALL=locale, LANG=locale, PYTHONUTF8="0")
        assert found.returncode == 0 and "photos/größe 日本.png".encode() in found.stdout.split(b"\n")


def test_row_52_names_that_are_no_utf8_or_hold_a_newline(run: Run, photos: Path) -> None:
    odd = [b"photos/latin_\xe9.png", b"photos/new\nline.png"]
    for number, name in enumerate(odd):
        os.rename(noise_photo(photos / "next.png", 50 + number), name)
    found = finished("rank", "photos", "red", "-0")
    assert found.returncode == 0 and set(odd) <= set(found.stdout.split(b"\0")) and found.stdout.count(b"\0") == PHOTOS + 2
    records = [json.loads(line) for line in run("rank", "photos", "red", "--json").lines]
    paths = {base64.b64decode(record["path_b64"]) if "path_b64" in record else record["path"].encode() for record in records}
    assert set(odd) <= paths and len(paths) == PHOTOS + 2


def test_row_53_json_is_utf8_in_any_locale(run: Run, photos: Path) -> None:
    (photos / "01.png").rename(photos / "größe.png")
    found = finished("rank", "photos", "größe", "--json", LC_ALL="C", PYTHONIOENCODING="latin-1")
    records = [json.loads(line) for line in found.stdout.decode("utf-8", "strict").splitlines()]
    assert len(records) == PHOTOS and "photos/größe.png" in [record["path"] for record in records]


def test_row_53_an_instruction_that_is_no_text_is_refused(run: Run, photos: Path) -> None:
    words = [os.fsencode(word) for word in rankclip_command("rank", "photos")]
    found = subprocess.run([*words, b"r\xff", b"--json"], capture_output=True, env=subprocess_environment(), timeout=60)
    assert found.returncode == 2 and b"the instruction is not valid UTF-8" in found.stderr and found.stdout == b""


def test_row_57_json_has_raw_cosine_and_percentile(run: Run, photos: Path) -> None:
    records = [json.loads(line) for line in run("rank", "photos", "a red car", "--json").lines]
    cosines, percentiles = [record["cosine"] for record in records], [record["percentile"] for record in records]
    assert len(records) == PHOTOS and all(-1 <= cosine <= 1 for cosine in cosines) and len(set(cosines)) > PHOTOS // 2
    assert (percentiles[0], percentiles[-1]) == (100, 0) and percentiles == sorted(percentiles, reverse=True)


RUNTIMES = ("torch", "torchvision", "open_clip", "onnxruntime", "transformers", "rankclip.engines.toy", "rankclip.engines.onnx_engine")


def test_row_60_a_repeated_query_loads_no_model(run: Run, photos: Path) -> None:
    words = ["rank", "photos", "from dark to bright", "-q"]
    assert b"toy" in loaded(words, RUNTIMES), "the first query does"
    assert loaded(words, RUNTIMES) == b"[]"


def test_row_61_help_is_instant_and_loads_nothing_heavy() -> None:
    assert loaded(["--help"], HEAVY) == b"[]"
    seconds = []
    for _ in range(9):
        process = subprocess.Popen(rankclip_command("--help"), stdout=subprocess.DEVNULL, env=subprocess_environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) < HELP_SECONDS, f"{min(seconds):.3f} s"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a socket or asks for a name falls over."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_row_62_a_query_starts_nothing_in_the_background(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, no_sockets: None) -> None:
    started: list[object] = []
    run("embed", "photos")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", started.append)
        patch.setattr(subprocess.Popen, "__init__", lambda *_, **__: started.append(_))
        assert len(run("rank", "photos", "never asked before").lines) == PHOTOS
    assert started == []


def test_row_63_no_command_but_fetch_touches_the_network(run: Run, photos: Path, no_sockets: None) -> None:
    for words in (["embed", "photos"], ["rank", "photos", "red"], ["rank", "photos", "blue", "--no-scan"], ["store", "verify"], ["models", "list"],
                  ["config", "show"]):  # fmt: skip
        assert run(*words).code == 0, words
    assert run("rank", "photos", "red", "--model", "never-fetched").code == 6, "a missing model is an error, not a download"


def test_row_64_dependencies_have_wide_ranges_that_hold_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [Requirement(text) for text in project["dependencies"]]
    assert len(needed) >= 10 and project["requires-python"] == ">=3.11"
    for one in needed:
        operators = {specifier.operator for specifier in one.specifier}
        assert ">=" in operators and not operators & {"==", "~=", "==="}, one
        assert operators == {">="} or one.name == "typer", f"{one}: an upper bound needs its reason in pyproject.toml, and its place here"
        assert one.specifier.contains(metadata.version(one.name), prereleases=True), one


def test_row_65_the_device_is_an_option_and_is_reported(run: Run, photos: Path) -> None:
    assert run("embed", "photos", "--device", "cpu").err.splitlines()[-1].endswith("; toy, cpu, fp32")
    assert all("--device" in run(command, "--help").text for command in ("embed", "rank"))
    assert run("config", "show").code == 0 and any(line.split()[0] == "device" for line in run("config", "show").lines)


def test_row_66_head_is_no_error(run: Run, large_store: Path) -> None:
    for more in ("", "--json"):
        words = " ".join(rankclip_command("rank", "/photos", "red", "--no-scan", "--store", large_store, more))
        found = subprocess.run(["bash", "-c", f"{words} | head -n 2; echo ${{PIPESTATUS[0]}}"], capture_output=True, env=subprocess_environment(), timeout=60)
        lines = found.stdout.splitlines()
        assert (len(lines), lines[-1], found.stderr) == (3, b"0", b"")


def test_row_67_a_closed_pipe_ends_the_work_at_the_next_write(run: Run, large_store: Path) -> None:
    words = rankclip_command("rank", "/photos", "red", "--no-scan", "--json", "--store", large_store)
    assert len(run(*words[3:]).lines) == 100_000, "from here on the scores are cached"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=subprocess_environment()) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        before = psutil.Process(process.pid).cpu_times().user
        process.stdout.close()
        assert process.stderr.read() == b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and usage.ru_utime - before < 0.5, "seconds; all lines take about a second"


FAILURES = {
    2: (["rank", "nowhere", "red"], ["rank", "photos", ""], ["rank", "photos", "from dark to"], ["embed", "--batch-size", "none"], ["rank", "--no-such-option"],
        ["store", "export", "out.xyz"], ["rank", "photos", "red", "--format", "yaml"]),
    3: (["embed", "bad"], ["embed", "bad", "--quiet", "--retry-failed"]),
    4: (["embed", "none"], ["rank", "none", "red"], ["rank", "photos", "red", "--no-scan", "--store", "new"]),
    5: (["rank", "photos", "red", "--store", "broken"], ["embed", "photos", "--store", "file"]),
    6: (["rank", "photos", "red", "--model", "nothing"], ["embed", "photos", "--engine", "onnx", "--model", "toy"]),
}  # fmt: skip


@pytest.mark.parametrize("code", FAILURES)
def test_row_68_every_failure_has_its_line(run: Run, photos: Path, tmp_path: Path, code: int) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "file").write_text("no folder")
    noise_photo(tmp_path / "bad/good.png", 1)
    (tmp_path / "bad/bad.jpg").write_text("no")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/catalogue.sqlite3").write_bytes(b"no database" * 500)
    run("embed", "bad/good.png")
    for words in FAILURES[code]:
        found = run(*words)
        assert found.code == code and found.err.strip(), (words, found)
        assert "Traceback" not in found.err and "a bug" not in found.err and found.out == b"", (words, found)


def test_row_69_a_run_ends_soon_after_its_last_photo(run: Run, photos: Path, tmp_path: Path) -> None:
    from tests.torture.test_cron import start

    for bad in ("", "zz.jpg"):
        if bad:
            (photos / bad).write_text("the last file is a bad one")
        log = tmp_path / f"log{bad}"
        process = start("embed", "photos", "--store", f"store{bad}", LOG=str(log))
        process.communicate(timeout=60)
        assert time.time() - log.stat().st_mtime < 5 and len(log.read_bytes()) == PHOTOS and process.returncode == (3 if bad else 0)


def test_row_70_any_failed_file_is_exit_3(run: Run, photos: Path, tmp_path: Path) -> None:
    assert run("embed", "photos").code == 0
    (photos / "bad.jpg").write_text("no")
    assert [run("embed", "photos").code, run("embed", "photos").code, run("embed", "photos", "--strict").code] == [3, 0, 3]
    (photos / "dangling.jpg").symlink_to("nowhere.jpg")
    assert run("rank", "photos", "red").code == 3


# ---------------------------------------------------------------- all rows

ELSEWHERE = {19, 54, 55, 56, 58, 59}  # work of their own: status, thresholds, sorting, negation, languages


def test_every_story_has_its_test() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_stories.py"))
    found = [int(number) for number in re.findall(r"^def test_row_(\d+)_", source, re.M)]
    assert sorted(set(found)) == sorted(set(range(1, 71)) - ELSEWHERE), set(range(1, 71)) - ELSEWHERE ^ set(found)
    assert len(ALL) >= 8
