"""Start-up: `--help` of every command, against an interpreter that does nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

import measure

COMMANDS = ([], ["embed"], ["rank"], ["store"], ["store", "info"], ["models"], ["models", "list"], ["config", "show"], ["doctor"], ["demo"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    floor = measure.bare_python(options.runs)
    timings = [floor, *(measure.command(f"rankclip {' '.join(words)} --help", measure.rankclip(*words, "--help"), runs=options.runs) for words in COMMANDS)]
    for one in timings:
        print(one.line(min(floor.wall)))
    measure.record("startup", timings, options.record)


if __name__ == "__main__":
    main()
