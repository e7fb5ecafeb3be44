"""A seen and a new instruction over a large store: whole process, wall and peak memory, with and without all paths.

python benchmarks/rank_store.py --rows 100000 --folder /tmp/bench

The rows are synthetic and the photos do not exist (`--no-scan`). The floor is an interpreter that imports NumPy, plus one scan of the int8 rows.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

import measure
import numpy as np
import synthetic

SEEN = "from empty to crowded"  # no trained adapter knows it: synthetic rows have no patch tokens


def scan_floor(folder: Path, model: str) -> float:
    """Processor seconds to scan the store's int8 rows once in this process: memory bandwidth."""
    from rankclip import scoring
    from rankclip.backbones.specs import find
    from rankclip.store.store import Store

    with Store.open(folder) as store:
        view = store.view(find(model).space)
        query = np.ones(view.space.width, np.float32)
        scoring.scan(view.small, view.scales, query)
        began = time.process_time()
        scoring.scan(view.small, view.scales, query)
        return time.process_time() - began


def measured(rows: int, store: Path, model: str, *, runs: int, floor: float, new: bool) -> list[measure.Figure]:
    """Time the queries of one store."""
    environment = {**os.environ, "RANKCLIP_STORE": str(store), "RANKCLIP_MODEL": model}
    rank = measure.rankclip("rank", "/photos", SEEN, "--no-scan")
    timings = [measure.command(f"{rows}-seen-top", [*rank, "--top", "20"], runs=runs, environment=environment),
               measure.command(f"{rows}-seen-all", rank, runs=runs, environment=environment)]  # fmt: skip
    if new:
        timings.append(new_instructions(f"{rows}-new-top", runs, environment))
    floor += scan_floor(store, model)
    for one in timings:
        print(one.line(floor))
    return [one.figure(floor) for one in timings]


def new_instructions(name: str, runs: int, environment: dict[str, str]) -> measure.Timing:
    """Time queries that no cache knows: another number in each."""
    words = [measure.rankclip("rank", "/photos", f"{number} red bicycles by a wall {time.time_ns()}", "--no-scan", "--top", "20") for number in range(runs + 1)]
    found = [measure.once(one, environment) for one in words][1:]
    return measure.Timing(name, [one[0] for one in found], [one[1] for one in found], max(one[2] for one in found), found[-1][3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--model", default="rankclip-mini", help="a bundled or installed one, or local-dir:FOLDER")
    parser.add_argument("--new", action=argparse.BooleanOptionalAction, default=True, help="measure new instructions, too")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    bare, floor = measure.bare_python(options.runs), measure.bare_python(options.runs, "import numpy")
    print(bare.line(), floor.line(), sep="\n")
    figures = [bare.figure(), floor.figure()]
    for rows in options.rows:
        store = options.folder / f"store-{re.sub('[^A-Za-z0-9]+', '-', options.model)}-{rows}"
        synthetic.make_store(store, rows, model=options.model)
        figures += measured(rows, store, options.model, runs=options.runs, floor=min(floor.cpu), new=options.new)
    measure.record("rank_store", figures, options.record)


if __name__ == "__main__":
    main()
