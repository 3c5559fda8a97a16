"""ONNX: layers that join, cut, rearrange and choose."""

from __future__ import annotations

import math

from caffe_port.export.graph import Node
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_neurons import times
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.arithmetic import Reduction
from caffe_port.spec.ops.filters import Embed
from caffe_port.spec.ops.losses import Softmax
from caffe_port.spec.ops.metrics import ArgMax
from caffe_port.spec.ops.shapes import Concat, Permute, ShuffleChannel, Slice, Tile

_FLOAT, _INT64 = 1, 7  # onnx.TensorProto


@ONNX_RULES.add("Concat")
def concat(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Concat)
    return [code.op("Concat", *code.bottoms, axis=op.axis)]


@ONNX_RULES.add("Slice")
def slice_(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Slice)
    axis = axis_index(op.axis, len(code.shape))
    sizes = code.integers(op.sizes(code.shape[axis]))
    return code.ops("Split", code.x, sizes, outputs=op.count, axis=axis)


@ONNX_RULES.add("Flatten", "Reshape")
def reshape(node: Node, code: OnnxCode) -> list[str]:
    return [code.reshape(code.x, code.sized(node.layer.top_shapes[0]))]


@ONNX_RULES.add("Tile")
def tile(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Tile)
    times = [1] * len(code.shape)
    times[op.axis] = op.tiles
    return [code.op("Tile", code.x, code.integers(times))]


@ONNX_RULES.add("BatchReindex")
def batch_reindex(node: Node, code: OnnxCode) -> list[str]:
    return [code.op("Gather", code.x, code.op("Cast", code.bottoms[1], to=_INT64), axis=0)]


@ONNX_RULES.add("Embed")
def embed(node: Node, code: OnnxCode) -> list[str]:
    found = code.op("Gather", code.param(0), code.op("Cast", code.x, to=_INT64), axis=0)
    bias = node.layer.options(Embed).bias
    return [code.op("Add", found, code.param(1)) if bias else found]


@ONNX_RULES.add("Permute")
def permute(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Permute)
    return [code.op("Transpose", code.x, perm=op.full_order(len(code.shape)))]


@ONNX_RULES.add("ShuffleChannel")
def shuffle_channel(node: Node, code: OnnxCode) -> list[str]:
    op, shape = node.layer.options(ShuffleChannel), code.shape
    groups = code.reshape(
        code.x, code.sized((shape[0], op.group, shape[1] // op.group, *shape[2:]))
    )
    order = [0, 2, 1, *range(3, len(shape) + 1)]
    return [code.reshape(code.op("Transpose", groups, perm=order), code.sized(shape))]


@ONNX_RULES.add("Reduction")
def reduction(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Reduction)
    names = {"SUM": "Sum", "ASUM": "L1", "SUMSQ": "SumSquare", "MEAN": "Mean"}
    axes = code.integers(range(axis_index(op.axis, len(code.shape)), len(code.shape)))
    top = code.op(f"Reduce{names[op.operation]}", code.x, axes, keepdims=0)
    return [times(code, top, op.coeff)]


@ONNX_RULES.add("Softmax")
def softmax(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Softmax)
    return [code.op("Softmax", code.x, axis=op.axis)]


@ONNX_RULES.add("ArgMax")
def argmax(node: Node, code: OnnxCode) -> list[str]:
    op, shape, x = node.layer.options(ArgMax), code.shape, code.x
    if op.axis is not None:
        axis = axis_index(op.axis, len(shape))
        return [_top_k(code, x, op.top_k, axis, shape[axis])[0 if op.out_max_val else 1]]
    length = math.prod(shape[1:])
    values, index = _top_k(code, code.reshape(x, [-1, 1, length]), op.top_k, 2, length)
    both = code.op("Concat", index, values, axis=1) if op.out_max_val else index
    return [code.reshape(both, code.sized(node.layer.top_shapes[0]))]


def _top_k(code: OnnxCode, x: str, k: int, axis: int, size: int) -> tuple[str, str]:
    """Values and indices; of equals the highest index, so the axis is searched backwards."""
    ends = [code.integers([n]) for n in (-1, -size - 1)]
    backwards = code.op("Slice", x, *ends, code.integers([axis]), code.integers([-1]))
    values, index = code.ops("TopK", backwards, code.integers([k]), outputs=2, axis=axis)
    index = code.op("Sub", code.constant(size - 1), code.op("Cast", index, to=_FLOAT))
    return values, index
