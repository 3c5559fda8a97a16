"""ONNX: layers that work element by element."""

from __future__ import annotations

import math

from caffe_port.export.graph import Node
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.spec.ops.arithmetic import Eltwise
from caffe_port.spec.ops.channelwise import SpatialDropout
from caffe_port.spec.ops.neurons import ELU, Clip, Dropout, Exp, Log, Power, ReLU, Swish, Threshold

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
    if node.layer.options(SpatialDropout).in_test:
        raise ValueError("sample_weights_test drops channels at random while it predicts")
    return [code.x]


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


@ONNX_RULES.add("SpatialProduct")
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
