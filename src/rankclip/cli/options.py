"""Options that several commands share, written once.

`@shared(Engine, Store, Files)` adds the options of these groups to a command and hands them over as one `Shared` object.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from rankclip import registry
from rankclip.cli import console
from rankclip.errors import InputError, PartialResult, reason
from rankclip.settings import CHOICES
from rankclip.types import EmbedReport


def among(names: Iterable[str] | Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Complete an option's value in a shell: the names that begin with what is typed so far."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in (names() if callable(names) else names) if name.startswith(incomplete)]

    return complete


def model_names() -> list[str]:
    """The backbones that are here."""
    return [row.name for row in registry.load("rankclip.collection.models").rows() if row.where != "to fetch"]


ENGINE = {
    "model": (
        Annotated[
            str | None, typer.Option("--model", metavar="NAME", help="rankclip-mini, toy, an installed one, or mllm:NAME", autocompletion=among(model_names))
        ], None,
    ),
    "engine": (
        Annotated[str | None, typer.Option("--engine", metavar="NAME", help="auto, onnx, torch, toy or mllm", autocompletion=among(CHOICES["engine"]))], None,
    ),
    "device": (Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps")], None),
    "precision": (
        Annotated[
            str | None, typer.Option("--precision", metavar="NAME", help="auto, fp32 or bf16 (torch engine)", autocompletion=among(CHOICES["precision"]))
        ], None,
    ),
    "batch_size": (Annotated[int | None, typer.Option("--batch-size", metavar="N", help="photos in a batch")], None),
    "threads": (Annotated[int | None, typer.Option("--threads", metavar="N", help="threads of the model, 0 for all cores")], None),
    "offline": (Annotated[bool | None, typer.Option("--offline", help="never touch a network")], None),
}  # fmt: skip
HEAD = {"head": (Annotated[str | None, typer.Option("--head", metavar="NAME|DIR", help="use this trained head (several with commas between)")], None)}
FILTERS = {
    "top": (Annotated[int | None, typer.Option("--top", "-n", metavar="N", help="only the first N (20 on a terminal)")], None),
    "everything": (Annotated[bool, typer.Option("--all", help="all of them on a terminal, too")], False),
    "bottom": (Annotated[int | None, typer.Option("--bottom", metavar="N", help="only the last N")], None),
    "min_percentile": (Annotated[float | None, typer.Option("--min-percentile", metavar="P", help="only photos better than P per cent of the gallery")], None),
    "min_score": (Annotated[float | None, typer.Option("--min-score", metavar="X", help="only photos with at least this score")], None),
    "unique": (Annotated[bool, typer.Option("--unique", help="one path for each content")], False),
    "no_scan": (Annotated[bool, typer.Option("--no-scan", help="take the store as it is, without looking at the disk")], False),
    "exact": (Annotated[bool, typer.Option("--exact", help="exact scores for every photo, not only the first 1,000")], False),
}  # fmt: skip
OUTPUT = {
    "explain": (Annotated[bool, typer.Option("--explain", help="say how the instruction was understood")], False),
    "format": (
        Annotated[
            str | None, typer.Option("--format", "-f", metavar="NAME", help="table, paths, tsv, csv, jsonl or html", autocompletion=among(registry.FORMATS))
        ], None,
    ),
    "json": (Annotated[bool, typer.Option("--json", help="the same as --format jsonl")], False),
    "print0": (Annotated[bool, typer.Option("--print0", "-0", help="plain paths ended by NUL")], False),
    "output": (Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="write the result to FILE")], None),
    "html": (Annotated[str | None, typer.Option("--html", metavar="FILE", help="also write a contact sheet")], None),
    "link_to": (Annotated[str | None, typer.Option("--link-to", metavar="DIR", help="make numbered links in DIR")], None),
    "copy_to": (Annotated[str | None, typer.Option("--copy-to", metavar="DIR", help="copy the photos to DIR under numbered names")], None),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="say what --link-to or --copy-to would do")], False),
    "check": (Annotated[bool, typer.Option("--check", help="print nothing; exit 0 if a photo passes, else 10")], False),
}  # fmt: skip
STORE = {
    "store": (Annotated[str | None, typer.Option("--store", metavar="DIR", help="store to use instead of your own")], None),
    "lock_timeout": (Annotated[float | None, typer.Option("--lock-timeout", metavar="SECONDS", help="wait for another writer (inf: for ever)")], None),
}  # fmt: skip
DECODING = {
    "workers": (Annotated[int | None, typer.Option("--workers", metavar="N", help="decoding processes, 0 for one a core")], None),
    "tokens": (Annotated[bool | None, typer.Option("--tokens/--no-tokens", help="keep patch tokens, which trained heads read (9.4 KB a photo)")], None),
    "time_limit_photo": (Annotated[float | None, typer.Option("--time-limit-photo", metavar="SECONDS", help="for decoding one photo (20)")], None),
    "memory_limit_photo": (Annotated[int | None, typer.Option("--memory-limit-photo", metavar="MIB", help="for decoding one photo (1024)")], None),
    "max_megapixels": (Annotated[int | None, typer.Option("--max-megapixels", metavar="N", help="largest picture that is decoded (256)")], None),
}  # fmt: skip
FILES = {
    "files_from": (Annotated[str | None, typer.Option("--files-from", metavar="FILE", help="read paths from FILE, - for stdin, one a line")], None),
    "null": (Annotated[bool, typer.Option("--null", help="the paths of --files-from end with NUL")], False),
    "hidden": (Annotated[bool, typer.Option("--hidden", help="look into hidden and thumbnail folders too")], False),
    "follow_links": (Annotated[bool, typer.Option("--follow-links", help="enter folders that are symbolic links")], False),
    "any_extension": (Annotated[bool, typer.Option("--any-extension", help="look into files of every extension")], False),
    "exclude": (Annotated[list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="leave out what a gitignore pattern matches")], None),
    "allow_truncated": (Annotated[bool, typer.Option("--allow-truncated", help="embed what is there of photos that are cut short")], False),
    "retry_failed": (Annotated[bool, typer.Option("--retry-failed", help="read again what could not be read before")], False),
    "strict": (Annotated[bool, typer.Option("--strict", help="exit 3 also for failures of earlier runs")], False),
}  # fmt: skip
TALK = {
    "progress": (
        Annotated[
            str | None,
            typer.Option("--progress", metavar="MODE", help="auto, plain (a line every 30 s) or none", autocompletion=among(CHOICES["progress"])),
        ], None,
    ),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="no bars, hints or summary; results stay")], False),
}  # fmt: skip
SETTINGS = frozenset({*ENGINE, *STORE, *DECODING, *HEAD, "progress"})


@dataclass(slots=True)
class Shared:
    """The values of shared options, as given."""

    values: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.values.get(name)

    def settings(self) -> Any:
        """Resolve flags, environment and configuration file."""
        from rankclip import settings

        return settings.resolve({name: value for name, value in self.values.items() if name in SETTINGS}).settings

    def collection(self, paths: list[str], stop: console.Stop) -> Any:
        """Open the collection that paths and options name."""
        import rankclip
        from rankclip.photos.discover import WalkOptions
        from rankclip.registry import available

        settings = self.settings()
        walk = WalkOptions(self.hidden, self.follow_links, self.any_extension, available("rawpy"), tuple(self.exclude or ()),
                           retry_failed=bool(self.retry_failed), allow_truncated=bool(self.allow_truncated))  # fmt: skip
        progress = console.make_progress(settings.progress, quiet=self.quiet)
        return rankclip.Collection(*paths, *self.listed_paths(), settings=settings, walk=walk, progress=progress, cancel=stop.event)

    def listed_paths(self) -> list[str]:
        """Read the paths of --files-from."""
        if self.files_from is None:
            if self.null:
                raise InputError("--null needs --files-from")
            return []
        return read_paths(self.files_from, null=self.null)


def read_instructions(source: str) -> list[str]:
    """Read the lines of --instructions that are not empty."""
    texts = [text for text in read_paths(source, null=False, option="--instructions", what="instructions") if text.strip()]
    if not texts:
        raise InputError(f"--instructions {source}: no instructions in it")
    return texts


def read_paths(source: str, *, null: bool, option: str = "--files-from", what: str = "paths") -> list[str]:
    """Read paths from a file or stdin ("-"), by lines or NUL. option, what: for the messages."""
    import os

    try:
        if source == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        raise InputError(f"{option} {source}: {reason(error)}", hint="name a file that can be read, or - for stdin") from error
    parts = data.split(b"\0") if null else data.splitlines()
    paths = [os.fsdecode(part) for part in parts if part]
    if not paths:
        raise InputError(f"{option} {source}: no {what} in it")
    return paths


def shared(*groups: dict[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add groups of options to a command whose first parameter is a `Shared`."""
    table = {name: row for group in groups for name, row in group.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, (kind, default) in table.items()]

        @functools.wraps(command)
        def run(*args: Any, **values: Any) -> None:
            given = Shared({name: values.pop(name) for name in table})
            command(given, *args, **values)

        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        vars(run).pop("__wrapped__", None)  # else Typer would read the signature of `command`
        return run

    return decorate


def finish(given: Shared, collection: object, report: EmbedReport, stop: console.Stop, *, always: bool = True) -> None:
    """Say what was done, then turn failures into the exit code."""
    console.say_failures(report)
    for note in getattr(collection, "notes", ()):
        console.say(f"rankclip: {note}")
    if not given.quiet and (always or report.due > report.left):
        console.say(console.summary(report))
    stop.check(report, report.due)
    if not given.quiet:
        say_raw(report)
    counted = report.failed + (report.remembered if given.strict else 0)
    if counted or report.missing_roots:
        raise PartialResult(f"{counted:,} photos could not be read" if counted else f"not there now: {', '.join(report.missing_roots)}")


def say_raw(report: EmbedReport) -> None:
    """Say how the camera RAW files can be read that were left out."""
    from rankclip.photos.sniff import RAW_EXTENSIONS

    left_out = sorted(RAW_EXTENSIONS & report.skipped.extensions.keys())
    if left_out:
        console.say(f'rankclip: camera RAW (.{", .".join(left_out)}) needs the raw extra: python -m pip install "rankclip[raw]"')
