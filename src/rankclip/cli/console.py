"""stderr: messages, bars, the summary; and stdout as bytes, safe against closed pipes and full disks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, BinaryIO

from rankclip.errors import InputError, InstructionError, Interrupted, NothingToDo, RankclipError, reason
from rankclip.formats.base import printable
from rankclip.types import EmbedReport, Silent

PLAIN_SECONDS = 30.0  # between two lines of --progress plain
STDOUT = "-"  # as the name of a file to write
NAMED_FAILURES = 1_000  # photos named one by one; more are only counted


def say(message: str) -> None:
    """Write one line to stderr; a closed stderr is not our concern."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass


def say_error(error: RankclipError) -> None:
    say(f"rankclip: {printable(error.message)}")
    if isinstance(error, InstructionError) and error.text:
        say("\n".join(f"  {line}" for line in error.caret().splitlines()))
    if error.hint:
        say(f"  {error.hint}")


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def wants_colour(stream: Any) -> bool:
    """Colour and links only on a terminal, never with NO_COLOR or TERM=dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


@contextmanager
def results(path: str | None = None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that is replaced only when everything was written (a device or a pipe is written to as it is).

    A reader that closes its pipe ends us quietly; a closed or full stdout is one line and exit 1.
    """
    if path not in (None, STDOUT):
        with _replaced(path) as out:
            yield out
        return
    if sys.stdout is None:
        raise RankclipError("stdout is closed", hint="redirect the output, or use --output FILE")
    try:
        out = sys.stdout.buffer
        yield out
        out.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise RankclipError(f"stdout: {reason(error)}") from error


@contextmanager
def printing() -> Iterator[None]:
    """Around all that a command prints by itself: a reader that closed its pipe ends it quietly, a full stdout with one line and exit 1."""
    import typer

    try:
        yield
    except BrokenPipeError:
        if sys.stdout is not None:
            _discard_stdout()
        raise typer.Exit(0) from None
    except OSError as error:
        if not _in_echo(error):
            raise
        _discard_stdout()
        raise RankclipError(f"stdout: {reason(error)}", hint="make room, or send the output elsewhere") from error


def _in_echo(error: OSError) -> bool:
    """Tell whether an error comes from printing; it names no file, as the faults of other files may not."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "echo":
            return True
        trace = trace.tb_next
    return False


def _discard_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _replaced(path: str) -> Iterator[BinaryIO]:
    direct = os.path.exists(path) and not os.path.isfile(path)  # /dev/full, or the shell's >(command): never to be replaced
    target = path if direct else os.path.realpath(path)
    partial = path if direct else f"{target}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as out:
            yield out
        if not direct:
            os.replace(partial, target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})", hint="name a file in a folder that you may write to") from error
    finally:
        if not direct and os.path.exists(partial):
            os.unlink(partial)


# ---------------------------------------------------------------- progress


class Bar:
    """A tqdm bar on a terminal, with rate and time left."""

    def __init__(self) -> None:
        self.bar: Any = None

    def start(self, total: int | None, what: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit=f" {what}", file=sys.stderr, dynamic_ncols=True, smoothing=0.1, leave=False)

    def advance(self, count: int = 1) -> None:
        self.bar.update(count)

    def note(self, message: str) -> None:
        self.bar.write(message, file=sys.stderr) if self.bar is not None else say(message)

    def done(self) -> None:
        self.bar.close()


class Plain:
    """A line every 30 seconds, for logs."""

    def __init__(self, seconds: float = PLAIN_SECONDS) -> None:
        self.seconds, self.count, self.total, self.what = seconds, 0, 0, ""
        self.began = self.said = time.monotonic()

    def start(self, total: int | None, what: str) -> None:
        self.count, self.total, self.what = 0, total or 0, what
        self.began = self.said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.count += count
        now = time.monotonic()
        if now - self.said >= self.seconds:
            self.said = now
            rate = self.count / (now - self.began)
            left = f", {duration((self.total - self.count) / rate)} left" if rate else ""
            say(f"rankclip: {self.count:,} of {self.total:,} {self.what}, {rate:.1f}/s{left}")

    def note(self, message: str) -> None:
        say(message)

    def done(self) -> None:
        pass


def make_progress(mode: str, *, quiet: bool) -> Any:
    """Choose how progress is shown: bars only on a terminal."""
    if quiet or mode == "none":
        return Silent()
    if mode == "plain":
        return Plain()
    return Bar() if is_terminal(sys.stderr) else Silent()


def duration(seconds: float) -> str:
    """Say a time span: 45 s, 12 min, 3.4 h.

    >>> duration(45.2), duration(720), duration(12_240)
    ('45 s', '12 min', '3.4 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """Say a number of things.

    >>> counted(1, "photo"), counted(1_200, "file")
    ('1 photo', '1,200 files')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- signals


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop, the second into the end.

    Between `with Stop() as stop`, `stop.event` is what long work watches; `stop.check(report)` raises Interrupted afterwards.
    """

    def __init__(self, *, again: bool = True) -> None:
        """again: the same command goes on where it stopped."""
        self.again = again
        self.event = threading.Event()
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._wish)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.event.is_set() and isinstance(error, NothingToDo):  # there may be photos: the look at them was cut short
            raise Interrupted("interrupted before the first photo was embedded", signal_number=self.number) from error

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            os._exit(128 + number)
        self.number = number
        self.event.set()

    def check(self, report: EmbedReport, total: int) -> None:
        if self.event.is_set():
            kept = report.new + report.again + report.copies + report.moved
            raise Interrupted(f"interrupted: kept {kept:,} of {total:,} new photos", signal_number=self.number, again=self.again)


class Deadline(threading.Event):
    """A wish to stop that is set by another event or by the clock.

    seconds: from now, more than 0; None: only the other event counts.
    """

    def __init__(self, other: threading.Event, seconds: float | None) -> None:
        super().__init__()
        self.other = other
        self.end = time.monotonic() + (float("inf") if seconds is None else seconds)

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.end

    def is_set(self) -> bool:
        return self.other.is_set() or self.passed


# ---------------------------------------------------------------- the summary


def summary(report: EmbedReport) -> str:
    """Say in one line what a run of `embed` did."""
    parts = [f"{report.new:,} new", f"{report.unchanged:,} unchanged"]
    parts += [f"{count:,} {name}" for count, name in ((report.again, "embedded again"), (report.moved, "moved"), (report.copies, "copies"),
                                                     (report.failed, "failed"), (report.remembered, "failed before")) if count]  # fmt: skip
    left_out = [f"{count:,} {reason}" for reason, count in sorted(report.skipped.reasons.items())]
    left_out += [f"{count:,} .{extension}" for extension, count in sorted(report.skipped.extensions.items(), key=lambda item: (-item[1], item[0]))]
    line = ", ".join(parts)
    if left_out:
        line += f"; left out: {', '.join(printable(part) for part in left_out[:8])}{' ...' if len(left_out) > 8 else ''}"
    if (embedded := report.new + report.again) and report.seconds:  # a dry run takes no time
        rate = embedded / max(report.seconds, 1e-9)
        line += f"; {rate:.1f} photos/s, decode {report.decode_share:.0%}, model {report.model_share:.0%} of the time; {report.engine}"
    return f"rankclip: {line}"


def say_failures(report: EmbedReport) -> None:
    """Name each photo that could not be read in this run, once."""
    for failure in report.failures[:NAMED_FAILURES]:
        say(f"rankclip: {printable(failure.shown)}: {printable(failure.reason)}")
    if len(report.failures) > NAMED_FAILURES:
        say(f"rankclip: ... and {len(report.failures) - NAMED_FAILURES:,} more")
