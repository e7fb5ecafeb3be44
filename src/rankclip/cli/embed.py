"""`rankclip embed`: bring the store up to date with the photos on the disk."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, STORE, TALK, Shared, finish, shared
from rankclip.errors import InputError


def register(app: typer.Typer) -> None:
    app.command("embed", help="embed new and changed photos into the store")(embed)


@shared(FILES, ENGINE, STORE, DECODING, TALK)
def embed(
    given: Shared,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="folders (recursive) and files; the current folder if none", show_default=False)
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="embed every photo again, also those that are known")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count what would be done and the disk it needs")] = False,
    time_limit: Annotated[float | None, typer.Option("--time-limit", metavar="SECONDS", help="stop after this long; the next run goes on there")] = None,
    nice: Annotated[int | None, typer.Option("--nice", metavar="N", min=1, max=19, help="give way to other programs, 1 (a little) to 19 (always)")] = None,
) -> None:
    give_way(nice)
    with console.Stop(again=not force) as stop:
        collection = given.collection(paths or [], stop)
        collection.cancel = deadline = until(time_limit, stop)
        report = collection.embed(force=force, dry_run=dry_run)
        if report.left and deadline.passed and not stop.event.is_set() and not given.quiet:
            again = "--force begins anew" if force else "the same command goes on"
            console.say(f"rankclip: stopped after {time_limit:g} s (--time-limit), {report.left:,} of {report.due:,} photos are left: {again}")
        finish(given, collection, report, stop)
        if dry_run:
            console.say(f"rankclip: would need {collection.disk_needed(report.new) / 1e6:,.1f} MB in {collection.folder}")


def until(time_limit: float | None, stop: console.Stop) -> console.Deadline:
    """Return what tells the work to end: a signal, or the time limit."""
    if time_limit is not None and not time_limit > 0:
        raise InputError(f"--time-limit: must be more than 0 seconds, got {time_limit:g}")
    return console.Deadline(stop.event, time_limit)


def give_way(nice: int | None) -> None:
    """Lower the priority of this process and of the workers that it will start."""
    if nice is None:
        return
    if not hasattr(os, "nice"):
        raise InputError("--nice: this system has no such priorities", hint="leave the option out")
    os.nice(nice)
