"""Paths -> files that may be photos, in a stable order.

Promises: a folder is listed once, whatever links and roots lead to it; everything left out is counted with its reason; one `stat` a
file. Refuses a path that is not there before any work. What a file really is, decoding finds out (`sniff`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rankclip.errors import InputError, reason
from rankclip.photos.sniff import EXTENSIONS, HEAD, NO_FILE, RAW_EXTENSIONS, extension, sniff
from rankclip.types import Failure, Skipped

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".rankclipignore"
# folders that programs fill with thumbnails or code; their names do not begin with a dot
CLUTTER = frozenset({"@eaDir", "node_modules", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """How a look at the disk goes, and what is read of what it finds."""

    hidden: bool = False  # look into hidden and thumbnail folders too
    follow_links: bool = False  # enter folders that are symbolic links
    any_extension: bool = False  # look into files of every extension
    raw: bool = False  # camera RAW can be read here
    exclude: tuple[str, ...] = ()  # gitignore patterns, relative to each root
    retry_failed: bool = False  # read again what could not be read before
    allow_truncated: bool = False  # take what is there of photos that are cut short


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate: name, what `stat` says, the path as the user will see it."""

    name: str
    stat: os.stat_result
    shown: str


@dataclass(slots=True)
class Listing:
    """The candidates of one folder. `whole`: the folder itself was listed (not single files of it)."""

    folder: str  # absolute, as the system gives it
    entries: list[Entry]
    whole: bool = True


@dataclass(slots=True)
class Walk:
    """One look at the disk: `skipped` and `failures` fill while the listings are read."""

    roots: Sequence[str]
    options: WalkOptions = WalkOptions()
    skipped: Skipped = field(default_factory=Skipped)
    failures: list[Failure] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def listings(self) -> Iterator[Listing]:
        """Yield every folder's candidates, roots in the order given, folders and names sorted."""
        singles: dict[str, dict[str, Entry]] = {}
        folders: list[str] = []
        for root in self.roots:
            if os.path.isdir(root):
                folders.append(root)
            else:
                self._single(root, singles)
        for root in folders:
            for listing in self._folder(os.path.abspath(root), root.rstrip("/") or root, ()):
                here = singles.get(listing.folder, {})
                for entry in listing.entries if here else ():  # named by itself and found in its folder: one photo
                    here.pop(entry.name, None)
                yield listing
        for folder, entries in singles.items():
            yield Listing(folder, list(entries.values()), whole=False)

    def _single(self, path: str, singles: dict[str, dict[str, Entry]]) -> None:
        absolute = os.path.abspath(path)
        try:
            found = os.stat(absolute)
        except OSError as error:
            self.failures.append(Failure(path, _reason(path, error), "missing"))
            return
        if not stat.S_ISREG(found.st_mode):
            self.failures.append(Failure(path, NO_FILE, "missing"))
            return
        folder, name = os.path.split(absolute)
        singles.setdefault(folder, {}).setdefault(name, Entry(name, found, path))

    def _folder(self, folder: str, shown: str, rules: tuple[tuple[str, GitIgnoreSpec], ...]) -> Iterator[Listing]:
        try:
            identity = os.stat(folder)
            if (identity.st_dev, identity.st_ino) in self._seen:
                self.skipped.add("folder already visited")
                return
            self._seen.add((identity.st_dev, identity.st_ino))
            with os.scandir(folder) as iterator:
                found = sorted(iterator, key=_name)
        except OSError as error:
            self.failures.append(Failure(shown, f"folder cannot be read: {_reason(folder, error)}", "folder"))
            return
        rules = self._with_rules(folder, rules, found)
        entries, below = self._sort_out(folder, shown, found, rules)
        yield Listing(folder, entries)
        for entry in below:
            yield from self._folder(entry.path, f"{shown}/{entry.name}" if shown != "/" else f"/{entry.name}", rules)

    def _with_rules(self, folder: str, rules: tuple[tuple[str, GitIgnoreSpec], ...], found: list[os.DirEntry[str]]) -> tuple[tuple[str, GitIgnoreSpec], ...]:
        if not rules and self.options.exclude:
            rules = ((folder, parse_rules(self.options.exclude, "--exclude")),)
        if any(entry.name == IGNORE_FILE for entry in found):
            rules = (*rules, (folder, read_rules(f"{folder}/{IGNORE_FILE}")))
        return rules

    def _sort_out(
        self, folder: str, shown: str, found: list[os.DirEntry[str]], rules: tuple[tuple[str, GitIgnoreSpec], ...]
    ) -> tuple[list[Entry], list[os.DirEntry[str]]]:
        """Part a folder's entries into candidates and folders to enter; count the rest."""
        entries: list[Entry] = []
        below: list[os.DirEntry[str]] = []
        prefix = f"{shown}/" if shown != "/" else "/"
        for entry in found:
            name = entry.name
            if self._is_hidden(name):
                continue
            is_folder = _is_folder(entry)
            if rules and self._excluded(folder, name, is_folder, rules):
                self.skipped.add("excluded")
            elif is_folder:
                if entry.is_symlink() and not self.options.follow_links:
                    self.skipped.add("linked folder")
                else:
                    below.append(entry)
            elif (candidate := self._candidate(entry, prefix + name)) is not None:
                entries.append(candidate)
        return entries, below

    def _is_hidden(self, name: str) -> bool:
        if name == IGNORE_FILE:
            return True
        hidden = name.startswith("._") or (not self.options.hidden and (name[0] == "." or name in CLUTTER))
        if hidden:
            self.skipped.add("hidden")
        return hidden

    def _candidate(self, entry: os.DirEntry[str], shown: str) -> Entry | None:
        """Stat one file; a file without a photo's extension must also look like a photo inside."""
        kind = extension(entry.name)
        sure = kind in EXTENSIONS or (self.options.raw and kind in RAW_EXTENSIONS)
        if kind and not sure and not self.options.any_extension:
            self.skipped.add_extension(kind)
            return None
        try:
            found = entry.stat()
            if not stat.S_ISREG(found.st_mode):
                self.skipped.add("not a file")
                return None
            if not sure and not _looks_like_photo(entry.path, entry.name):
                self.skipped.add("not a photo")
                return None
        except OSError as error:
            self.failures.append(Failure(shown, _reason(entry.path, error), "missing"))
            return None
        return Entry(entry.name, found, shown)

    def _excluded(self, folder: str, name: str, is_folder: bool, rules: tuple[tuple[str, GitIgnoreSpec], ...]) -> bool:
        """Ask the rules, the deepest first: as with gitignore, the nearest file that has an opinion decides."""
        path = f"{folder}/{name}" + ("/" if is_folder else "")
        for base, spec in reversed(rules):
            verdict = spec.check_file(path[len(base) :].lstrip("/")).include
            if verdict is not None:
                return bool(verdict)
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one; a link that cannot be followed is taken for a file, whose `stat` then says why."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def read_rules(path: str) -> GitIgnoreSpec:
    """Read an ignore file. One that cannot be read ends the run: to go on would embed what somebody wanted left out."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for somebody who writes
            raise InputError(f"{path}: {NO_FILE}", hint="remove it, or make it a file of gitignore patterns")
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            return parse_rules(lines.read().splitlines(), path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(path, error)})", hint="make it readable, or remove it") from error


def parse_rules(lines: Iterable[str], origin: str) -> GitIgnoreSpec:
    """Compile gitignore patterns, or say which one is wrong."""
    from pathspec import GitIgnoreSpec  # 25 ms: only where patterns are used

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise InputError(f"{origin}: {error}") from error


def _looks_like_photo(path: str, name: str) -> bool:
    with open(path, "rb") as file:
        return sniff(file.read(HEAD), extension(name)) not in ("", "AppleDouble")


def _reason(path: str, error: OSError) -> str:
    text = reason(error)
    if os.path.islink(path):
        return f"link to {os.readlink(path)}: {text}"
    return text


def check_roots(roots: Sequence[str], known: Iterable[str] = ()) -> list[str]:
    """Return the roots that are there. A missing one is an error unless the store knows it; an empty one that it knows is as good as missing (its
    disk may not be mounted).

    Raises InputError naming the path, with the nearest name that exists beside it.
    """
    known = list(known)
    present: list[str] = []
    for root in roots:
        if root == "":
            raise InputError("an empty path is not a folder or photo")
        is_known = any(f"{folder}/".startswith(f"{os.path.abspath(root).rstrip('/')}/") for folder in known)
        if os.path.lexists(root):
            if not (is_known and is_empty(root)):
                present.append(root)
        elif not is_known:
            fault = _fault(root)
            raise InputError(f"{root}: {fault or 'no such file or folder'}", hint="" if fault else near(root))
    return present


def _fault(path: str) -> str:
    """Say what keeps us from looking whether a path is there, "" when it is just not there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        return reason(error)
    return ""


def is_empty(path: str) -> bool:
    """Tell whether a path is a folder with nothing in it."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def near(path: str) -> str:
    """Propose the nearest name that exists beside a path, "" when none is near."""
    from difflib import get_close_matches

    parent, name = os.path.split(path.rstrip("/"))
    try:
        near = get_close_matches(name, os.listdir(parent or "."), 1)
    except OSError:
        near = []
    return f"did you mean {os.path.join(parent, near[0])!r}?" if near else ""
