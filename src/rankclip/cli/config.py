"""`rankclip config`: where each setting comes from."""

from __future__ import annotations

import dataclasses
import json as json_module
import os
from typing import Annotated

import typer

from rankclip import settings
from rankclip.cli import console

config = typer.Typer(help="show the settings and where they come from", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    app.add_typer(config, name="config")


@config.command("show", help="print each setting, its value and its source")
def show(json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False) -> None:
    found = settings.resolve()
    values = {**dataclasses.asdict(found.settings), "store": str(found.settings.store_folder())}
    if json:
        typer.echo(json_module.dumps({name: {"value": value, "source": found.sources[name]} for name, value in values.items()}))
        return
    for variable, near in settings.misspelt_variables(os.environ):
        console.say(f"rankclip: {variable} is no setting\n  did you mean {near}?")
    for name, value in values.items():
        typer.echo(f"{name.replace('_', '-'):20} {value!s:40} {found.sources[name]}")


@config.command("path", help="print the path of config.toml")
def path() -> None:
    typer.echo(settings.config_file())
