"""`rankclip classify`: sort photos into named classes without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.cli.options import DECODING, ENGINE, FILES, HEAD, STORE, TALK, Shared, finish, shared
from rankclip.errors import InputError, reason


def register(app: typer.Typer) -> None:
    app.command("classify", help="sort photos into named classes, without training")(classify)


@shared(FILES, HEAD, ENGINE, STORE, DECODING, TALK)
def classify(
    given: Shared,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="folders (recursive) and files; the current folder if none", show_default=False)
    ] = None,
    *,
    classes: Annotated[Path, typer.Option("--classes", metavar="FILE", help="names of the classes, one a line")] = Path("classes.txt"),
    comparative: Annotated[str, typer.Option("--comparative", metavar="FILE", help="what tells two classes apart: JSONL with a, b, text")] = "",
    alpha: Annotated[str, typer.Option("--alpha", metavar="X", help="weight of the class name against the sentences, auto chooses it without labels")] = "0.9",
    symmetric: Annotated[bool, typer.Option("--symmetric", help="correct both classes of a pair, not only the second")] = False,
    no_scan: Annotated[bool, typer.Option("--no-scan", help="take the store as it is, without looking at the disk")] = False,
    json_: Annotated[bool, typer.Option("--json", help="one JSON object a photo, schema rankclip.classify/1")] = False,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="write the result to FILE")] = None,
) -> None:
    names = read_names(classes)
    with console.Stop() as stop:
        collection = given.collection(paths or [], stop)
        found = collection.classify(names, scan=not no_scan, comparative=comparative, alpha=number(alpha), symmetric=symmetric)
        formats = registry.load("rankclip.formats.classes")
        with console.results(output) as out:
            (formats.write_json if json_ else formats.write_table)(found, out)
        if found.alike and not comparative and not given.quiet:
            close = "; ".join(f"{a} and {b}" for a, b in found.alike)
            console.say(f"rankclip: easily confused: {close}\n  a sentence that tells them apart can help: --comparative FILE")
        finish(given, collection, collection.report, stop, always=False)


def read_names(path: Path) -> list[str]:
    """Read the names of the classes."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = "write one name a line, for example: dog"
        raise InputError(f"--classes {path}: cannot be read ({reason(error)})", hint=hint) from error


def number(text: str) -> float | None:
    """Read --alpha; None stands for auto."""
    try:
        return None if text == "auto" else float(text)
    except ValueError as error:
        raise InputError(f"--alpha {text!r} is neither a number nor auto") from error
