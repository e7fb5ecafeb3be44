"""`diff`: two photos that the store knows, and two folders of 5,000 photos each; whole processes.

    python benchmarks/diff_store.py --folder /tmp/bench

The files are there, their rows in the store are random but for a shift between the folders, so that there is something to tell. The floor is an
interpreter that imports NumPy. Also says whether a model runtime was imported for two stored photos.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import measure
import numpy as np
import synthetic

from rankclip.backbones.specs import find
from rankclip.store.store import Batch, NewFile, Store
from rankclip.types import FileStamp

PHOTOS = 5_000  # in each folder
SHIFT = 0.05  # of the second folder's rows, along one direction
RUNTIMES = ("torch", "onnxruntime", "PIL", "open_clip")


def make(folder: Path, model: str) -> Path:
    """Make both folders and a store that knows their files; returns the store."""
    store = folder / f"diff-store-{PHOTOS}"
    if Store.exists(store):
        return store
    backbone, rng = find(model), np.random.default_rng(0)
    direction = rng.normal(size=backbone.width).astype(np.float32)
    with Store.open(store, write=True) as opened:
        for number, name in enumerate(("a", "b")):
            synthetic.make_files(folder / "diff" / name, PHOTOS)
            files = [stored(path) for path in sorted((folder / "diff" / name).rglob("*.png"))]
            rows = rng.normal(size=(len(files), backbone.width)).astype(np.float32) + number * SHIFT * direction
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            opened.add(backbone.space, Batch(files, rows, None, [file.digest for file in files]))
    return store


def stored(path: Path) -> NewFile:
    """A file as the store keeps it, with its real stamp."""
    digest = hashlib.blake2b(str(path).encode(), digest_size=16).digest()
    return NewFile(str(path.parent.resolve()), path.name, FileStamp.of(path.stat()), digest, synthetic.FACTS)


def runtimes(words: list[str], environment: dict[str, str]) -> str:
    """Which model runtimes `diff` imports."""
    script = (f"import sys; from rankclip.cli.app import app\ntry: app({words!r})\nexcept SystemExit: pass\n"
              f"print(sorted({set(RUNTIMES)!r} & set(sys.modules)), file=sys.stderr)")  # fmt: skip
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True).stderr.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--model", default="rankclip-mini")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    store = make(options.folder, options.model)
    environment = {**os.environ, "RANKCLIP_STORE": str(store), "RANKCLIP_MODEL": options.model}
    floor = measure.bare_python(options.runs, "import numpy")
    photos = [str(options.folder / "diff" / name / "0000" / "IMG_000007.png") for name in ("a", "b")]
    folders = [str(options.folder / "diff" / name) for name in ("a", "b")]
    timings = [measure.command("two-photos", measure.rankclip("diff", *photos), runs=options.runs, environment=environment),
               measure.command("two-folders-5000", measure.rankclip("diff", *folders), runs=3, environment=environment)]  # fmt: skip
    for one in (floor, *timings):
        print(one.line(min(floor.cpu)))
    print("imported for two photos:", runtimes(["diff", *photos], environment))
    measure.record("diff_store", [floor.figure(), *(one.figure(min(floor.cpu)) for one in timings)], options.record)


if __name__ == "__main__":
    main()
