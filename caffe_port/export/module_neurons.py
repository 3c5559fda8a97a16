"""Emitted modules: layers that work element by element, normalization and learned factors."""

from __future__ import annotations

import math

from caffe_port.export.graph import Node
from caffe_port.export.module_code import MODULE_RULES, ModuleCode, decimal, exact, number, tuple_of
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.arithmetic import Eltwise
from caffe_port.spec.ops.batch_norm import BN, BatchNorm, RunningBN, ScaledBatchNorm
from caffe_port.spec.ops.channelwise import SpatialDropout
from caffe_port.spec.ops.neurons import ELU, Clip, Dropout, Exp, Log, Power, ReLU, Swish, Threshold
from caffe_port.spec.ops.normalization import MVN, Normalize, Overlaid, Scale
from caffe_port.spec.ops.pooling import LRN


@MODULE_RULES.add("ReLU")
def relu(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(ReLU)
    if op.negative_slope:
        return f"F.leaky_relu({code.x}, {number(op.negative_slope)})"
    return f"F.relu({code.x})"


@MODULE_RULES.add("PReLU")
def prelu(node: Node, code: ModuleCode) -> str:
    slopes = math.prod(node.layer.params[0].shape)
    module = code.submodule(node, f"nn.PReLU({slopes})", {"weight": (slopes,)})
    return f"{module}({code.x})"


@MODULE_RULES.add("Axpy")
def axpy(node: Node, code: ModuleCode) -> str:
    scale, x, y = code.bottoms
    short = len(node.layer.bottom_shapes[1]) - len(node.layer.bottom_shapes[0])
    return f"{scale}{'.unsqueeze(-1)' * short} * {x} + {y}"


@MODULE_RULES.add("SpatialDropout")
def spatial_dropout(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(SpatialDropout)
    if op.drops("TEST"):
        raise ValueError("its options drop channels at random while it predicts")
    return f"{code.x} * {number(op.scale)}" if op.always_scales else code.x


@MODULE_RULES.add("Dropout")
def dropout(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Dropout)
    training = "True" if op.in_test else "self.training"
    dropped = f"F.dropout({code.x}, {decimal(number(op.ratio))}, {training})"
    # torch scales up what it keeps; Faster R-CNN's option scales everything down instead
    return dropped if op.scale_train else f"{dropped} * {number(1.0 / op.scale)}"


@MODULE_RULES.add("Sigmoid", "TanH", "AbsVal", "BNLL")
def without_options(node: Node, code: ModuleCode) -> str:
    calls = {
        "Sigmoid": "torch.sigmoid({})",
        "TanH": "torch.tanh({})",
        "AbsVal": "{}.abs()",
        "BNLL": "-F.logsigmoid(-{})",
    }
    return calls[node.layer.type].format(code.x)


@MODULE_RULES.add("MaskPooling", "SpatialProduct")
def spatial_product(node: Node, code: ModuleCode) -> str:
    return " * ".join(code.bottoms)


@MODULE_RULES.add("ELU")
def elu(node: Node, code: ModuleCode) -> str:
    # not F.elu, which rounds otherwise than Caffe
    x, alpha = code.x, number(node.layer.options(ELU).alpha)
    return f"{x}.clamp(min=0) + {alpha} * ({x}.clamp(max=0).exp() - 1)"


@MODULE_RULES.add("Swish")
def swish(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Swish)
    return f"{code.x} * torch.sigmoid({_times(code.x, op.beta)})"


@MODULE_RULES.add("Clip", "ReLU6")
def clip(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Clip)
    return f"{code.x}.clamp(max={number(op.high)}).clamp(min={number(op.low)})"


@MODULE_RULES.add("Threshold")
def threshold(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Threshold)
    return f"({code.x} > {number(op.threshold)}).to({code.x}.dtype)"


@MODULE_RULES.add("Power")
def power(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Power)
    if op.power * op.scale == 0:
        return f"torch.full_like({code.x}, {number(op.shift)}).pow({exact(op.power)})"
    return _power(_plus(_times(code.x, op.scale), op.shift), op.power)


@MODULE_RULES.add("Exp")
def exp(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Exp)
    return _times(f"torch.exp({_times(code.x, op.inner)})", op.outer)


@MODULE_RULES.add("Log")
def log(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Log)
    return _times(f"torch.log({_plus(_times(code.x, op.scale), op.shift)})", 1 / op.log_base)


@MODULE_RULES.add("Eltwise")
def eltwise(node: Node, code: ModuleCode) -> str:
    """Sums start with the first bottom, as Caffe's do, so that the rounding is the same."""
    op, bottoms = node.layer.options(Eltwise), code.bottoms
    if op.operation == "PROD":
        return " * ".join(bottoms)
    if op.operation == "MAX":
        top = bottoms[0]
        for other in bottoms[1:]:
            top = f"torch.maximum({top}, {other})"
        return top
    if set(op.coeff) == {1.0}:
        return " + ".join(bottoms)
    top = _times(bottoms[0], op.coeff[0])
    for other, factor in zip(bottoms[1:], op.coeff[1:], strict=True):
        top = f"torch.add({top}, {other}, alpha={number(factor)})"
    return top


def _times(x: str, factor: float) -> str:
    return x if factor == 1 else f"{x} * {number(factor)}"


def _plus(x: str, term: float) -> str:
    return x if term == 0 else f"{x} + {number(term)}"


def _power(base: str, exponent: float) -> str:
    if exponent == 1:
        return base
    return f"{base if base.isidentifier() else f'({base})'}.pow({exact(exponent)})"


def check_stored_statistics(op: BatchNorm) -> None:
    """Raises ValueError if a BatchNorm of phase TEST uses, and changes, the batch's statistics."""
    if op.use_global_stats is False:
        raise ValueError(
            "use_global_stats: false normalizes by each batch's own statistics and adds them to "
            "the stored ones; take the field out to use the stored ones"
        )


@MODULE_RULES.add("BatchNorm")
def batch_norm(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(BatchNorm)
    check_stored_statistics(op)
    channels = node.layer.bottom_shapes[0][1]
    scaled = isinstance(op, ScaledBatchNorm)
    name = code.helper("RunningBN" if scaled else "BatchNorm")
    more = ", factor=True" if scaled else ""
    module = code.submodule(node, f"{name}({channels}, eps={number(op.eps)}{more})")
    return f"{module}({code.x})"


def check_one_top(node: Node) -> None:
    """Raises ValueError if a BN also gives the batch's mean and variance."""
    if len(node.tops) > 1:
        raise ValueError("tops for mean and variance; take them out, or run the net here")


@MODULE_RULES.add("BN")
def bn(node: Node, code: ModuleCode) -> str:
    check_one_top(node)
    channels, op = node.layer.bottom_shapes[0][1], node.layer.op
    if isinstance(op, RunningBN):
        value = f"{code.helper('RunningBN')}({channels}, eps={number(op.eps)})"
    else:
        value = f"{code.helper('BN')}({channels}, {node.layer.options(BN).learn})"
    module = code.submodule(node, value)
    return f"{module}({code.x})"


@MODULE_RULES.add("Scale")
def scale(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Scale)
    if len(code.bottoms) == 1:
        return _laid(node, code, "Scale", ", bias=True" if op.bias else "")
    product = f"{code.x} * {_over(op, code, node)}"
    if not op.bias:
        return product
    axis, shape = _axis(op, node), node.layer.params[0].shape
    name = code.helper("Bias")
    module = code.submodule(node, f"{name}({tuple_of(shape)}{_not_1(axis)})")
    return f"{module}({product})"


@MODULE_RULES.add("Bias")
def bias(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Overlaid)
    if len(code.bottoms) == 1:
        return _laid(node, code, "Bias", "")
    return f"{code.x} + {_over(op, code, node)}"


def _laid(node: Node, code: ModuleCode, helper: str, more: str) -> str:
    op, shape = node.layer.options(Overlaid), node.layer.params[0].shape
    name = code.helper(helper)
    axis = _not_1(_axis(op, node))
    module = code.submodule(node, f"{name}({tuple_of(shape)}{axis}{more})")
    return f"{module}({code.x})"


def _axis(op: Overlaid, node: Node) -> int:
    return axis_index(op.axis, len(node.layer.bottom_shapes[0]))


def _not_1(axis: int) -> str:
    return "" if axis == 1 else f", axis={axis}"


def _over(op: Overlaid, code: ModuleCode, node: Node) -> str:
    return f"{code.helper('lay_over')}({code.bottoms[1]}, {code.x}, {_axis(op, node)})"


@MODULE_RULES.add("LRN")
def lrn(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(LRN)
    options = f"{op.local_size}, {decimal(number(op.alpha))}, {decimal(exact(op.beta))}"
    if op.within:
        return f"{code.helper('lrn_within_channel')}({code.x}, {options})"
    return f"F.local_response_norm({code.x}, {options}, {decimal(number(op.k))})"


@MODULE_RULES.add("MVN")
def mvn(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(MVN)
    options = f"{op.normalize_variance}, {op.across_channels}, {decimal(number(op.eps))}"
    return f"{code.helper('mvn')}({code.x}, {options})"


@MODULE_RULES.add("Normalize")
def normalize(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Normalize)
    channels = None if op.channel_shared else node.layer.bottom_shapes[0][1]
    name = code.helper("Normalize")
    module = code.submodule(node, f"{name}({channels}, {op.across_spatial}, {number(op.eps)})")
    return f"{module}({code.x})"


@MODULE_RULES.add("Parameter")
def parameter(node: Node, code: ModuleCode) -> str:
    name = code.helper("Parameter")
    shape = node.layer.params[0].shape
    return code.submodule(node, f"{name}({tuple_of(shape)})") + ".weight"
