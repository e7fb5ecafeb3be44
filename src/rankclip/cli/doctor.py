"""`rankclip doctor`: what works here, and the next step for what does not."""

from __future__ import annotations

from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli.options import ENGINE, STORE, Shared, shared
from rankclip.errors import ModelError


def register(app: typer.Typer) -> None:
    app.command("doctor", help="examine engines, devices, formats and the store")(doctor)


@shared(ENGINE, STORE)
def doctor(given: Shared, *, quick: Annotated[bool, typer.Option("--quick", help="leave out what runs a model")] = False) -> None:
    problems = 0
    for finding in registry.load("rankclip.collection.doctor").examine(given.settings(), quick=quick):
        typer.echo(f"{finding.what:16} {finding.state:8} {finding.detail}")
        if finding.step:
            typer.echo(f"{'':25} {finding.step}")
        problems += finding.state == "problem"
    if problems:
        raise ModelError(f"{problems} problem{'s' if problems > 1 else ''} found")
