"""What works here: engines, devices, parity between them, formats, the store; each finding with its next step."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rankclip.backbones.specs import Backbone, bundled_folder, find
from rankclip.errors import RankclipError, RuntimeMissing
from rankclip.photos.sniff import PILLOW_FORMATS
from rankclip.registry import ENGINES, available, load, resolve
from rankclip.settings import DEFAULT_MODEL, Settings, available_cores
from rankclip.store.store import Store

PACKAGES = ("numpy", "pillow", "pi-heif", "onnxruntime", "torch", "open_clip_torch", "rawpy", "pyarrow")
TEXTS = ["a photo of a cat", "older faces first", "a red car at night"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor. state: ok | missing | problem."""

    what: str
    state: str
    detail: str
    step: str = ""


def examine(settings: Settings, *, quick: bool = False) -> Iterator[Finding]:
    """Yield findings, cheap ones first; quick leaves out what runs a model."""
    yield Finding("system", "ok", f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}, {available_cores()} cores")
    yield from packages()
    yield formats()
    yield store(settings)
    if quick:
        return
    yield from engines(settings)


def packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            extra = {"rawpy": "raw", "pyarrow": "parquet"}.get(name)
            step = f'python -m pip install "rankclip[{extra}]"' if extra else f"python -m pip install {name}"
            yield Finding(name, "missing", "optional" if extra else "needed", step)


def formats() -> Finding:
    """Say which formats this install reads."""
    from PIL import Image, features

    Image.init()
    there = [name for name, plugins in PILLOW_FORMATS.items() if any(plugin in Image.OPEN for plugin in plugins)]
    if not features.check("avif"):
        there.remove("AVIF")
    there += ["HEIC"] if available("pi_heif") else []
    there += ["RAW"] if available("rawpy") else []
    lost = sorted({*PILLOW_FORMATS, "HEIC"} - set(there))
    return Finding(
        "formats",
        "ok" if not lost else "problem",
        ", ".join(there),
        f"not read here: {', '.join(lost)}; python -m pip install -U pillow pi-heif" if lost else "",
    )


def store(settings: Settings) -> Finding:
    folder = settings.store_folder()
    if not Store.exists(folder):
        return Finding("store", "ok", f"none yet ({folder})")
    try:
        with Store.open(folder) as found:
            facts = load("rankclip.store.upkeep").info(found)
        return Finding("store", "ok", f"{facts.files:,} files, {facts.bytes / 1e6:,.1f} MB ({folder})")
    except RankclipError as error:
        return Finding("store", "problem", error.message, error.hint)


def engines(settings: Settings) -> Iterator[Finding]:
    """Run each engine that loads on its model; compare those that share one."""
    for name, model in (("toy", "toy"), ("onnx", DEFAULT_MODEL)):
        if model == DEFAULT_MODEL and not (bundled_folder() / "card.json").is_file():
            yield Finding(f"engine {name}", "problem", f"{DEFAULT_MODEL} is not in this install", "install rankclip again")
            continue
        yield engine(name, find(model), settings)
    if settings.model not in ("toy", DEFAULT_MODEL):
        yield from chosen_model(settings)
    elif available("torch"):
        yield torch_state()
    else:
        yield Finding("engine torch", "missing", "only needed for other models and for training", "python -m pip install torch open_clip_torch")


def engine(name: str, backbone: Backbone, settings: Settings) -> Finding:
    """Measure an engine's speed on a full batch."""
    try:
        made = resolve(ENGINES, name, what="engine")(backbone, settings)
        rate, query = speed(made, backbone, settings)
        return Finding(f"engine {name}", "ok", f"{backbone.name}: {made.describe()}; {rate:,.0f} photos/s without decoding, a text {query * 1e3:.0f} ms")
    except RankclipError as error:
        return Finding(f"engine {name}", "problem", error.message, error.hint)


def speed(made: Any, backbone: Backbone, settings: Settings) -> tuple[float, float]:
    pixels = noise_pixels(settings.batch_size, backbone.input.size)
    made.encode_images(pixels)
    began = time.perf_counter()
    made.encode_images(pixels)
    image = time.perf_counter() - began
    made.encode_texts(TEXTS)
    began = time.perf_counter()
    made.encode_texts(TEXTS[:1])
    return settings.batch_size / image, time.perf_counter() - began


def torch_state() -> Finding:
    try:
        module = load("rankclip.engines.torch_engine")
        device = module.choose_device("auto")
        return Finding("engine torch", "ok", f"{device}, {module.choose_precision('auto', device)}; used by models that are fetched")
    except RuntimeMissing as error:
        return Finding("engine torch", "missing", error.message, error.hint)


def chosen_model(settings: Settings) -> Iterator[Finding]:
    """Examine the model that the settings name, and its text tower in both engines."""
    backbone = find(settings.model)
    yield engine(backbone.image_engine, backbone, settings)
    if backbone.folder is not None and (Path(backbone.folder) / "text.onnx").is_file() and backbone.image_engine == "torch":
        texts = [resolve(ENGINES, name, what="engine")(backbone, settings).encode_texts(TEXTS) for name in ("torch", "onnx")]
        cosine = float((texts[0] * texts[1]).sum(axis=1).min())
        state = "ok" if cosine > 0.999 else "problem"
        yield Finding("parity of texts", state, f"torch and onnx agree to a cosine of {cosine:.5f}", "" if state == "ok" else "fetch the model again")


def noise_pixels(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, size, size, 3), dtype=np.uint8)
