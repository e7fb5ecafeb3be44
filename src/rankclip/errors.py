"""Every failure that a user can meet, and the exit code it ends with.

    RankclipError                   the base: message, hint (the next step), exit code
    ├─ InputError                2  a wrong option, value or path
    │  └─ InstructionError       2  an instruction that cannot be meant; knows where the fault is
    ├─ PartialResult             3  done, but some photos could not be read
    ├─ NothingToDo               4  no photos found
    ├─ StoreError                5  the store cannot be used
    │  ├─ StoreLocked            5  another process writes
    │  ├─ StoreReadOnly          5  no permission to write
    │  ├─ StoreNewer             5  made by a newer rankclip
    │  ├─ StoreDamaged           5  truncated, or bytes have changed
    │  └─ StoreFull              5  disk full or failing
    ├─ ModelError                6  weights, engine, device or head
    │  ├─ RuntimeMissing         6  a package that this needs is not installed (or does not load)
    │  └─ SpaceMismatch          6  embeddings of different models cannot be compared
    ├─ NetworkError              7  a hub or endpoint cannot be reached
    └─ Interrupted        130, 143  Ctrl-C or SIGTERM; finished batches are kept

    PhotoError                      one photo cannot be read; collected, never fatal

Library code raises these and nothing else for the world's faults; it never prints, exits or swallows. `assert` is for our own.
"""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """Say what the system says of a fault.

    >>> reason(FileNotFoundError(2, "No such file or directory")), reason(ValueError("Embedded null byte"))
    ('no such file or directory', 'embedded null byte')
    """
    return str(getattr(error, "strerror", None) or error).lower()


class RankclipError(Exception):
    """Base of all failures that are not bugs; `hint` is the next step for the user."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(RankclipError):
    """An option, value or path that cannot be used; nothing was written."""

    exit_code = 2


class InstructionError(InputError):
    """An instruction that cannot be meant; `position` is where the fault begins."""

    def __init__(self, message: str, *, text: str = "", position: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.position = position

    def caret(self) -> str:
        """Show the instruction with a caret under the fault."""
        return f"{self.text}\n{' ' * self.position}^"


class PartialResult(RankclipError):
    """The work is done and its results are printed, but some photos could not be read."""

    exit_code = 3


class NothingToDo(RankclipError):
    """No photo was found; the message says what was looked at and what was left out."""

    exit_code = 4


class StoreError(RankclipError):
    """The store cannot be used as asked; it is left as it was."""

    exit_code = 5


class StoreLocked(StoreError):
    """Another process is writing to the store."""


class StoreReadOnly(StoreError):
    """The store must be written for this command, and may not be."""


class StoreNewer(StoreError):
    """The store was made by a newer rankclip; it is not touched."""


class StoreDamaged(StoreError):
    """Something in the store is cut short or has changed; the photos themselves are never touched."""


class StoreFull(StoreError):
    """The disk is full or failing; everything committed before is still valid."""


class ModelError(RankclipError):
    """A model, head, engine or device cannot be used."""

    exit_code = 6


class RuntimeMissing(ModelError):
    """A package that this command needs is missing or does not load."""


class SpaceMismatch(ModelError):
    """Embeddings, queries or heads of different models were about to be compared."""


class NetworkError(RankclipError):
    """A hub or an endpoint cannot be reached."""

    exit_code = 7


class Interrupted(RankclipError):
    """Stopped by Ctrl-C (130) or SIGTERM (143) after the batch in hand was kept."""

    def __init__(self, message: str, *, signal_number: int, again: bool = True) -> None:
        super().__init__(message, hint="run the same command again: it goes on where it stopped" if again else "--force begins anew each time")
        self.exit_code = 128 + signal_number


class PhotoError(RankclipError):
    """One photo cannot be read: `path` says which, `kind` is a stable word for the reason."""

    exit_code = 3

    def __init__(self, path: str, reason: str, *, kind: str = "unreadable") -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind
