"""ONNX: normalization and learned factors."""

from __future__ import annotations

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.module_normalization import check_one_top, check_stored_statistics
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_neurons import plus, times
from caffe_port.export.onnx_pooling import ave_pool
from caffe_port.export.onnx_sizes import reshape
from caffe_port.spec.ops.normalization import BN, MVN, BatchNorm, Normalize, Overlaid, RunningBN
from caffe_port.spec.ops.pooling import LRN, Pooling


@ONNX_RULES.add("BatchNorm")
def batch_norm(node: Node, code: OnnxCode) -> list[str]:
    """The stored statistics, divided by their factor, in ONNX's BatchNormalization."""
    op = node.layer.options(BatchNorm)
    check_stored_statistics(op)
    mean, variance, factor = (code.param_values(i) for i in range(3))
    scale = np.float32(0) if factor[0] == 0 else np.float32(1) / factor[0]
    inputs = [
        code.constant(values, name=name)
        for name, values in (
            ("scale", np.ones_like(mean)), ("bias", np.zeros_like(mean)),
            ("mean", mean * scale), ("variance", variance * scale),
        )
    ]  # fmt: skip
    return [code.op("BatchNormalization", code.x, *inputs, epsilon=op.eps)]


@ONNX_RULES.add("BN")
def bn(node: Node, code: OnnxCode) -> list[str]:
    check_one_top(node)
    x, op = code.x, node.layer.op
    if isinstance(op, RunningBN):
        inputs = [code.constant(code.param_values(i).reshape(-1)) for i in range(4)]
        return [code.op("BatchNormalization", x, *inputs, epsilon=op.eps)]
    if node.layer.options(BN).learn:
        axes = [0, 2, 3]
        deviation = code.op("Sub", x, code.reduce("Mean", x, axes))
        squares = code.op("Mul", deviation, deviation)
        variance = plus(code, code.reduce("Mean", squares, axes), 1e-9)
        x = code.op("Div", deviation, code.op("Sqrt", variance))
    return [code.op("Add", code.op("Mul", x, code.param(0)), code.param(1))]


@ONNX_RULES.add("Scale", "Bias")
def overlaid(node: Node, code: OnnxCode) -> list[str]:
    op, params = node.layer.options(Overlaid), node.layer.params
    names = [code.param(i, op.spread(code.shape, p.shape)) for i, p in enumerate(params)]
    if len(code.bottoms) == 2:
        names.insert(0, _second(op, node, code))
    if node.layer.type == "Bias":
        return [code.op("Add", code.x, names[0])]
    product = code.op("Mul", code.x, names[0])
    return [code.op("Add", product, names[1]) if len(names) == 2 else product]


def _second(op: Overlaid, node: Node, code: OnnxCode) -> str:
    """The second bottom with 1s appended to its shape, so that it lies over the first."""
    shape = node.layer.bottom_shapes[1]
    axes = range(len(shape), len(op.spread(code.shape, shape)))
    if not axes:
        return code.bottoms[1]
    return code.op("Unsqueeze", code.bottoms[1], code.integers(axes))


@ONNX_RULES.add("LRN")
def lrn(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(LRN)
    if not op.within:
        size = op.local_size
        return [code.op("LRN", code.x, size=size, alpha=op.alpha, beta=op.beta, bias=op.k)]
    size, pad = op.local_size, (op.local_size - 1) // 2
    window = Pooling("AVE", (size, size), (1, 1), (pad, pad), ceil=True)
    mean = ave_pool(code, code.op("Mul", code.x, code.x), code.sizes(), window)
    base = plus(code, times(code, mean, op.alpha), 1)
    return [code.op("Mul", code.x, code.op("Pow", base, code.constant(-op.beta)))]


@ONNX_RULES.add("MVN")
def mvn(node: Node, code: OnnxCode) -> list[str]:
    op, sizes, x = node.layer.options(MVN), code.sizes(), code.x
    if len(sizes) < 4:
        x = reshape(code, x, [*sizes, *[1] * (4 - len(sizes))], sizes)
    axes = [1, 2, 3] if op.across_channels else [2, 3]
    x = code.op("Sub", x, code.reduce("Mean", x, axes))
    if op.normalize_variance:
        variance = code.reduce("Mean", code.op("Mul", x, x), axes)
        x = code.op("Div", x, plus(code, code.op("Sqrt", variance), op.eps))
    return [x]


@ONNX_RULES.add("Normalize")
def normalize(node: Node, code: OnnxCode) -> list[str]:
    op, dims = node.layer.options(Normalize), len(code.shape)
    axes = list(range(1, dims)) if op.across_spatial else [1]
    squares = code.reduce("SumSquare", code.x, axes)
    norm = code.op("Sqrt", plus(code, squares, op.eps))
    shape = () if op.channel_shared else (code.shape[1],) + (1,) * (dims - 2)
    return [code.op("Mul", code.op("Div", code.x, norm), code.param(0, shape))]


@ONNX_RULES.add("Parameter")
def parameter(node: Node, code: OnnxCode) -> list[str]:
    return [code.param(0)]
