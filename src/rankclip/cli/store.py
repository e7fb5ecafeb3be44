"""`rankclip store`: look after the store."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import ENGINE, STORE, Shared, shared
from rankclip.errors import NothingToDo, StoreDamaged
from rankclip.formats.base import printable

store = typer.Typer(help="look after the store: info, verify, prune, compact, forget, export", no_args_is_help=True, rich_markup_mode=None)
UPKEEP = "rankclip.store.upkeep"


def register(app: typer.Typer) -> None:
    app.add_typer(store, name="store")


@contextmanager
def opened(given: Shared, *, write: bool = False, needed: bool = False) -> Iterator[Any]:
    """Open the store. Where there is none yet: None, with a line; NothingToDo where it is needed."""
    settings = given.settings()
    kind = registry.load("rankclip.store.store").Store
    if not kind.exists(settings.store_folder()):
        if needed:
            raise NothingToDo(f"no store yet at {settings.store_folder()}", hint="rankclip embed makes it; --store DIR names another")
        console.say(f"rankclip: no store yet at {settings.store_folder()}")
        yield None
        return
    with kind.open(settings.store_folder(), write=write, lock_timeout=settings.lock_timeout) as found:
        yield found


@store.command("info", help="say what the store holds and the disk it uses")
@shared(STORE)
def info(given: Shared, *, json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False) -> None:
    with opened(given) as found:
        if found is None:
            return
        facts = registry.load(UPKEEP).info(found)
        if json:
            typer.echo(json_module.dumps({"schema": "rankclip.store/1", **asdict(facts), "bytes": facts.bytes}))
            return
        typer.echo(f"{facts.folder}: {facts.bytes / 1e6:,.1f} MB")
        typer.echo(f"{facts.files:,} files in {facts.folders:,} folders, {facts.contents:,} different contents, {facts.failures:,} that could not be read")
        for space in facts.spaces:
            typer.echo(
                f"{space.backbone} ({space.fingerprint}): {space.rows:,} embeddings, {space.token_rows:,} with patch tokens, {space.bytes / 1e6:,.1f} MB"
            )


@store.command("verify", help="check every byte of the store against its checksum")
@shared(STORE)
def verify(
    given: Shared, *, repair: Annotated[bool, typer.Option("--repair", help="rebuild what can be rebuilt, drop the rest (it is embedded again)")] = False
) -> None:
    if repair:
        rescue_catalogue(given)
    with opened(given, write=repair) as found:
        if found is None:
            return
        upkeep = registry.load(UPKEEP)
        verdict = upkeep.repair(found) if repair else upkeep.verify(found)
        for damage in verdict.damages[:20]:
            console.say(f"rankclip: damaged: {damage}")
        if repair:
            typer.echo(f"{verdict.repaired:,} rows rebuilt, {verdict.dropped:,} dropped" if verdict.damages else f"sound: {verdict.batches:,} batches")
        elif verdict.sound:
            typer.echo(f"sound: {verdict.batches:,} batches")
        else:
            problem = verdict.catalogue[0] if verdict.catalogue else f"{len(verdict.damages):,} damaged batches"
            raise StoreDamaged(f"{found.folder}: {problem}", hint="run: rankclip store verify --repair")


def rescue_catalogue(given: Shared) -> None:
    """Replace a catalogue that SQLite finds damaged; the store cannot be opened before."""
    settings = given.settings()
    folder = settings.store_folder()
    if registry.load("rankclip.store.store").Store.exists(folder):
        rescue = registry.load("rankclip.store.rescue")
        if rescue.rescue(folder, settings.lock_timeout):
            console.say(f"rankclip: the catalogue was damaged: made anew from what could be read; the damaged one is kept as {folder / rescue.KEPT}")


@store.command("prune", help="forget files that are gone from the disk")
@shared(STORE)
def prune(
    given: Shared,
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="only below these folders", show_default=False)] = None,
) -> None:
    with opened(given, write=True) as found:
        if found is not None:
            gone = registry.load(UPKEEP).prune(found, paths or ())
            for path in gone[:20]:
                console.say(f"forgotten: {printable(path)}")
            typer.echo(f"{console.counted(len(gone), 'file')} forgotten")


@store.command("compact", help="erase the features of contents that no file has any more")
@shared(STORE)
def compact(given: Shared) -> None:
    with opened(given, write=True) as found:
        if found is not None:
            typer.echo(f"{registry.load(UPKEEP).compact(found):,} rows erased")


@store.command("forget", help="forget photos and erase their features (face embeddings are personal data)")
@shared(STORE)
def forget(given: Shared, paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="files or folders")]) -> None:
    with opened(given, write=True, needed=True) as found:
        typer.echo(f"{console.counted(registry.load(UPKEEP).forget(found, paths), 'file')} forgotten, their features erased")


@store.command("export", help="write paths and embeddings as .npz or .parquet")
@shared(ENGINE, STORE)
def export(given: Shared, file: Annotated[str, typer.Argument(metavar="FILE", help="ends in .npz or .parquet")]) -> None:
    with opened(given, needed=True) as found:
        space = given.collection([], console.Stop()).backbone.space
        typer.echo(f"{console.counted(registry.load(UPKEEP).export(found, space, Path(file)), 'embedding')} written to {printable(file)}")
