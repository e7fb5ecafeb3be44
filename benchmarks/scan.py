"""A rerun over unchanged files: whole process of `embed` and `rank`, and the floor: listing and stat alone, plus an interpreter that imports NumPy.

python benchmarks/scan.py --files 20000
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import measure
import synthetic

FLOOR = "import os, sys\nfor folder, _, names in os.walk(sys.argv[1]):\n    for name in names: os.stat(f'{folder}/{name}')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--model", default="toy")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    photos = options.folder / f"files-{options.files}"
    synthetic.make_files(photos, options.files)
    environment = {**os.environ, "RANKCLIP_STORE": str(options.folder / f"scan-store-{options.files}"), "RANKCLIP_MODEL": options.model}
    subprocess.run(measure.rankclip("embed", photos, "-q", "--no-tokens"), env=environment, check=True)
    floor = measure.command("floor: walk and stat", [sys.executable, "-c", FLOOR, str(photos)], runs=options.runs)
    numpy = measure.bare_python(options.runs, "import numpy")
    found = [measure.command("embed", measure.rankclip("embed", photos), runs=options.runs, environment=environment),
             measure.command("rank", measure.rankclip("rank", photos, "red first", "--top", "20"), runs=options.runs, environment=environment)]  # fmt: skip
    least = min(floor.cpu) + min(numpy.cpu)
    for one in (floor, numpy, *found):
        print(one.line(least))
    figures = [dataclasses.replace(one, name=f"{options.files}-{one.name}").figure(least) for one in found]
    measure.record("scan", [floor.figure(), numpy.figure(), *figures], options.record)


if __name__ == "__main__":
    main()
