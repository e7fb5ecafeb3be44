"""The table of commands, and the one place where an error becomes a message and an exit code.

0 done · 1 a bug of ours · 2 usage · 3 done, but photos could not be read · 4 no photos · 5 store · 6 model or head · 7 network
130/143 interrupted · 10, 11 answers of --check and --exit-code
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import rankclip
from rankclip.cli import console
from rankclip.errors import RankclipError

REPORT = "please report it, with the command and the last lines of: rankclip --debug ..."


class Commands(TyperGroup):
    """Catches our errors around every command, in a process and under the test runner alike."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Print the help, too, into a closed pipe or onto a full disk without a trace."""
        try:
            with console.printing():
                return super().make_context(*args, **options)
        except RankclipError as error:
            console.say_error(error)
            raise typer.Exit(error.exit_code) from error

    def invoke(self, ctx: Any) -> Any:
        try:
            with console.printing():
                return super().invoke(ctx)
        except RankclipError as error:
            console.say_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            console.say("rankclip: interrupted")
            raise typer.Exit(130) from None
        except MemoryError as error:
            console.say("rankclip: not enough memory\n  try a smaller --batch-size")
            raise typer.Exit(6) from error
        except Exception as error:
            if ctx.params.get("debug") or isinstance(error, (typer.Exit, typer.Abort, *usage_errors())):
                raise
            console.say(f"rankclip: a bug: {type(error).__name__}: {error}\n  {REPORT}")
            raise typer.Exit(1) from error


def usage_errors() -> tuple[type[BaseException], ...]:
    """Typer's own error for a wrong command line; it carries its exit code, 2."""
    return (typer.BadParameter.__mro__[1],)


# modules of this package, in the order of the help; a new command is one file and one entry here
COMMANDS = ("embed", "rank", "diff", "compose_search", "classify", "store", "models", "config", "doctor", "demo")
# groups of commands: a new `finetune NAME` or `evaluate NAME` is one file and one entry here
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "finetune": ("train a head on your own labels", ("finetune_adapter", "finetune_composer", "finetune_difference")),
    "evaluate": ("measure on benchmarks and labels", ("evaluate_composition", "evaluate_difference", "evaluate_ranking")),
}


@cache
def build(only: str = "") -> typer.Typer:
    """Put the commands together; only: the one that a command line names. All of them cost a tenth of a short command's time."""
    found = typer.Typer(
        name="rankclip", cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Put a local photo collection in the order a sentence asks for. Offline; no picture ever leaves the machine.",
    )  # fmt: skip
    found.callback()(options)
    register(found, [only] if only else COMMANDS)
    for name, (about, commands) in GROUPS.items() if not only else ():
        group = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)
        register(group, commands)
        found.add_typer(group, name=name)
    return found


def register(found: typer.Typer, commands: Sequence[str]) -> None:
    for name in commands:
        importlib.import_module(f"rankclip.cli.{name}").register(found)


def show_version(value: bool) -> None:
    if value:
        typer.echo(f"rankclip {rankclip.__version__}")
        raise typer.Exit


def options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="show the version and exit")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the whole trace of an unexpected error")] = False,
) -> None:
    pass


def __getattr__(name: str) -> typer.Typer:
    """`app`: all commands."""
    if name != "app":
        raise AttributeError(name)
    return build()


def main() -> None:
    """Run the command line."""
    if sys.platform != "win32":
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not burn the cores that decode
    gc.freeze()  # what imports made stays; looking through it again and again is a tenth of a short command's time
    gc.set_threshold(50_000)
    named = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    build(named if named in COMMANDS and "_" not in sys.argv[1] else "")()
