"""A photo and a change over a large store: whole process, wall and peak memory, with the bundled head and without.

python benchmarks/compose_store.py --rows 100000 --folder /tmp/bench

The gallery's rows are synthetic and its photos do not exist (`--no-scan`); the reference is a real file, embedded into the same store, or one that the
store does not know. Every instruction is new, so that the text tower runs. The floor is an interpreter that imports NumPy and ONNX Runtime.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

import measure
import numpy as np
import synthetic
from PIL import Image

CASES = {"head": ("stored.png", "auto"), "head-new-photo": ("new.png", "auto"), "slerp": ("stored.png", "slerp"), "product": ("stored.png", "product")}


def make_references(folder: Path, store: Path, model: str) -> None:
    """Two photos of noise below `folder`: one embedded into the store, one that it has never seen."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("stored.png", "new.png")):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8)).save(folder / name)
    words = measure.rankclip("embed", folder / "stored.png", "--store", store, "--model", model, "--quiet")
    subprocess.run(words, check=True, env=measure.child_environment())


def queries(name: str, reference: Path, composer: str, runs: int, environment: dict[str, str]) -> measure.Timing:
    """Time queries that no cache knows: another number in each; the first, which fills the system's own caches, is not counted."""
    texts = [f"the same but with {number} red bicycles by a wall {time.time_ns()}" for number in range(runs + 1)]
    words = [measure.rankclip("compose-search", "/photos", reference, text, "--composer", composer, "--no-scan", "--top", "20") for text in texts]
    found = [measure.once(one, environment) for one in words][1:]
    return measure.Timing(name, [one[0] for one in found], [one[1] for one in found], max(one[2] for one in found), max(one[3] for one in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--model", default="rankclip-mini")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    store, references = options.folder / f"compose-{options.model}-{options.rows}", options.folder / "references"
    if not (references / "stored.png").exists():
        synthetic.make_store(store, options.rows, model=options.model)
        make_references(references, store, options.model)
    floor = measure.bare_python(options.runs, "import numpy, onnxruntime")
    print(floor.line())
    environment = {**os.environ, "RANKCLIP_STORE": str(store), "RANKCLIP_MODEL": options.model}
    timings = [queries(f"{options.rows}-{name}", references / photo, composer, options.runs, environment) for name, (photo, composer) in CASES.items()]
    for one in timings:
        print(one.line(min(floor.cpu)))
    measure.record("compose_store", [floor.figure(), *(one.figure(min(floor.cpu)) for one in timings)], options.record)


if __name__ == "__main__":
    main()
