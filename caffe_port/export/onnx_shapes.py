"""ONNX: layers that join, cut, rearrange and choose."""

from __future__ import annotations

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_neurons import times
from caffe_port.export.onnx_sizes import Size, product, reshape, vector
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.arithmetic import Reduction
from caffe_port.spec.ops.detection import PriorBox
from caffe_port.spec.ops.filters import Embed
from caffe_port.spec.ops.losses import Softmax
from caffe_port.spec.ops.metrics import ArgMax
from caffe_port.spec.ops.segmentation_losses import BiasChannel
from caffe_port.spec.ops.shapes import (
    Concat,
    Flatten,
    Permute,
    Reshape,
    ShuffleChannel,
    Slice,
    Tile,
)

_FLOAT, _INT64, _BOOL = 1, 7, 9  # onnx.TensorProto
_END = 2**31 - 1  # of a Slice: to the end of the axis
_CHANNELS = "it needs a known number of channels"


@ONNX_RULES.add("Concat")
def concat(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Concat)
    return [code.op("Concat", *code.bottoms, axis=op.axis)]


@ONNX_RULES.add("Slice")
def slice_(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Slice)
    axis = axis_index(op.axis, len(code.shape))
    size = code.sizes()[axis]
    if op.points:
        parts: list[Size | int] = list(op.sizes(size.value))
        parts[-1] = size - op.points[-1]  # without points, all are equal
    else:
        parts = [size // op.count] * op.count
    return code.ops("Split", code.x, vector(code, parts), outputs=op.count, axis=axis)


@ONNX_RULES.add("Flatten")
def flatten(node: Node, code: OnnxCode) -> list[str]:
    op, sizes = node.layer.options(Flatten), code.sizes()
    start, end = (axis_index(axis, len(sizes)) for axis in (op.axis, op.end_axis))
    top = [*sizes[:start], product(sizes[start : end + 1]), *sizes[end + 1 :]]
    return [reshape(code, code.x, top, sizes)]


@ONNX_RULES.add("Reshape")
def reshape_(node: Node, code: OnnxCode) -> list[str]:
    """A dimension of 0 is the bottom's own, -1 is what is left."""
    op, sizes = node.layer.options(Reshape), code.sizes()
    start = op.axis if op.axis >= 0 else len(sizes) + op.axis + 1
    end = len(sizes) if op.num_axes == -1 else start + op.num_axes
    new = [sizes[start + i] if dim == 0 else dim for i, dim in enumerate(op.dims)]
    return [reshape(code, code.x, [*sizes[:start], *new, *sizes[end:]], sizes)]


@ONNX_RULES.add("Tile")
def tile(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Tile)
    times = [1] * len(code.shape)
    times[op.axis] = op.tiles
    return [code.op("Tile", code.x, code.integers(times))]


@ONNX_RULES.add("PriorBox")
def prior_box(node: Node, code: OnnxCode) -> list[str]:
    """A constant: it follows from the bottoms' sizes."""
    sizes = [code.sizes(i)[axis] for i in (0, 1) for axis in (2, 3)]
    a, b, c, d = (size.fixed("its boxes depend on the bottoms' sizes") for size in sizes)
    return [code.constant(node.layer.options(PriorBox).boxes((a, b), (c, d)))]


@ONNX_RULES.add("BatchReindex")
def batch_reindex(node: Node, code: OnnxCode) -> list[str]:
    return [code.op("Gather", code.x, code.op("Cast", code.bottoms[1], to=_INT64), axis=0)]


@ONNX_RULES.add("Filter")
def filter_(node: Node, code: OnnxCode) -> list[str]:
    if any(code.free[top].get(0) != "selected" for top in node.tops):
        raise ValueError("what reads its tops takes no other number of items than the prototxt's")
    *data, selector = code.bottoms
    chosen = code.op("Cast", code.reshape(selector, [-1]), to=_BOOL)
    return [code.op("Compress", x, chosen, axis=0) for x in data]


@ONNX_RULES.add("BiasChannel")
def bias_channel(node: Node, code: OnnxCode) -> list[str]:
    """A label that is neither ignored nor a channel does nothing; Caffe reads out of bounds."""
    op = node.layer.options(BiasChannel)
    image = op.label_type == "IMAGE"
    count = code.sizes()[1].fixed(_CHANNELS)
    label = code.op("Cast", code.bottoms[1], to=_INT64)
    if image:
        label = code.op("Flatten", label, axis=1)  # (N, L), else (N, 1, H, W)
    for ignored in sorted(op.ignore_labels - {-1}):
        wrong = code.op("Equal", label, code.constant(ignored, np.int64))
        label = code.op("Where", wrong, code.constant(-1, np.int64), label)
    channels = np.arange(count).reshape((1, -1, 1) if image else (1, -1, 1, 1))
    if image:
        label = code.op("Unsqueeze", label, code.integers([1]))
    equal = code.op("Equal", label, code.constant(channels, np.int64))
    amount = np.full(channels.shape, op.fg_bias)
    if image:
        amount[0, 0] = op.bg_bias
    elif op.background is not None:
        amount[0, op.background] = op.bg_bias
    bias = code.op("Mul", code.op("Cast", equal, to=_FLOAT), code.constant(amount))
    if image:
        bias = code.op("Unsqueeze", code.reduce("Sum", bias, [2]), code.integers([3]))
    elif op.background is not None and op.bg_bias:
        bias = code.op("Max", bias, _background(code, label, op.background, op.bg_bias))
    return [code.op("Add", code.x, bias)]


def _background(code: OnnxCode, label: str, background: int, amount: float) -> str:
    """The background channel's share at every counted pixel."""
    counted = code.op("Not", code.op("Less", label, code.constant(0, np.int64)))
    channel = np.zeros((1, code.shape[1], 1, 1))
    channel[0, background] = amount
    return code.op("Mul", code.op("Cast", counted, to=_FLOAT), code.constant(channel))


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
    op, sizes = node.layer.options(ShuffleChannel), code.sizes()
    channels = sizes[1].fixed(_CHANNELS) // op.group
    groups = reshape(code, code.x, [sizes[0], op.group, channels, *sizes[2:]], sizes)
    order = [0, 2, 1, *range(3, len(sizes) + 1)]
    return [reshape(code, code.op("Transpose", groups, perm=order), sizes, sizes[:1])]


@ONNX_RULES.add("Reduction")
def reduction(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Reduction)
    names = {"SUM": "Sum", "ASUM": "L1", "SUMSQ": "SumSquare", "MEAN": "Mean"}
    axes = range(axis_index(op.axis, len(code.shape)), len(code.shape))
    top = code.reduce(names[op.operation], code.x, axes, keepdims=False)
    return [times(code, top, op.coeff)]


@ONNX_RULES.add("Softmax")
def softmax(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Softmax)
    return [code.op("Softmax", code.x, axis=op.axis)]


@ONNX_RULES.add("ArgMax")
def argmax(node: Node, code: OnnxCode) -> list[str]:
    op, sizes, x = node.layer.options(ArgMax), code.sizes(), code.x
    if op.axis is not None:
        axis = axis_index(op.axis, len(sizes))
        return [_top_k(code, x, op.top_k, axis, sizes[axis])[0 if op.out_max_val else 1]]
    length = sizes[0].always(1) * product(sizes[1:])
    rows = reshape(code, x, [sizes[0], 1, length], sizes)
    values, index = _top_k(code, rows, op.top_k, 2, length)
    both = code.op("Concat", index, values, axis=1) if op.out_max_val else index
    return [reshape(code, both, [sizes[0], *node.layer.top_shapes[0][1:]], sizes[:1])]


def _top_k(code: OnnxCode, x: str, k: int, axis: int, size: Size) -> tuple[str, str]:
    """Values and indices; of equals the highest index, so the axis is searched backwards."""
    ends = [code.integers([n]) for n in (-1, -_END)]
    backwards = code.op("Slice", x, *ends, code.integers([axis]), code.integers([-1]))
    values, index = code.ops("TopK", backwards, code.integers([k]), outputs=2, axis=axis)
    last = code.op("Cast", (size - 1).vector, to=_FLOAT)
    return values, code.op("Sub", last, code.op("Cast", index, to=_FLOAT))
