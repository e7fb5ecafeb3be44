"""What a person sees on a terminal: whole snapshots through a pseudo-terminal."""

import os
import pty
import re
import subprocess
from pathlib import Path

from tests.conftest import Run, rankclip_command, subprocess_environment


def on_terminal(*words: object, **environment: str) -> tuple[int, str, str]:
    """Run with stdout on a terminal of 80 columns; returns exit code, what the terminal got, stderr."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(rankclip_command(*words), stdout=slave, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   env=subprocess_environment(**{"COLUMNS": "80", "TERM": "xterm", **environment}))  # fmt: skip
        os.close(slave)
        chunks = []
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            chunks.append(chunk)
        error = process.communicate(timeout=60)[1].decode()
        return process.returncode, b"".join(chunks).decode().replace("\r\n", "\n"), error
    finally:
        os.close(master)


def filtered(text: str) -> str:
    text = re.sub(r"\x1b\]8;[^\x1b]*\x1b\\", "", text)  # links
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[\d.]+ photos/s, decode \d+%, model \d+%", "R photos/s, decode D%, model M%", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


SNAPSHOT = """
 rank   projection   better than   photo
 ──────────────────────────────────────────────────
    1       +0.229         100 %   photos/black.png
    2       +0.090          75 %   photos/green.png
    3       +0.071          50 %   photos/red.png
    4       +0.056          25 %   photos/blue.png
    5       -0.236           0 %   photos/white.png
"""


def test_rank_on_a_terminal(run: Run, squares: Path) -> None:
    code, out, err = on_terminal("rank", "photos", "from dark to bright")
    assert code == 0
    assert filtered(out).rstrip("\n") == SNAPSHOT.rstrip("\n")
    assert filtered(err) == "rankclip: 5 new, 0 unchanged; R photos/s, decode D%, model M% of the time; toy, cpu, fp32"
    assert "\x1b]8;" in out, "files are links"


def test_no_color_is_honoured(run: Run, squares: Path) -> None:
    assert "\x1b" not in on_terminal("rank", "photos", "red", NO_COLOR="1")[1]
    assert "\x1b" not in on_terminal("rank", "photos", "red", TERM="dumb")[1]


def test_errors_on_a_terminal(run: Run, squares: Path) -> None:
    code, out, err = on_terminal("rank", "photos", "from dark to")
    assert (code, out) == (2, "")
    assert (
        err
        == """rankclip: one end of the order is missing
  from dark to
              ^
  say both ends, for example "from dark to bright"
"""
    )
