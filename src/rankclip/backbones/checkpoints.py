"""Multimodal language models on disk: a folder as transformers saves it, or a trained LoRA beside its card -> the row of a backbone.

Read here is only JSON and the headers of safetensors files; what the weights are is a digest that is computed once and kept with the files'
sizes and times, since hashing eight gigabytes takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip.errors import ModelError
from rankclip.types import InputSpec

PREFIX = "mllm:"
CONFIG, ADAPTER, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
# where processors keep the size of a picture: transformers 5 nests it, older ones have a file for it
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
SIDE = 448  # px of a square where the model takes any size: 16 x 16 visual tokens for Qwen2-VL, as many as the paper's model has at 224
RELEASED = {  # short name -> repository on the hub: InstructCIR's released composer and what it was tuned from
    "instructcir_llava_phi35_clip224_lp": "uta-smile/instructcir_llava_phi35_clip224_lp",
    "llava-phi-3-mini-hf": "xtuner/llava-phi-3-mini-hf",
}
CONTEXT = 2_048  # tokens of an instruction that are surely read


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a model's files are.    base: the whole model.    adapter: a LoRA trained for it, or None."""

    base: Path
    adapter: Path | None = None

    def weights(self) -> list[Path]:
        """The files that hold weights, in a fixed order. Raises ModelError where there are none."""
        found = sorted(path for path in self.base.glob("*.safetensors") if path.name != ADAPTER_WEIGHTS)
        if not found:
            raise ModelError(f"{self.base}: no safetensors file in it", hint="give a folder that transformers saved; pickled weights are never read")
        return [*found, *([self.adapter / ADAPTER_WEIGHTS] if self.adapter is not None else [])]

    def stamps(self) -> list[list[Any]]:
        """Name, size and time of each file with weights: as long as they stay, so does the digest."""
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in self.weights()]

    def digest(self) -> str:
        """sha256 over the files' sha256: what the space is named by."""
        whole = hashlib.sha256()
        for path in self.weights():
            with open(path, "rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()


def at(folder: Path) -> Checkpoint:
    """Read what a folder is: a whole model, or a LoRA whose configuration names its base.

    Raises ModelError for any other folder.
    """
    if (folder / ADAPTER).is_file():
        base = Path(str(read(folder / ADAPTER).get("base_model_name_or_path")))
        if not (base / CONFIG).is_file():
            raise ModelError(f"{folder}: its base model is not in {base}", hint=f"bring it back, or name the folder in {folder / ADAPTER}")
        return Checkpoint(base, folder)
    if (folder / CONFIG).is_file():
        return Checkpoint(folder)
    raise ModelError(f"{folder}: no model in it ({CONFIG} is missing)", hint="give a folder that transformers saved: --model mllm:FOLDER")


def row(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """Describe a checkpoint as the fields of a backbone. Raises ModelError for a model without a vision tower."""
    config = read(checkpoint.base / CONFIG)
    if "vision_config" not in config:
        kind = config.get("model_type", "unknown")
        raise ModelError(f"{name}: no vision tower in it (model type {kind})", hint="give a model that reads pictures, such as a LLaVA or a Qwen2-VL")
    extra = {"base": str(checkpoint.base), "adapter": str(checkpoint.adapter or ""), "stamps": checkpoint.stamps()}
    return {"name": name, "weights": checkpoint.digest(), "input": input_of(checkpoint.base, config), "width": width_of(checkpoint), "context": CONTEXT,
            "image_engine": "mllm", "text_engine": "mllm", "padded": False, "licence": "see the model's page", "extra": extra}  # fmt: skip


def input_of(folder: Path, config: dict[str, Any]) -> InputSpec:
    """The square that a photo becomes: cut as CLIP does it for models of one size, squeezed for those that take any."""
    files = [read(folder / name) for name in PREPROCESSORS if (folder / name).is_file()]
    given: dict[str, Any] = next((file.get("image_processor", file) for file in files if "size" in file.get("image_processor", file)), {})
    size = given.get("size", {})
    if "merge_size" in given:
        unit = int(given["patch_size"]) * int(given["merge_size"])
        most = int(size.get("longest_edge") or given.get("max_pixels") or SIDE**2) ** 0.5
        return InputSpec(max(1, int(min(SIDE, most)) // unit) * unit, "squash")
    side = (given.get("crop_size") or size or {}) if isinstance(given.get("crop_size") or size, dict) else {"height": given.get("crop_size") or size}
    vision = config["vision_config"]
    return InputSpec(int(side.get("height") or side.get("shortest_edge") or vision.get("image_size", 336)))


def width_of(checkpoint: Checkpoint) -> int:
    """The language model's width, from the shape of its word table: configurations leave out what is a default."""
    for path in checkpoint.weights():
        for tensor, about in header(path).items():
            if tensor.endswith("embed_tokens.weight"):
                return int(about["shape"][1])
    raise ModelError(f"{checkpoint.base}: no word table in its weights", hint="give a LLaVA-style or Qwen-VL-style model")


def header(path: Path) -> dict[str, Any]:
    """Names and shapes of a safetensors file: eight bytes of length, then JSON. Raises ModelError for any other file."""
    try:
        with open(path, "rb") as file:
            found: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError, MemoryError, OverflowError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})", hint="fetch or copy the model again") from error
    return found


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file. Raises ModelError."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})", hint="fetch or copy the model again") from error
    return found
