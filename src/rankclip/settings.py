"""Settings: flag > environment (RANKCLIP_*) > config.toml > default, each value with where it came from.

Promises that a wrong value is refused with the place it stands in. Paths of the user's files come from platformdirs.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rankclip.errors import InputError, reason

APP = "rankclip"
DEFAULT_MODEL = "rankclip-mini"
PREFIX = "RANKCLIP_"
# other tools' variables that mean the same thing
FOREIGN = {"offline": ("HF_HUB_OFFLINE",), "quiet": ()}
AT_LEAST_ONE = ("batch_size", "memory_limit_photo", "max_megapixels")
CHOICES = {
    "engine": ("auto", "onnx", "torch", "toy", "mllm"),
    "precision": ("auto", "fp32", "bf16"),
    "progress": ("auto", "plain", "none"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings that commands share. Times in seconds, memory in MiB, pixels in megapixels."""

    model: str = DEFAULT_MODEL
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32  # photos; a batch is always padded to this, so that an embedding never depends on its neighbours
    threads: int = 0  # 0: as many as there are cores
    workers: int = 0  # decoding processes; 0: one for each core, at most 8
    store: str = ""  # empty: the user's own store
    offline: bool = False
    progress: str = "auto"
    tokens: bool = True  # keep patch tokens (rankclip-mini: 9.4 KB a photo)
    time_limit_photo: float = 20.0  # for decoding one photo
    memory_limit_photo: int = 1024  # MiB for one decoding process, above what it starts with
    max_megapixels: int = 256  # a fixed cap, the same on every machine
    head: str = ""  # heads to use, by name or folder, with commas between; empty: those that are installed
    lock_timeout: float = 0.0  # wait for another writer; inf waits for ever

    def store_folder(self) -> Path:
        """Return the folder of the store, whether or not it exists."""
        return Path(self.store).expanduser() if self.store else user_folder("cache") / "store"

    def thread_count(self) -> int:
        """Return how many threads an engine may use."""
        return self.threads or available_cores()

    def worker_count(self) -> int:
        """Return how many processes decode photos."""
        return self.workers or min(8, available_cores())


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings together with the source of each value (for `rankclip config show`)."""

    settings: Settings
    sources: dict[str, str]


def resolve(flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None, file: Path | None = None) -> Resolved:
    """Put all sources together; a flag that is None was not given.

    Raises InputError for an unknown key or a value of the wrong kind, naming the file, variable or option.

    >>> resolve({"threads": 2}, {"RANKCLIP_ENGINE": "toy"}, Path("none")).settings.engine
    'toy'
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources = {field.name: "default" for field in dataclasses.fields(Settings)}
    for source, found in ((str(file or config_file()), from_file(file or config_file())), ("environment", from_environment(environment)),
                          ("flag", {k: v for k, v in (flags or {}).items() if v is not None})):  # fmt: skip
        for name, value in found.items():
            origin = f"{PREFIX}{name.upper()}" if source == "environment" else f"--{name.replace('_', '-')}" if source == "flag" else source
            values[name] = converted(name, value, origin)
            sources[name] = origin if source != "flag" else "flag"
    return Resolved(Settings(**values), sources)


def from_file(path: Path) -> dict[str, Any]:
    """Read config.toml; a missing file is an empty one."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        hint = f"make it readable, or name another: {PREFIX}CONFIG=FILE"
        raise InputError(f"{path}: cannot be read ({reason(error)})", hint=hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}", hint="correct the file, or remove it to use the defaults") from error
    found = {name.replace("-", "_"): value for name, value in found.items()}
    names = [field.name for field in dataclasses.fields(Settings)]
    for name in found:
        if name not in names:
            near = get_close_matches(name, names, 1)
            raise InputError(f"{path}: unknown setting {name!r}", hint=f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(names)}")
    return found


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for field in dataclasses.fields(Settings):
        for variable in (f"{PREFIX}{field.name.upper()}", *FOREIGN.get(field.name, ())):
            if environment.get(variable, "") != "" and field.name not in found:
                found[field.name] = environment[variable]
    return found


def misspelt_variables(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that nearly have the name of a setting, each with that name.

    >>> misspelt_variables({"RANKCLIP_BACTH_SIZE": "3", "RANKCLIP_STORE": "s"})
    [('RANKCLIP_BACTH_SIZE', 'RANKCLIP_BATCH_SIZE')]
    """
    known = [f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(Settings)]
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in (*known, f"{PREFIX}CONFIG"))
    return [(name, near) for name in unknown for near in get_close_matches(name, known, 1, 0.85)]


def converted(name: str, value: Any, origin: str) -> Any:
    """Turn text or a TOML value into the setting's type, or say what is wrong with it."""
    kind = type(getattr(Settings(), name))
    try:
        if kind is bool:
            result: Any = _truth(value)
        elif kind in (int, float):
            result = kind(str(value).strip())
        else:
            result = str(value).strip()
    except ValueError as error:
        raise InputError(f"{origin}: {value!r} is not a valid {name.replace('_', ' ')} ({kind.__name__})") from error
    if name in CHOICES and result not in CHOICES[name]:
        near = get_close_matches(result, CHOICES[name], 1)
        raise InputError(f"{origin}: unknown {name} {result!r}", hint=f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(CHOICES[name])}")
    if isinstance(result, int | float) and result < 0:
        raise InputError(f"{origin}: {name.replace('_', ' ')} must not be negative, got {value}")
    if name in AT_LEAST_ONE and result < 1:
        raise InputError(f"{origin}: {name.replace('_', ' ')} must be at least 1, got {value}")
    if name == "time_limit_photo" and not result > 0:
        raise InputError(f"{origin}: time limit photo must be more than 0 seconds, got {value}")
    return result


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def config_file() -> Path:
    """Return the path of config.toml (it may not exist); RANKCLIP_CONFIG overrides it."""
    return Path(os.environ[f"{PREFIX}CONFIG"]) if os.environ.get(f"{PREFIX}CONFIG") else user_folder("config") / "config.toml"


def user_folder(kind: str) -> Path:
    """Return rankclip's own folder for "cache", "config" or "data" files."""
    import platformdirs  # 15 ms: only when no explicit folder was given

    return Path({"cache": platformdirs.user_cache_dir, "config": platformdirs.user_config_dir, "data": platformdirs.user_data_dir}[kind](APP, appauthor=False))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
