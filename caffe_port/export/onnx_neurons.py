"""ONNX: layers that work element by element, normalization and learned factors."""

from __future__ import annotations

import math

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.module_neurons import check_one_top, check_stored_statistics
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_filters import ave_pool
from caffe_port.export.onnx_sizes import reshape
from caffe_port.spec.ops.arithmetic import Eltwise
from caffe_port.spec.ops.batch_norm import BN, BatchNorm, RunningBN, ScaledBatchNorm
from caffe_port.spec.ops.channelwise import SpatialDropout
from caffe_port.spec.ops.neurons import ELU, Clip, Dropout, Exp, Log, Power, ReLU, Swish, Threshold
from caffe_port.spec.ops.normalization import MVN, Normalize, Overlaid
from caffe_port.spec.ops.pooling import LRN, Pooling

_FLOAT = 1  # onnx.TensorProto.FLOAT


@ONNX_RULES.add("ReLU")
def relu(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(ReLU)
    if op.negative_slope:
        return [code.op("LeakyRelu", code.x, alpha=op.negative_slope)]
    return [code.op("Relu", code.x)]


@ONNX_RULES.add("PReLU")
def prelu(node: Node, code: OnnxCode) -> list[str]:
    slopes = math.prod(node.layer.params[0].shape)
    shape = (slopes,) + (1,) * (len(code.shape) - 2)
    return [code.op("PRelu", code.x, code.param(0, shape))]


@ONNX_RULES.add("Axpy")
def axpy(node: Node, code: OnnxCode) -> list[str]:
    scale, x, y = code.bottoms
    dims, all_dims = (len(shape) for shape in node.layer.bottom_shapes[:2])
    if dims < all_dims:
        scale = code.op("Unsqueeze", scale, code.integers(range(dims, all_dims)))
    return [code.op("Add", code.op("Mul", scale, x), y)]


@ONNX_RULES.add("SpatialDropout")
def spatial_dropout(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(SpatialDropout)
    if op.drops("TEST"):
        raise ValueError("its options drop channels at random while it predicts")
    return [times(code, code.x, op.scale) if op.always_scales else code.x]


@ONNX_RULES.add("Dropout")
def dropout(node: Node, code: OnnxCode) -> list[str]:
    """The identity, which needs no node, unless options of forks say otherwise."""
    op = node.layer.options(Dropout)
    if op.in_test:
        raise ValueError("sample_weights_test drops elements at random while it predicts")
    return [code.x if op.scale_train else times(code, code.x, 1.0 / op.scale)]


@ONNX_RULES.add("Sigmoid", "TanH", "AbsVal", "BNLL")
def without_options(node: Node, code: OnnxCode) -> list[str]:
    names = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return [code.op(names[node.layer.type], code.x)]


@ONNX_RULES.add("MaskPooling", "SpatialProduct")
def spatial_product(node: Node, code: OnnxCode) -> list[str]:
    return [code.op("Mul", *code.bottoms)]


@ONNX_RULES.add("ELU")
def elu(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(ELU)
    return [code.op("Elu", code.x, alpha=op.alpha)]


@ONNX_RULES.add("Swish")
def swish(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Swish)
    return [code.op("Mul", code.x, code.op("Sigmoid", times(code, code.x, op.beta)))]


@ONNX_RULES.add("Clip", "ReLU6")
def clip(node: Node, code: OnnxCode) -> list[str]:
    """Two steps, because low wins over high."""
    op = node.layer.options(Clip)
    below = code.op("Min", code.x, code.constant(op.high))
    return [code.op("Max", below, code.constant(op.low))]


@ONNX_RULES.add("Threshold")
def threshold(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Threshold)
    return [code.op("Cast", code.op("Greater", code.x, code.constant(op.threshold)), to=_FLOAT)]


@ONNX_RULES.add("Power")
def power(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Power)
    if op.power * op.scale == 0:
        base = code.op("Expand", code.constant(op.shift), code.op("Shape", code.x))
    else:
        base = plus(code, times(code, code.x, op.scale), op.shift)
    return [base if op.power == 1 else code.op("Pow", base, code.constant(op.power))]


@ONNX_RULES.add("Exp")
def exp(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Exp)
    return [times(code, code.op("Exp", times(code, code.x, op.inner)), op.outer)]


@ONNX_RULES.add("Log")
def log(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Log)
    top = code.op("Log", plus(code, times(code, code.x, op.scale), op.shift))
    return [times(code, top, 1 / op.log_base)]


@ONNX_RULES.add("Eltwise")
def eltwise(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Eltwise)
    if op.operation == "MAX":
        return [code.op("Max", *code.bottoms)]
    terms = [times(code, x, factor) for x, factor in zip(code.bottoms, op.coeff, strict=True)]
    name = "Mul" if op.operation == "PROD" else "Add"
    top = terms[0]
    for term in terms[1:]:
        top = code.op(name, top, term)
    return [top]


def times(code: OnnxCode, x: str, factor: float) -> str:
    """x times a number; x itself where that is 1."""
    return x if factor == 1 else code.op("Mul", x, code.constant(factor))


def plus(code: OnnxCode, x: str, term: float) -> str:
    """x plus a number; x itself where that is 0."""
    return x if term == 0 else code.op("Add", x, code.constant(term))


@ONNX_RULES.add("BatchNorm")
def batch_norm(node: Node, code: OnnxCode) -> list[str]:
    """The stored statistics, divided by their factor, in ONNX's BatchNormalization."""
    op = node.layer.options(BatchNorm)
    check_stored_statistics(op)
    if isinstance(op, ScaledBatchNorm):
        inputs = [code.constant(code.param_values(i)) for i in (3, 4, 0, 1)]
        return [code.op("BatchNormalization", code.x, *inputs, epsilon=op.eps)]
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
