"""Rules of elementwise layers, and affine layers folded into filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.inference.planner import Planner, Step, rule
from caffe_port.layers import Layer
from caffe_port.plan import Node
from caffe_port.spec.ops import arithmetic, batch_norm, neurons
from caffe_port.spec.ops.normalization import Bias, Scale


@dataclass(frozen=True)
class Affine:
    """A scale and a shift of each channel, x * scale + shift: (C,) each, in float64."""

    scale: Tensor
    shift: Tensor


_Getter = Callable[[Layer, tuple[int, ...]], "Affine | None"]
_GETTERS: dict[str, _Getter] = {}


def _affine(type: str) -> Callable[[_Getter], _Getter]:
    def decorate(getter: _Getter) -> _Getter:
        _GETTERS[type] = getter
        return getter

    return decorate


def affine_of(layer: Layer) -> Affine | None:
    """The affine of a layer; None if the layer is anything else."""
    getter, shapes = _GETTERS.get(layer.spec.type), layer.spec.bottom_shapes
    if getter is None or not len(shapes) == len(layer.spec.tops) == 1 or len(shapes[0]) != 4:
        return None
    return getter(layer, shapes[0])


def fold(
    weight: Tensor, bias: Tensor | None, affines: Sequence[Affine]
) -> tuple[Tensor, Tensor | None]:
    """Folds affines into the filters of the convolution before them, in float64.

    Args:
        weight: (O, ...).
        bias: (O,) or None.
        affines: in order.
    Returns:
        The new weight and bias, in the weight's dtype.
    """
    if not affines:
        return weight, bias
    factor = weight.new_ones(len(weight), dtype=torch.float64)
    total = torch.zeros_like(factor) if bias is None else bias.double()
    for affine in affines:
        factor, total = factor * affine.scale, total * affine.scale + affine.shift
    spread = factor.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight.double() * spread).to(weight.dtype), total.to(weight.dtype)


@_affine("BatchNorm")
def _batch_norm(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(batch_norm.BatchNorm)
    if isinstance(op, batch_norm.ScaledBatchNorm):
        return None if layer.in_training else _running(layer, op.eps)
    stored = not layer.in_training if op.use_global_stats is None else op.use_global_stats
    if not stored or (op.update_global_stats and layer.in_training):
        return None
    mean, variance, factor = (layer.param(n).double() for n in ("mean", "variance", "factor"))
    share = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
    deviation = (variance * share + op.eps).sqrt()
    return Affine(1 / deviation, -mean * share / deviation)


@_affine("Scale")
def _scale(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(Scale)
    weight = layer.param("weight")
    if not _per_channel(op.spread(shape, tuple(weight.shape)), shape):
        return None
    factor = weight.double().flatten()
    shift = layer.param("bias").double().flatten() if op.bias else torch.zeros_like(factor)
    return Affine(factor, shift)


@_affine("Bias")
def _bias(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(Bias)
    values = layer.param("bias")
    if not _per_channel(op.spread(shape, tuple(values.shape)), shape):
        return None
    shift = values.double().flatten()
    return Affine(torch.ones_like(shift), shift)


@_affine("BN")
def _bn(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.op
    if isinstance(op, batch_norm.RunningBN):
        return None if layer.in_training and not op.stored else _running(layer, op.eps)
    scale, shift = (layer.param(name).double().flatten() for name in ("scale", "shift"))
    return None if layer.spec.options(batch_norm.BN).learn else Affine(scale, shift)


def _running(layer: Layer, eps: float) -> Affine:
    """Running statistics, then a scale and a shift."""
    names = ("mean", "variance", "scale", "shift")
    mean, variance, scale, shift = (layer.param(name).double().flatten() for name in names)
    scale = scale / (variance + eps).sqrt()
    return Affine(scale, shift - mean * scale)


def _per_channel(spread: Sequence[int], shape: tuple[int, ...]) -> bool:
    return tuple(spread) in ((shape[1], 1, 1), (1, shape[1], 1, 1))


@rule("ReLU")
def _relu(node: Node, planner: Planner) -> Step:
    op = node.layer.options(neurons.ReLU)
    slope, in_place = op.negative_slope, planner.may_overwrite(node.bottoms[0])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        if slope:
            return (functional.leaky_relu(x, slope, inplace=in_place),)
        return (functional.relu(x, inplace=in_place),)

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)


@rule("Eltwise")
def _eltwise(node: Node, planner: Planner) -> Step | None:
    """Adds without multiplying by coefficients of 1."""
    op = node.layer.options(arithmetic.Eltwise)
    if op.operation != "SUM" or set(op.coeff) != {1.0}:
        return _in_any_layout(node, planner)

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        total = bottoms[0] + bottoms[1]
        for x in bottoms[2:]:
            total += x
        return (total,)

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)


@rule("Concat")
def _concat(node: Node, planner: Planner) -> Step:
    module = planner.net.module(node.layer.name)

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        tops: tuple[Tensor, ...] = module(*bottoms)
        return tops

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)


@rule("AbsVal", "AutoCrop", "BatchNorm", "Bias", "BN", "Clip", "Crop", "ELU", "Power", "PReLU",
      "Scale", "Sigmoid", "Softmax", "Swish", "TanH", "Threshold")  # fmt: skip
def _in_any_layout(node: Node, planner: Planner) -> Step:
    """Runs the layer's module, which is as fast in channels_last and keeps it."""
    name, net = node.layer.name, planner.net

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        return net.run_layer(name, [planner.full(x) for x in bottoms])

    return Step(node.layer, run, node.bottoms, node.tops)
