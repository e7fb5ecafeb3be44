"""A seen and a new instruction over a large store: whole process, wall and peak memory.

python benchmarks/rank_store.py --rows 100000 --folder /tmp/bench
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import measure
import numpy as np
import synthetic


def scan_floor(folder: Path, model: str) -> float:
    """Seconds to scan the store's int8 rows once in this process: memory bandwidth."""
    from rankclip import scoring
    from rankclip.backbones.specs import find
    from rankclip.store.store import Store

    with Store.open(folder) as store:
        view = store.view(find(model).space)
        query = np.ones(view.space.width, np.float32)
        scoring.scan(view.small, view.scales, query)
        began = time.perf_counter()
        scoring.scan(view.small, view.scales, query)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--model", default="rankclip-mini")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    floor = measure.bare_python(options.runs)
    print(floor.line())
    timings = [floor]
    for rows in options.rows:
        store = options.folder / f"store-{options.model.replace('/', '-')}-{rows}"
        synthetic.make_store(store, rows, model=options.model)
        environment = {**os.environ, "RANKCLIP_STORE": str(store), "RANKCLIP_MODEL": options.model}
        rank = measure.rankclip("rank", "/photos", "from dark to bright", "--no-scan")
        cases = [measure.command(f"{rows:,} rows, seen, --top 20", [*rank, "--top", "20"], runs=options.runs, environment=environment),
                 measure.command(f"{rows:,} rows, seen, all paths", rank, runs=options.runs, environment=environment)]  # fmt: skip
        texts = iter(range(10**6))
        new = [measure.command(f"{rows:,} rows, new, --top 20", measure.rankclip("rank", "/photos", f"a photo of number {next(texts)} {os.getpid()}", "--no-scan", "--top", "20"),
                               runs=1, environment=environment) for _ in range(options.runs)]  # fmt: skip
        # the uncounted first run is the new one: take it as such
        fresh = [fresh_query(environment, f"{number} red bicycles by a wall {os.getpid()}") for number in range(options.runs)]
        new = measure.Timing(f"{rows:,} rows, new instruction, --top 20", fresh, [0.0], max(one.peak for one in new), 0)
        for one in (*cases, new):
            print(one.line(min(floor.wall)))
        print(f"{'floor: one scan in memory':46} wall {scan_floor(store, options.model):6.3f} s")
        timings += [*cases, new]
    measure.record("rank_store", timings, options.record)


def fresh_query(environment: dict[str, str], text: str) -> float:
    """Wall time of one query that no cache knows."""
    import subprocess

    began = time.perf_counter()
    subprocess.run(measure.rankclip("rank", "/photos", text, "--no-scan", "--top", "20"), env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
