"""Part of stage "export": stages.onnx, a few hundred bytes that are put behind image.onnx and make it give means of its inner stages, too.

    python examples/train_mini/stages.py src/rankclip/backbones/mini

The weights stay as they are, and so do embedding and tokens, to the bit: what is averaged over the picture is the dequantised sum at the end of a stage,
which the next convolution reads anyway. Two messages of protobuf, one behind the other, are one message; so the file holds nodes and outputs alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

IMAGE, STAGES = "image.onnx", "stages.onnx"
ENDS = ("/trunk/blocks.3.3/Add", "/trunk/blocks.4.3/Add", "/trunk/blocks.5.4/Add")  # 88, 120 and 208 channels: texture, parts; later ones are in the embedding


def write(folder: Path) -> Path:
    """Write stages.onnx beside image.onnx."""
    graph = onnx.load(folder / IMAGE).graph
    more = onnx.ModelProto()
    more.graph.initializer.append(helper.make_tensor("stages/axes", TensorProto.INT64, [2], [2, 3]))  # height and width
    means = []
    for end in ENDS:
        means.append(f"{end}/mean")
        more.graph.node.append(helper.make_node("ReduceMean", [dequantised(graph, end), "stages/axes"], [means[-1]], keepdims=0))  # [B, C]
    more.graph.node.append(helper.make_node("Concat", means, ["stages"], axis=1))  # [B, S]
    more.graph.output.append(helper.make_tensor_value_info("stages", TensorProto.FLOAT, ["B", "S"]))
    path = folder / STAGES
    path.write_bytes(more.SerializeToString(deterministic=True))
    return path


def dequantised(graph: onnx.GraphProto, name: str) -> str:
    """What is read of a node's output behind its quantisation."""
    (output,) = next(node.output for node in graph.node if node.name == name)
    (levels,) = next(node.output for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == output)
    return str(next(node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] == levels))


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
