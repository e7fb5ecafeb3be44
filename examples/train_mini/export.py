"""Stage "export": the two towers as ONNX graphs, int8, with the card that names and calibrates them.

The image graph takes raw pixels (uint8) and gives embedding and tokens; its convolutions and large products are quantised statically (per-channel
weights, activations calibrated on training photos). The text graph keeps activations in float and weights in int8; the token table is gathered
in int8. Image weights take all eight bits and the first two convolutions stay in float: with seven bits (`reduce_range`) the mean cosine to float
was 0.978, with eight 0.991, with the float stem 0.995. On CPUs without VNNI two products of eight bits can saturate; `rankclip doctor` shows the parity there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from rankclip.backbones import tokens
from rankclip.training.models.mini import ImageTower, TextTower

IMAGE, TEXT, CARD, TRAINABLE = "image.onnx", "text.onnx", "card.json", "rankclip-mini-text.safetensors"
CALIBRATION_PHOTOS = 200
NAME, INPUT, LICENCE = "rankclip-mini", "squash-{size}-bicubic/1", "CC BY-NC 4.0"


@dataclass(frozen=True, slots=True)
class Config:
    opset: int = 18
    reduce_range: bool = False  # of the image tower's weights
    float_convolutions: int = 2  # the stem: three channels in, and everything after reads its error


class Pixels(CalibrationDataReader):
    """Hands calibration photos to the quantiser, a few at a time."""

    def __init__(self, views: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = iter(np.array_split(views, len(views) // 10))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"pixels": batch}


def export_image(tower: ImageTower, views: np.ndarray, folder: Path, config: Config) -> None:
    """Write image.onnx (int8) and image_fp32.onnx (for parity)."""
    full = folder / "image_fp32.onnx"
    example = torch.from_numpy(views[:2].copy())
    names = {"pixels": {0: "B"}, "embedding": {0: "B"}, "tokens": {0: "B"}}
    torch.onnx.export(tower.eval(), (example,), str(full), input_names=["pixels"], output_names=["embedding", "tokens"], dynamic_axes=names,
                      opset_version=config.opset, dynamo=False)  # fmt: skip
    prepared = folder / "image_prepared.onnx"
    quant_pre_process(str(full), str(prepared), skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    quantize_static(str(prepared), str(folder / IMAGE), Pixels(views), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=config.reduce_range,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
                    op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Clip"], nodes_to_exclude=[*stem(graph, config.float_convolutions), *delicate(graph)])  # fmt: skip
    prepared.unlink()


def stem(graph: onnx.GraphProto, count: int) -> list[str]:
    """Names of the first convolutions."""
    return [node.name for node in graph.node if node.op_type == "Conv"][:count]


def delicate(graph: onnx.GraphProto) -> list[str]:
    """Nodes after the last convolution that stay in float: additions and clips there join parts of different scale; attention and norms are cheap."""
    last = max(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    return [node.name for node in graph.node[last + 1 :] if node.op_type in ("Add", "Clip", "MatMul") and not _large(graph, node)]


def _large(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    return node.op_type == "MatMul" and any(sizes.get(name, 0) > 100_000 for name in node.input)


def export_text(tower: TextTower, folder: Path, config: Config) -> None:
    """Write text.onnx (int8 weights) and text_fp32.onnx (for parity)."""
    full = folder / "text_fp32.onnx"
    ids = torch.from_numpy(tokens.tokenize(["a photo of a cat", "older faces first"])[:, :8])
    axes = {"ids": {0: "Q", 1: "T"}, "embedding": {0: "Q"}, "states": {0: "Q", 1: "T"}}
    torch.onnx.export(tower.eval(), (ids,), str(full), input_names=["ids"], output_names=["embedding", "states"], dynamic_axes=axes, opset_version=config.opset,
                      dynamo=False)  # fmt: skip
    quantize_dynamic(str(full), str(folder / TEXT), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul", "Gather"], extra_options={"MatMulConstBOnly": True})  # fmt: skip


def write_card(folder: Path, *, size: int, patches: int, token_width: int, logit_scale: float, null: tuple[float, float], version: str) -> dict:
    digest = hashlib.sha256()
    for name in (IMAGE, TEXT):
        digest.update((folder / name).read_bytes())
    card = {"name": NAME, "weights": digest.hexdigest(), "input": INPUT.format(size=size), "width": 384, "patches": patches, "token_width": token_width, "context": 77,
            "logit_scale": round(logit_scale, 2), "licence": LICENCE, "image_engine": "onnx", "text_engine": "onnx", "null": [round(value, 5) for value in null],
            "extra": {"precision": "int8", "version": version}}  # fmt: skip
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
    return card


def session(path: Path, threads: int = 2) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_image(found: onnxruntime.InferenceSession, views: np.ndarray, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
    parts = [found.run(["embedding", "tokens"], {"pixels": views[i : i + batch]}) for i in range(0, len(views), batch)]
    return np.concatenate([a for a, _ in parts]), np.concatenate([b.astype(np.float16) for _, b in parts])


def run_text(found: onnxruntime.InferenceSession, texts: list[str], batch: int = 64) -> np.ndarray:
    ids = tokens.tokenize(texts)
    ends = (ids == tokens.END).argmax(axis=1) + 1
    out = np.empty((len(texts), 384), np.float32)
    order = np.argsort(ends, kind="stable")
    for i in range(0, len(order), batch):
        some = order[i : i + batch]
        out[some] = found.run(["embedding"], {"ids": ids[some, : ends[some].max()]})[0]
    return out


def first_table_rows(path: Path) -> np.ndarray:
    """The largest initialiser of a graph (the token table), for inspection."""
    tensors = onnx.load(path).graph.initializer
    return numpy_helper.to_array(max(tensors, key=lambda tensor: int(np.prod(tensor.dims))))
