"""Start-up: `--help` of every command, against an interpreter that does nothing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import measure
import typer

from rankclip.cli.app import app


def command_paths(found: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group of commands."""
    return [path, *(below for name, one in getattr(found, "commands", {}).items() for below in command_paths(one, (*path, name)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    floor = measure.bare_python(options.runs)
    print(floor.line())
    timings = []
    for words in command_paths(typer.main.get_command(app)):
        timings.append(measure.command(" ".join(["rankclip", *words, "--help"]), measure.rankclip(*words, "--help"), runs=options.runs))
        print(timings[-1].line(min(floor.cpu)))
    least = min(floor.cpu)
    slowest = dataclasses.replace(max(timings, key=lambda one: min(one.wall)), name="help")
    measure.record("startup", [floor.figure(), slowest.figure(least), *(one.figure(least) for one in timings)], options.record)


if __name__ == "__main__":
    main()
