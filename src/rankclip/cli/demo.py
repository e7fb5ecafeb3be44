"""`rankclip demo`: real photos, three rankings, contact sheets to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import ENGINE, TALK, Shared, shared
from rankclip.formats.base import FormatOptions

INSTRUCTIONS = ("older faces first", "from dark to bright", "sharpest photos of the cat first")
SHOWN = 5


def register(app: typer.Typer) -> None:
    app.command("demo", help="make a folder of sample photos, embed it and rank it by three instructions")(demo)


@shared(ENGINE, TALK)
def demo(given: Shared, folder: Annotated[str, typer.Argument(metavar="DIR", help="where the demo goes")] = "rankclip-demo") -> None:
    photos = Path(folder, "photos")
    made = registry.load("rankclip.photos.samples").make_demo(photos)
    typer.echo(f"{len(made)} photos in {photos} (from the sample pictures of matplotlib, scikit-image and scikit-learn)")
    given.values["store"] = str(Path(folder, "store"))
    with console.Stop() as stop:
        collection = given.collection([str(photos)], stop)
        for number, ranking in enumerate(collection.rank_all(INSTRUCTIONS), 1):
            if number == 1 and not given.quiet:
                console.say(console.summary(collection.report))
            show(ranking, Path(folder, f"sheet_{number}.html"))
    typer.echo(f'\nLook at the sheets with a browser, or try: rankclip rank {photos} "a cup of coffee"')


def show(ranking: object, sheet: Path) -> None:
    """Print the first photos and write the contact sheet of all."""
    typer.echo(f"\n{ranking.instruction}")  # type: ignore[attr-defined]
    for hit in ranking[:SHOWN]:  # type: ignore[index]
        value = "" if hit.value is None else f"  {hit.value:.0f}{'' if hit.applies is not False else ' (does not apply)'}"
        typer.echo(f"  {hit.rank}  {Path(hit.path).name}{value}")
    with console.results(str(sheet)) as out:
        registry.resolve(registry.FORMATS, "html", what="format")(ranking, out, FormatOptions())
    typer.echo(f"  all of them in order: {sheet}")
