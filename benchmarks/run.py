"""All benchmarks: records each as JSON under benchmarks/results (git keeps the earlier ones), draws the plot, and fills the tables of docs/performance.md.

python benchmarks/run.py                    # start-up, scan, ranking, adapter, composition (about 10 minutes, most of it to make a store of a million rows; 3 GB in --folder)
python benchmarks/run.py --shared DIR       # embedding, too: DIR/make_photos.py makes the photos (2 GB more)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def steps(options: argparse.Namespace) -> dict[str, list[str]]:
    """Name each script with its arguments."""
    folder = ["--folder", str(options.folder)]
    return {
        "startup": [],
        "scan": folder,
        "rank_store": [*folder, "--model", options.model, *([] if options.model == "rankclip-mini" else ["--no-new"])],
        "adapter_store": folder,
        "compose_store": folder,
        "embed": [*folder, *(["--shared", str(options.shared)] if options.shared else [])],
    }


def wanted(name: str, options: argparse.Namespace) -> bool:
    if options.only and name not in options.only:
        return False
    if name == "embed" and not options.shared and not (options.folder / "photos-12").is_dir():
        print("skipped: embed (--shared DIR makes its photos)")
        return False
    mini = options.model == "rankclip-mini" or name in ("adapter_store", "compose_store")
    if name in ("rank_store", "adapter_store", "compose_store") and mini and not (HERE.parent / "src/rankclip/backbones/mini/card.json").is_file():
        print(f"skipped: {name} (rankclip-mini is not in this install{'; --model measures with another' if name == 'rank_store' else ''})")
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder that holds make_photos.py")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"), help="for stores and photos; kept")
    parser.add_argument("--model", default="rankclip-mini", help="model of the rows that are ranked; new instructions are measured with rankclip-mini only")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="startup, scan, rank_store, adapter_store, compose_store, embed")
    options = parser.parse_args()
    failed = []
    for name, words in steps(options).items():
        if wanted(name, options):
            print(f"\n== {name}", flush=True)
            if subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--record", str(RESULTS), *words]).returncode:
                failed.append(name)
    if (RESULTS / "rank_store.json").is_file():
        subprocess.run([sys.executable, str(HERE / "plot.py")], check=True)
    subprocess.run([sys.executable, str(HERE.parent / "docs/generate.py")], check=True)
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nfigures are in benchmarks/results and docs/performance.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
