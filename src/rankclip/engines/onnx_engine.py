"""ONNX Runtime: rankclip-mini's both towers, and the exported text tower of any other backbone.

The image graph takes raw pixels (uint8 [B, S, S, 3]) and normalises them itself; the text graph takes token ids of any length, so that
a short instruction costs a short sequence.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime

from rankclip.backbones.specs import Backbone
from rankclip.backbones.tokens import END, tokenize
from rankclip.engines.base import normalize
from rankclip.errors import ModelError
from rankclip.settings import Settings
from rankclip.types import Features

IMAGE, TEXT = "image.onnx", "text.onnx"
INFERENCE = "inference.onnx"  # the image graph as it is run, where there is one; its weights are references into image.onnx
TEXTS_AT_ONCE = 64
PHOTOS_AT_ONCE = 8  # on a CPU: 32 take three times the memory (784 against 242 MiB, measured) and a tenth more time


class OnnxEngine:
    """Runs exported graphs on the CPU, or on CUDA where ONNX Runtime has it."""

    def __init__(self, backbone: Backbone, settings: Settings) -> None:
        if backbone.folder is None:
            raise ModelError(f"{backbone.name} has no ONNX graphs", hint=f"use --engine {backbone.image_engine}")
        self.backbone, self.settings = backbone, settings
        self.folder = backbone.folder

    def describe(self) -> str:
        return f"onnx, {self._device}, {self.backbone.extra.get('precision', 'fp32')}"

    def encode_images(self, pixels: np.ndarray) -> Features:
        """See `Engine`."""
        size = len(pixels) if self._device == "cuda" else PHOTOS_AT_ONCE
        parts = [self._embedded(pixels[start : start + size], size) for start in range(0, len(pixels), size)]
        found = {name: np.concatenate(one) for name, one in zip(self._outputs, zip(*parts, strict=True), strict=True)}
        return Features(found["embedding"], found.get("tokens"), found.get("stages"))

    def _embedded(self, pixels: np.ndarray, size: int) -> list[np.ndarray]:
        """Run the image graph on at most `size` photos, filled up with black ones: an embedding is bit-equal whatever its neighbours."""
        missing = size - len(pixels)
        filled = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)]) if missing else pixels  # uint8 [size, S, S, 3]
        return [one[: len(pixels)] for one in self._image.run(self._outputs, {"pixels": filled})]

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """See `Engine`."""
        return np.concatenate([self._encode(texts[i : i + TEXTS_AT_ONCE])[0] for i in range(0, len(texts), TEXTS_AT_ONCE)])

    def encode_text_states(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return token states, float32 [Q, T, W], and which of them are real, bool [Q, T]."""
        _, states, ids = self._encode(texts)
        places = np.arange(ids.shape[1])
        return states, places[None] <= (ids == END).argmax(axis=1)[:, None]

    def _encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = tokenize(texts, context=self.backbone.context)
        longest = int((ids == END).argmax(axis=1).max()) + 1
        ids = ids if self.backbone.extra.get("fixed_context") else ids[:, :longest]
        pooled, *states = self._text.run(None, {"ids": ids})
        return normalize(pooled), states[0] if states else pooled[:, None], ids

    @cached_property
    def _image(self) -> onnxruntime.InferenceSession:
        return self._session(self.folder / (INFERENCE if (self.folder / INFERENCE).is_file() else IMAGE))

    @cached_property
    def _outputs(self) -> list[str]:
        return [one.name for one in self._image.get_outputs()]

    @cached_property
    def _text(self) -> onnxruntime.InferenceSession:
        return self._session(self.folder / TEXT)

    @property
    def _device(self) -> str:
        wanted = self.settings.device
        usable = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if wanted.startswith("cuda") and not usable:
            raise ModelError(f"device {wanted!r} is not usable by this ONNX Runtime", hint="run: python -m pip install onnxruntime-gpu, or use --device cpu")
        if wanted not in ("auto", "cpu") and not wanted.startswith("cuda"):
            raise ModelError(f"device {wanted!r} is not known to the onnx engine", hint="valid: auto, cpu, cuda, cuda:N")
        return "cuda" if usable and wanted != "cpu" else "cpu"

    def _session(self, path: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.settings.thread_count()
        options.log_severity_level = 3
        # waiting threads would burn the cores that decode the next photos
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        if self._device == "cuda":
            number = self.settings.device.partition(":")[2] or "0"
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))  # type: ignore[arg-type]
        if not path.is_file():
            raise ModelError(f"{path}: missing", hint="install rankclip again" if "mini" in str(path) else "fetch the model again")
        try:
            return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        except Exception as error:  # the runtime's own errors have no common base
            raise ModelError(f"{path}: cannot be loaded ({str(error).splitlines()[0][:160]})", hint="run: rankclip doctor") from error
