"""Draws docs/images/rank.svg: time of a seen instruction over stores of 10,000 to 1,000,000 rows."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "benchmarks/results/rank_store.json", ROOT / "docs/images/rank.svg"
LINES = {"seen-top": "seen, --top 20", "seen-all": "seen, all paths", "new-top": "new instruction, --top 20"}


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rankclip"  # the same figures give the same file
    from matplotlib import pyplot

    figures = {one["name"]: one for one in json.loads(SOURCE.read_text())["figures"]}
    rows = sorted({int(name.split("-")[0]) for name in figures if name[0].isdigit()})
    plot, axes = pyplot.subplots(figsize=(6, 3.6))
    for key, label in LINES.items():
        known = [count for count in rows if f"{count}-{key}" in figures]
        if known:
            axes.plot(known, [figures[f"{count}-{key}"]["more"]["cpu"] for count in known], marker="o", label=label)
    axes.plot(rows, [figures[f"{count}-seen-top"]["floor"] for count in rows], "--", color="grey", label="floor: Python with NumPy, one scan")
    axes.set(xscale="log", yscale="log", xlabel="rows in the store", ylabel="processor seconds, whole process")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    TARGET.parent.mkdir(exist_ok=True)
    plot.savefig(TARGET, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
