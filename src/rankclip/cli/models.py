"""`rankclip models`: list, fetch, inspect and choose backbones."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import ENGINE, Shared, among, model_names, shared

models = typer.Typer(help="list, fetch, inspect and choose backbones", no_args_is_help=True, rich_markup_mode=None)
MODELS = "rankclip.collection.models"


def register(app: typer.Typer) -> None:
    app.add_typer(models, name="models")


def fetchable() -> list[str]:
    return ["recommended", *(row.name for row in registry.load(MODELS).rows() if row.where == "to fetch")]


@models.command("list", help="list the backbones and heads that are here, and backbones worth fetching")
def list_models(json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False) -> None:
    for row in registry.load(MODELS).rows():
        if json:
            typer.echo(json_module.dumps(asdict(row)))
        else:
            typer.echo(f"{row.name:50} {row.where:9} {row.megabytes:6.0f} MB  {row.licence}{f'; {row.about}' if row.about else ''}")


@models.command("fetch", help="download a backbone: recommended, a name of the list, a hub repository of open_clip, or mllm:OWNER/NAME")
@shared({"offline": ENGINE["offline"]})
def fetch(given: Shared, name: Annotated[str, typer.Argument(metavar="NAME", help="for example: recommended", autocompletion=among(fetchable))]) -> None:
    weights = registry.load("rankclip.backbones.weights")
    chosen = weights.choose(name)
    size = f"{chosen.megabytes:,} MB, " if chosen.megabytes else ""
    console.say(f"rankclip: {chosen.name} from {weights.endpoint()}/{chosen.repository}: {size}licence: {chosen.licence}")
    backbone, agreement = registry.load(MODELS).fetch(name, offline=given.settings().offline)
    exported = f" (text tower exported, cosine to torch at least {agreement:.5f})" if backbone.text_engine == "onnx" else ""
    typer.echo(f"{backbone.name} is installed{exported}")
    console.say(f"  use it: --model {backbone.name}, or for always: rankclip models default {backbone.name}")


@models.command("info", help="say what is known about a backbone or head")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a backbone that is here", autocompletion=among(model_names))] = "rankclip-mini",
    json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    found = registry.load(MODELS).info(name)
    if json:
        typer.echo(json_module.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key:13} {value}")


@models.command("default", help="make a backbone the default (writes config.toml)")
def default(name: Annotated[str, typer.Argument(metavar="NAME", help="a backbone that is here", autocompletion=among(model_names))]) -> None:
    typer.echo(f"{name} is the default now ({registry.load(MODELS).make_default(name)})")


@models.command("install", help="install a head from its folder")
def install(folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder with card.json, for example one that somebody gave you")]) -> None:
    pack = registry.load("rankclip.heads.packs").install(folder)
    typer.echo(f"{pack.name} is installed: {pack.folder}")


@models.command("remove", help="delete an installed backbone's or head's files; embeddings stay in the store")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="an installed backbone", autocompletion=among(model_names))]) -> None:
    registry.load(MODELS).remove(name)
    typer.echo(f"{name} is removed")
