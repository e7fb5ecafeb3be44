"""Part of stage "export": inference.onnx, the image graph as it is run. Its weights are references into image.onnx, which stays as it is.

    python examples/train_mini/inference.py src/rankclip/backbones/mini

Two things differ from image.onnx, and neither changes an embedding or a token by one bit:

- Padding belongs to the convolution. A trunk that pads like TensorFlow has nodes of its own for that, and ONNX Runtime pads floats: it turns the int8 picture of
  an inner layer into floats, copies it with a border, and turns it back. The zeros around it are zeros of the same scale, so the convolution can add them.
- One more output, `stages`: the means over the picture of what inner stages see, the dequantised sum at the end of each, which the next convolution reads anyway.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

IMAGE, INFERENCE = "image.onnx", "inference.onnx"
ENDS = ("/trunk/blocks.3.3/Add", "/trunk/blocks.4.3/Add", "/trunk/blocks.5.4/Add")  # 88, 120 and 208 channels: texture, parts; later ones are in the embedding
SMALL = 1_024  # bytes; smaller tensors are written out


def write(folder: Path) -> Path:
    """Write inference.onnx beside image.onnx."""
    model = onnx.load(folder / IMAGE)
    pad_in_convolutions(model)
    add_stages(model.graph)
    drop_unused(model.graph)
    refer(model.graph, (folder / IMAGE).read_bytes())
    del model.graph.value_info[:]
    path = folder / INFERENCE
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def pad_in_convolutions(model: onnx.ModelProto) -> None:
    """Give each padded convolution the border of the Pad node in front of it, which then feeds nothing."""
    graph = model.graph
    borders = constants(model, [node.input[1] for node in graph.node if node.op_type == "Pad"])  # int64 [2 x axes] each: all begins, all ends
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        node, given = reader(graph, pad.output[0]), pad.input[0]
        if node.op_type == "QuantizeLinear":  # the same scale before and behind the border: read what was there before
            before = next(one for one in graph.node if pad.input[0] in one.output)
            assert same_scale(graph, before, node), pad.name
            node = reader(graph, reader(graph, node.output[0]).output[0])
        assert node.op_type == "Conv", node.op_type
        node.input[0] = given
        border = borders[pad.input[1]].reshape(2, -1)[:, 2:]  # [begin and end, height and width]
        del node.attribute[[one.name for one in node.attribute].index("pads")]
        node.attribute.append(helper.make_attribute("pads", border.ravel().tolist()))


def constants(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Compute tensors that depend on the size of the input alone."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    more.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names)
    session = onnxruntime.InferenceSession(more.SerializeToString(), providers=["CPUExecutionProvider"])
    _, *size = session.get_inputs()[0].shape
    return dict(zip(names, session.run(names, {"pixels": np.zeros((1, *size), np.uint8)}), strict=True))


def reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    """The one node that reads a tensor."""
    (found,) = [node for node in graph.node if name in node.input]
    return found


def same_scale(graph: onnx.GraphProto, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    """Whether two nodes of quantisation have the same scale and zero point, and that is zero."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [[values[name] for name in node.input[1:3]] for node in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True)) and int(pairs[0][1]) == 0


def add_stages(graph: onnx.GraphProto) -> None:
    """Add the output `stages`, float32 [B, S]."""
    graph.initializer.append(helper.make_tensor("stages/axes", TensorProto.INT64, [2], [2, 3]))  # height and width
    means = [f"{end}/mean" for end in ENDS]
    for end, mean in zip(ENDS, means, strict=True):
        graph.node.append(helper.make_node("ReduceMean", [dequantised(graph, end), "stages/axes"], [mean], keepdims=0))  # [B, C]
    graph.node.append(helper.make_node("Concat", means, ["stages"], axis=1))
    graph.output.append(helper.make_tensor_value_info("stages", TensorProto.FLOAT, ["B", "S"]))


def dequantised(graph: onnx.GraphProto, name: str) -> str:
    """What is read of a node's output behind its quantisation."""
    (output,) = next(node.output for node in graph.node if node.name == name)
    (levels,) = next(node.output for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == output)
    return str(next(node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] == levels))


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and tensors that no output needs."""
    needed, kept = {one.name for one in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


def refer(graph: onnx.GraphProto, image: bytes) -> None:
    """Replace large tensors by their place in image.onnx. image: the bytes of that file."""
    for tensor in graph.initializer:
        data = tensor.raw_data
        if len(data) < SMALL:
            continue
        place = image.index(data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", IMAGE), ("offset", place), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
