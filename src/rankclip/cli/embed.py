"""`rankclip embed`: bring the store up to date with the photos on the disk."""

from __future__ import annotations

from typing import Annotated

import typer

from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, STORE, TALK, Shared, finish, shared


def register(app: typer.Typer) -> None:
    app.command("embed", help="embed new and changed photos into the store")(embed)


@shared(FILES, ENGINE, STORE, DECODING, TALK)
def embed(
    given: Shared,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="folders (recursive) and files; the current folder if none", show_default=False)
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="embed everything again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count what would be done and the disk it needs")] = False,
) -> None:
    with console.Stop() as stop:
        collection = given.collection(paths or [], stop)
        report = collection.embed(retry_failed=given.retry_failed, force=force, allow_truncated=given.allow_truncated, dry_run=dry_run)
        finish(given, collection, report, stop)
        if dry_run:
            console.say(f"rankclip: would need {collection.disk_needed(report.new) / 1e6:,.1f} MB in {collection.folder}")
