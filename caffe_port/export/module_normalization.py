"""Emitted modules: normalization and learned factors."""

from __future__ import annotations

from caffe_port.export.graph import Node
from caffe_port.export.module_code import MODULE_RULES, ModuleCode, decimal, exact, number, tuple_of
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.normalization import (
    BN,
    MVN,
    BatchNorm,
    Normalize,
    Overlaid,
    RunningBN,
    Scale,
)
from caffe_port.spec.ops.pooling import LRN


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
    name = code.helper("BatchNorm")
    module = code.submodule(node, f"{name}({channels}, eps={number(op.eps)})")
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
