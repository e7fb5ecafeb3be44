"""Ranking a store by the shipped adapter for the first time, and again: whole process, wall and peak memory.

python benchmarks/adapter_store.py --rows 10000 --folder /tmp/bench

The rows and patch tokens are synthetic and the photos do not exist (`--no-scan`). Each first time asks for another of the pack's tasks, in a new store.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import measure
import synthetic

ASKED = ("sort by age", "rank the technical quality of the photos", "sort by memorability", "sort by brightness", "sort by colourfulness", "most people first")


def measured(store: Path, rows: int) -> list[measure.Figure]:
    """Each task once, of which the slowest counts, then the first of them again."""
    environment = {**os.environ, "RANKCLIP_STORE": str(store), "RANKCLIP_MODEL": "rankclip-mini"}
    ask = [measure.rankclip("rank", "/photos", text, "--no-scan", "--method", "adapter") for text in ASKED]
    first = [measure.once(words, environment) for words in ask]
    for text, one in zip(ASKED, first, strict=True):
        print(f"{text}: {one[0]:.2f} s, CPU {one[1]:.2f} s")
    slowest = max(first, key=lambda one: one[1])
    timings = [measure.Timing(f"{rows}-first", [slowest[0]], [slowest[1]], slowest[2], slowest[3]),
               measure.command(f"{rows}-again", ask[0], runs=5, environment=environment)]  # fmt: skip
    for one in timings:
        print(one.line())
    return [one.figure() for one in timings]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    store = options.folder / f"store-adapter-{options.rows}"
    shutil.rmtree(store, ignore_errors=True)
    synthetic.make_store(store, options.rows, tokens=True)
    measure.record("adapter_store", measured(store, options.rows), options.record)


if __name__ == "__main__":
    main()
