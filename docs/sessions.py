"""Runs the commands of documentation pages with the toy model and shows what they print; and the demo with the bundled one.

`<!-- run: COMMAND -->` blocks of a page run one after the other in one new folder, with a home of its own, where the tutorial's first `python` block has
made coloured squares. What differs from run to run (speed, temporary paths) is left out, so that `--check` can compare.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/contact-sheet.png"
COMPOSED = ROOT / "docs/images/composed.png"
CODE = re.compile(r"```python\n(.*?)```", re.S)
SPEED = re.compile(r"; [\d.,]+ photos/s, decode \d+%, model \d+% of the time; [^\n]*")
WINDOW = "1100,760"
COLOURS = 96  # of the picture's palette: a third of the bytes, no visible difference


class Session:
    """A folder, a home and a shell for the commands of one page."""

    def __init__(self) -> None:
        self.holder = tempfile.TemporaryDirectory(prefix="rankclip-docs-")
        self.folder = Path(self.holder.name, "here")
        self.folder.mkdir()
        program = Path(self.holder.name, "bin/rankclip")
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rankclip "$@"\n')
        program.chmod(0o755)
        squares = CODE.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))[0]
        subprocess.run([sys.executable, "-c", squares], cwd=self.folder, check=True)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RANKCLIP_", "XDG_"))}
        return {**kept, "HOME": self.holder.name, "PATH": f"{self.holder.name}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
                "RANKCLIP_MODEL": "toy", "RANKCLIP_WORKERS": "1", "COLUMNS": "80", "NO_COLOR": "1"}  # fmt: skip

    def run(self, command: str) -> str:
        """Run a line in the shell; returns it with what it printed, as a terminal shows it."""
        found = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        printed = SPEED.sub("", found.stderr + found.stdout).replace(self.holder.name, "~")
        end = "" if found.returncode == 0 else f"(exit code {found.returncode})\n"
        return "```console\n$ " + command + "\n" + "".join(f"{line.rstrip()}\n" for line in printed.splitlines()) + end + "```\n"


def demo_output() -> str:
    """What `rankclip demo` prints with the bundled model. Takes the picture of a contact sheet, too, where chromium is installed."""
    with tempfile.TemporaryDirectory() as folder:
        printed = bundled(folder, "rankclip demo -q")
        take_picture(Path(folder, "rankclip-demo/sheet_1.html"), PICTURE)
    return "```console\n$ rankclip demo\n" + printed + "```\n"


def commands_output(commands: str) -> str:
    """What some commands, one a line, print in the folder that `rankclip demo` makes. The last contact sheet that they write is photographed."""
    with tempfile.TemporaryDirectory() as folder:
        bundled(folder, "rankclip demo -q")
        here = Path(folder, "rankclip-demo")
        lines = [line for line in commands.splitlines() if line]
        shown = [f"$ {line}\n{bundled(str(here), line + ' --store store')}" for line in lines]
        sheets = [sheet for sheet in here.glob("*.html") if any(sheet.name in line for line in lines)]
        if sheets:
            take_picture(max(sheets, key=lambda path: path.stat().st_mtime_ns), COMPOSED, "1100,600")
    return "```console\n" + "\n".join(shown) + "```\n"


def bundled(folder: str, command: str) -> str:
    """Run a rankclip command line with the bundled model; returns what it printed."""
    words = [sys.executable, "-m", *shlex.split(command)]
    found = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_CACHE_HOME": folder, "HF_HUB_OFFLINE": "1"})  # fmt: skip
    return "".join(f"{line.rstrip()}\n" for line in found.stdout.splitlines())


def take_picture(sheet: Path, picture: Path, window: str = WINDOW) -> None:
    """Photograph a contact sheet in a browser."""
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if browser is None:
        print(f"no chromium here: {picture.relative_to(ROOT)} stays as it is")
        return
    from PIL import Image

    picture.parent.mkdir(exist_ok=True)
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={window}", f"--screenshot={picture}", sheet.as_uri()]
    subprocess.run([browser, *words], check=True, capture_output=True, timeout=120, cwd=sheet.parent, env={**os.environ, "HOME": str(sheet.parent)})
    with Image.open(picture) as taken:
        smaller = taken.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    smaller.save(picture, optimize=True)
