"""ONNX: normalization and learned factors."""

from __future__ import annotations

import math

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.module_normalization import check_one_top, check_stored_statistics
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_filters import ave_pool
from caffe_port.export.onnx_neurons import plus, times
from caffe_port.spec.ops.normalization import BN, MVN, BatchNorm, Normalize, Overlaid
from caffe_port.spec.ops.pooling import LRN, Pooling


@ONNX_RULES.add("BatchNorm")
def batch_norm(node: Node, code: OnnxCode) -> list[str]:
    """The stored statistics, divided by their factor, in ONNX's own layer of that name."""
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
    x = code.x
    if node.layer.options(BN).learn:
        axes = code.integers([0, 2, 3])
        deviation = code.op("Sub", x, code.op("ReduceMean", x, axes, keepdims=1))
        squares = code.op("Mul", deviation, deviation)
        variance = plus(code, code.op("ReduceMean", squares, axes, keepdims=1), 1e-9)
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
    """The second bottom with 1s behind it, so that it lies over the first."""
    shape = op.spread(code.shape, node.layer.bottom_shapes[1])
    if len(shape) == len(node.layer.bottom_shapes[1]):
        return code.bottoms[1]
    return code.reshape(code.bottoms[1], code.sized(shape))


@ONNX_RULES.add("LRN")
def lrn(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(LRN)
    if not op.within:
        size = op.local_size
        return [code.op("LRN", code.x, size=size, alpha=op.alpha, beta=op.beta, bias=op.k)]
    size, pad = op.local_size, (op.local_size - 1) // 2
    window = Pooling("AVE", (size, size), (1, 1), (pad, pad), ceil=True)
    mean = ave_pool(code, code.op("Mul", code.x, code.x), code.shape, window)
    base = plus(code, times(code, mean, op.alpha), 1)
    return [code.op("Mul", code.x, code.op("Pow", base, code.constant(-op.beta)))]


@ONNX_RULES.add("MVN")
def mvn(node: Node, code: OnnxCode) -> list[str]:
    op, top = node.layer.options(MVN), node.layer.top_shapes[0]
    rows = code.reshape(code.x, [-1, math.prod(top[1 if op.across_channels else 2 :])])
    rows = code.op("Sub", rows, _row_mean(code, rows))
    if op.normalize_variance:
        variance = _row_mean(code, code.op("Mul", rows, rows))
        rows = code.op("Div", rows, plus(code, code.op("Sqrt", variance), op.eps))
    return [code.reshape(rows, code.sized(top))]


def _row_mean(code: OnnxCode, rows: str) -> str:
    return code.op("ReduceMean", rows, code.integers([1]), keepdims=1)


@ONNX_RULES.add("Normalize")
def normalize(node: Node, code: OnnxCode) -> list[str]:
    op, dims = node.layer.options(Normalize), len(code.shape)
    axes = code.integers(range(1, dims) if op.across_spatial else [1])
    squares = code.op("ReduceSumSquare", code.x, axes, keepdims=1)
    norm = code.op("Sqrt", plus(code, squares, op.eps))
    shape = () if op.channel_shared else (code.shape[1],) + (1,) * (dims - 2)
    return [code.op("Mul", code.op("Div", code.x, norm), code.param(0, shape))]


@ONNX_RULES.add("Parameter")
def parameter(node: Node, code: OnnxCode) -> list[str]:
    return [code.param(0)]
