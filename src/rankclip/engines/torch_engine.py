"""torch and open_clip: any backbone that open_clip knows, on CUDA, Apple's MPS or the CPU.

bf16 is made by converting the weights once: on a CPU with bf16 products that is four to five times faster than fp32, while autocast
measured slower than fp32 (casts at every operation). Pixels come from the one preprocessing (`photos.fit`), only mean and deviation
are applied here.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from rankclip.allocator import keep_freed_memory
from rankclip.backbones.preprocess import to_float
from rankclip.backbones.specs import CARD, Backbone, find
from rankclip.backbones.tokens import END, tokenize
from rankclip.engines.base import normalize
from rankclip.errors import ModelError
from rankclip.settings import Settings
from rankclip.types import Features

CHECKPOINT, TEXT = "open_clip_model.safetensors", "text.onnx"


class TorchEngine:
    """Runs open_clip towers from an installed model's folder."""

    def __init__(self, backbone: Backbone, settings: Settings) -> None:
        backbone.check_torch()
        self.backbone, self.settings = backbone, settings
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        torch.set_num_threads(settings.thread_count())

    def describe(self) -> str:
        return f"torch, {self.device}, {self.precision}"

    @torch.inference_mode()
    def encode_images(self, pixels: np.ndarray) -> Features:
        """See `Engine`; patch tokens, in the embedding's space, where the model's card says so (`declare_tokens`)."""
        values = torch.from_numpy(to_float(pixels, self.backbone.mean, self.backbone.std)).to(self.device, self.dtype)  # [B, 3, S, S]
        if not self.backbone.patches:
            return Features(normalize(self._towers.encode_image(values).float().cpu().numpy()), None)  # [B, D]
        pooled, tokens = (part.float().cpu().numpy() for part in image_features(self._towers, values))  # [B, D], [B, P, D]
        return Features(normalize(pooled), tokens)

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """See `Engine`."""
        ids = torch.from_numpy(tokenize(texts, context=self.backbone.context)).to(self.device)  # [Q, T]
        return normalize(self._towers.encode_text(ids).float().cpu().numpy())  # [Q, D]

    @torch.inference_mode()
    def encode_text_states(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return token states before the projection, float32 [Q, T, V], and which of them are real, bool [Q, T]."""
        ids = tokenize(texts, context=self.backbone.context)  # int64 [Q, T]
        _, states = text_features(self._towers, torch.from_numpy(ids).to(self.device))
        places = np.arange(states.shape[1])
        return states.float().cpu().numpy(), places[None] <= (ids == END).argmax(axis=1)[:, None] if states.shape[1] > 1 else np.ones((len(ids), 1), bool)

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @cached_property
    def _towers(self) -> Any:
        return load_towers(self.backbone).to(self.device, self.dtype).eval()


def load_towers(backbone: Backbone) -> Any:
    """Build the architecture and load its weights; code in a checkpoint is never run."""
    keep_freed_memory()
    assert backbone.folder is not None
    path = backbone.folder / str(backbone.extra.get("checkpoint", CHECKPOINT))
    if not path.is_file():
        raise ModelError(f"{path}: missing", hint=f"run: rankclip models fetch {backbone.name}")
    architecture = str(backbone.extra["architecture"])
    if "--" in architecture or architecture not in open_clip.list_models():  # described by its own configuration
        register(architecture, backbone)
    try:
        return open_clip.create_model(architecture, pretrained=str(path), weights_only=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: does not fit {architecture} ({str(error).splitlines()[0][:160]})", hint="fetch the model again") from error


def register(architecture: str, backbone: Backbone) -> None:
    """Tell open_clip of an architecture that only the model's own configuration describes."""
    from open_clip import factory

    if "model_cfg" not in backbone.extra:
        raise ModelError(f"{backbone.name}: open_clip does not know {architecture!r}", hint="update it: python -m pip install -U open_clip_torch")
    factory._MODEL_CONFIGS[architecture] = backbone.extra["model_cfg"]


def choose_device(wanted: str) -> str:
    """Resolve auto; refuse a device that is not there."""
    cuda, mps = torch.cuda.is_available(), bool(torch.backends.mps.is_available())
    if wanted == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = wanted.partition(":")
    there = {"cpu": True, "cuda": cuda and int(number or 0) < torch.cuda.device_count(), "mps": mps}
    if not there.get(kind, False):
        usable = [name for name, found in (("cpu", True), ("cuda", cuda), ("mps", mps)) if found]
        raise ModelError(f"device {wanted!r} is not there", hint=f"usable here: {', '.join(usable)}")
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """bf16 where the device multiplies it in hardware, else fp32."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Tell whether the CPU has bf16 products (AVX-512 BF16 or AMX)."""
    found: bool = bool(torch._C._has_mkldnn) and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0] if Path("/proc/cpuinfo").exists() else ""
    return found and ("avx512_bf16" in flags or "amx_bf16" in flags or not flags)


# ---------------------------------------------------------------- tokens


def text_features(towers: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a text tower once: embeddings [Q, D], not of unit length, and token states after the last norm, before the projection, [Q, T, V].

    A tower that norms after pooling (CoCa's) has no such states: then the embedding is the only one.
    """
    kept: list[torch.Tensor] = []
    norm = getattr(getattr(towers, "text", towers), "ln_final", None)
    hook = norm.register_forward_hook(lambda module, given, out: kept.append(out)) if norm is not None else None
    try:
        pooled = towers.encode_text(ids)  # [Q, D]
    finally:
        if hook is not None:
            hook.remove()
    return pooled, kept[0] if kept and kept[0].ndim == 3 else pooled[:, None]


def image_features(towers: Any, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a vision transformer once: embeddings [B, D], not of unit length, and all patch tokens through the same projection, [B, P, D].

    Raises ModelError for another kind of image tower.
    """
    visual = towers.visual
    if not isinstance(visual, open_clip.transformer.VisionTransformer) or visual.proj is None or visual.attn_pool is not None or visual.final_ln_after_pool:
        raise ModelError(f"patch tokens are only known of plain vision transformers, not of {type(visual).__name__}", hint="use --size lite, or another model")
    visual.output_tokens = True
    try:
        pooled, tokens = visual(values)
    finally:
        visual.output_tokens = False
    return pooled, tokens @ visual.proj


def with_tokens(backbone: Backbone) -> Backbone:
    """Return a model as it is when it gives patch tokens: the same space, so that embeddings that are there stay right.

    Raises ModelError where its image tower gives none.
    """
    with torch.inference_mode():
        _, tokens = image_features(load_towers(backbone).float().eval(), torch.zeros(1, 3, backbone.input.size, backbone.input.size))
    return replace(backbone, patches=tokens.shape[1], token_width=tokens.shape[2])


def declare_tokens(backbone: Backbone) -> None:
    """Write into an installed model's card that it gives patch tokens, so that photos that are embedded from now on have them."""
    assert backbone.folder is not None
    path = backbone.folder / CARD
    card = json.loads(path.read_text(encoding="utf-8")) | {"patches": backbone.patches, "token_width": backbone.token_width}
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    find.cache_clear()


# ---------------------------------------------------------------- exporting the text tower


class _TextOnly(torch.nn.Module):
    def __init__(self, towers: Any) -> None:
        super().__init__()
        self.towers = towers

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return text_features(self.towers, ids)


def export_text(backbone: Backbone, path: Path) -> float:
    """Write the text tower as ONNX, so that later queries load no torch; returns the smallest cosine to torch over some texts.

    The graph gives embeddings [Q, D] and token states [Q, T, V]. Raises ModelError when the graph does not agree with torch.
    """
    import onnxruntime

    towers = load_towers(backbone).float().eval()
    module = _TextOnly(towers).eval()
    texts = ["a photo of a cat", "older faces first", "a red car parked in front of a house at night", "2 dogs"]
    ids = torch.from_numpy(tokenize(texts, context=backbone.context))
    partial = path.with_suffix(".partial")
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        # the exporter that traces is on its way out; the one that replaces it (torch 2.9 on) needs onnxscript and fails on open_clip's attention
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (ids[:1],), str(partial), input_names=["ids"], output_names=["embedding", "states"], opset_version=18,
                          dynamo=False, dynamic_axes={"ids": {0: "Q"}, "embedding": {0: "Q"}, "states": {0: "Q"}})  # fmt: skip
    with torch.inference_mode():
        wanted = normalize(module(ids)[0].numpy())
    session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
    got = normalize(session.run(None, {"ids": ids.numpy()})[0])
    agreement = float((wanted * got).sum(axis=-1).min())
    if agreement < 0.9999:
        partial.unlink()
        raise ModelError(f"{backbone.name}: the exported text tower differs from torch (cosine {agreement:.5f})", hint="use --engine torch for queries")
    partial.replace(path)
    return agreement
