"""Optimized elementwise layers, and affine layers folded into filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.inference.planner import Planner, Step, rule
from caffe_port.layers import Layer
from caffe_port.plan import Node
from caffe_port.spec.ops import arithmetic, neurons, normalization
from caffe_port.spec.ops.normalization import Bias, Scale

# Layers that scale and shift each channel by constants, by type.


@dataclass(frozen=True)
class Affine:
    """x * scale + shift, (C,) each, in float64."""

    scale: Tensor
    shift: Tensor


Reader = Callable[[Layer, tuple[int, ...]], "Affine | None"]
_READERS: dict[str, Reader] = {}


def _reads(type: str) -> Callable[[Reader], Reader]:
    def decorate(reader: Reader) -> Reader:
        _READERS[type] = reader
        return reader

    return decorate


def affine_of(layer: Layer) -> Affine | None:
    """What a layer does to each channel; None where it is no such layer."""
    reader, shape = _READERS.get(layer.spec.type), layer.spec.bottom_shapes[:1]
    alone = len(layer.spec.bottoms) == len(layer.spec.tops) == 1
    if reader is None or not alone or len(shape[0]) != 4:
        return None
    return reader(layer, shape[0])


def fold(
    weight: Tensor, bias: Tensor | None, affines: Sequence[Affine]
) -> tuple[Tensor, Tensor | None]:
    """The filters of a convolution and what follows it, computed in float64.

    Args:
        weight: (O, ...).
        bias: (O,) or None.
        affines: in order.
    Returns:
        weight and bias in the weight's type.
    """
    if not affines:
        return weight, bias
    factor = weight.new_ones(len(weight), dtype=torch.float64)
    total = torch.zeros_like(factor) if bias is None else bias.double()
    for affine in affines:
        factor, total = factor * affine.scale, total * affine.scale + affine.shift
    spread = factor.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight.double() * spread).to(weight.dtype), total.to(weight.dtype)


@_reads("BatchNorm")
def _batch_norm(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(normalization.BatchNorm)
    stored = not layer.in_training if op.use_global_stats is None else op.use_global_stats
    if not stored or (op.update_global_stats and layer.in_training):
        return None
    mean, variance, factor = (layer.param(n).double() for n in ("mean", "variance", "factor"))
    share = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
    deviation = (variance * share + op.eps).sqrt()
    return Affine(1 / deviation, -mean * share / deviation)


@_reads("Scale")
def _scale(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(Scale)
    weight = layer.param("weight")
    if not _per_channel(op.spread(shape, tuple(weight.shape)), shape):
        return None
    factor = weight.double().flatten()
    shift = layer.param("bias").double().flatten() if op.bias else torch.zeros_like(factor)
    return Affine(factor, shift)


@_reads("Bias")
def _bias(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(Bias)
    values = layer.param("bias")
    if not _per_channel(op.spread(shape, tuple(values.shape)), shape):
        return None
    shift = values.double().flatten()
    return Affine(torch.ones_like(shift), shift)


@_reads("BN")
def _bn(layer: Layer, shape: tuple[int, ...]) -> Affine | None:
    op = layer.spec.options(normalization.BN)
    if op.learn:
        return None
    return Affine(layer.param("scale").double().flatten(), layer.param("shift").double().flatten())


def _per_channel(spread: Sequence[int], shape: tuple[int, ...]) -> bool:
    return tuple(spread) in ((shape[1], 1, 1), (1, shape[1], 1, 1))


# Layers that work on each element, and those that only join blobs.


@rule("ReLU")
def _relu(node: Node, planner: Planner) -> Step:
    op = node.layer.options(neurons.ReLU)
    slope, over = op.negative_slope, planner.may_overwrite(node.bottoms[0])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        if slope:
            return (functional.leaky_relu(x, slope, inplace=over),)
        return (functional.relu(x, inplace=over),)

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)


@rule("Eltwise")
def _eltwise(node: Node, planner: Planner) -> Step | None:
    """Plain sums need no multiplication by 1."""
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


@rule("AbsVal", "BatchNorm", "Bias", "BN", "Clip", "Crop", "ELU", "Power", "PReLU", "Scale",
      "Sigmoid", "Softmax", "Swish", "TanH", "Threshold")  # fmt: skip
def _in_any_layout(node: Node, planner: Planner) -> Step:
    """Their modules do as well in channels_last, and leave the blob in it."""
    name, net = node.layer.name, planner.net

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        return net.run_layer(name, [planner.full(x) for x in bottoms])

    return Step(node.layer, run, node.bottoms, node.tops)
