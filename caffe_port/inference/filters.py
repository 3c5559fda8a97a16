"""Convolution, with what can be made part of it, and Deconvolution."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.inference.neurons import Affine, affine_of, fold
from caffe_port.inference.planner import Planner, Step, can_pack, rule
from caffe_port.inference.winograd import Winograd, transform_filters
from caffe_port.layers import Layer
from caffe_port.layers.filters import convolve, deconvolve
from caffe_port.plan import Node
from caffe_port.spec.ops import arithmetic, neurons
from caffe_port.spec.ops.filters import Filtered, Window

# (bottom, what is added to the sum or None) -> top
Runner: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]

#: Winograd pays from so many channels on, measured on two cores; narrower filters are moved
#: about for longer than they are multiplied.
WIDE = 256
#: and up to this dilation: beyond it the phases of a feature map have too few blocks.
NEAR = 2


@dataclass
class _Tail:
    """What follows a convolution and is computed with it.

    Attributes:
        affines: scales and shifts of its channels.
        layers: of the affines.
        other: a value to add, or None.
        slope: of the ReLU for negative values; None for no ReLU.
        top: the last one's output.
    """

    affines: list[Affine]
    layers: list[Layer]
    other: int | None
    slope: float | None
    top: int


@rule("Convolution")
def _convolution(node: Node, planner: Planner) -> Step | None:
    layer = planner.net.module(node.layer.name)
    if not _is_planar(layer):
        return None
    tail = _tail(node, planner)
    run = _Convolution(layer, tail, planner)
    inputs = node.bottoms if tail.other is None else (*node.bottoms, tail.other)
    return Step(node.layer, run, inputs, (tail.top,), fresh=True)


def _is_planar(layer: Layer) -> bool:
    op, shape = layer.spec.options(Filtered), layer.spec.bottom_shapes[0]
    return len(layer.spec.bottoms) == 1 and len(shape) == 4 and op.channel_axis(shape) == 1


def _tail(node: Node, planner: Planner) -> _Tail:
    tail = _Tail([], [], None, None, node.tops[0])
    while (reader := planner.next_alone(tail.top)) is not None:
        layer, op = planner.net.module(reader.layer.name), reader.layer.op
        if isinstance(op, neurons.ReLU):
            tail.slope, tail.top = op.negative_slope, planner.absorb(reader)
            break
        if tail.other is None and (affine := affine_of(layer)) and planner.options.fold:
            tail.affines.append(affine)
            tail.layers.append(layer)
        elif tail.other is None and (other := _added(reader, tail.top, planner)) is not None:
            tail.other = other
        else:
            break
        tail.top = planner.absorb(reader)
    return tail


def _added(reader: Node, top: int, planner: Planner) -> int | None:
    """The other term of a plain sum, if it is there already."""
    op = reader.layer.op
    if not isinstance(op, arithmetic.Eltwise) or op.operation != "SUM" or op.coeff != (1.0, 1.0):
        return None
    (other,) = (value for value in reader.bottoms if value != top)
    return other if planner.is_computed(other) else None


class _Convolution:
    """A convolution and its tail; how it is computed is settled when a shape is first met."""

    def __init__(self, layer: Layer, tail: _Tail, planner: Planner) -> None:
        self._layer, self._tail = layer, tail
        self._options, self._store = planner.options, planner.store
        self._runners: dict[Hashable, Runner] = {}
        sources = [layer, *tail.layers]
        # the same parameters under the same options give the same filters
        self._key: Hashable = tuple(
            (each.spec.type, getattr(each.spec.op, "eps", 0.0), *map(id, each.parameters()))
            for each in sources
        )

    def __call__(self, x: Tensor, other: Tensor | None = None) -> tuple[Tensor, ...]:
        x = x if self._options.reduced is None else x.to(self._options.reduced)
        key = (x.shape, x.dtype, x.device)
        if key not in self._runners:
            self._runners[key] = self._runner(x)
        return (self._runners[key](x, None if other is None else other.to(x.dtype)),)

    def _runner(self, x: Tensor) -> Runner:
        op, options = self._layer.spec.options(Filtered), self._options
        window = op.window(tuple(x.shape))
        (expected,) = op.top_shapes([tuple(x.shape)])
        over = any(window.overhang(size, i) for i, size in enumerate(x.shape[2:]))
        if options.compile is not None or not can_pack(x) or 0 in expected or over:
            return self._plain(x, window, op.group)
        if options.winograd and self._suits_winograd(x, window, op):
            return self._winograd(window)
        return self._packed(x, window, op.group)

    def _folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight, bias = self._layer.param("weight").detach(), self._layer.blob(1)
        bias = None if bias is None else bias.detach()
        weight, bias = fold(weight, bias, self._tail.affines)
        return weight.to(dtype), None if bias is None else bias.to(dtype)

    def _suits_winograd(self, x: Tensor, window: Window, op: Filtered) -> bool:
        near = window.dilation[0] == window.dilation[1] <= NEAR
        same = window.kernel == (3, 3) and window.stride == (1, 1)
        padded = window.pad == window.dilation
        wide = min(x.shape[1], op.num_output) >= WIDE and op.group == 1
        alone = self._tail.other is None and x.dtype == torch.float32
        return near and same and padded and wide and alone

    def _winograd(self, window: Window) -> Runner:
        def make() -> tuple[Tensor, Tensor | None]:
            weight, bias = self._folded(torch.float64)
            return transform_filters(weight).float(), None if bias is None else bias.float()

        filters, bias = self._store.once(("winograd", self._key), make)
        run = Winograd(filters, bias, window.dilation[0], self._tail.slope)
        return lambda x, other: run(x)

    def _packed(self, x: Tensor, window: Window, group: int) -> Runner:
        weight, bias = self._folded(x.dtype)
        packed = self._store.packed(self._key, weight, window, group, tuple(x.shape))
        where = (window.pad, window.stride, window.dilation, group)
        name, slopes = _activation(self._tail.slope)
        run = torch.ops.mkldnn._convolution_pointwise

        def runner(x: Tensor, other: Tensor | None) -> Tensor:
            if other is None:
                top: Tensor = run(x, packed, bias, *where, name or "none", slopes, "")
                return top
            # its sum takes no leaky ReLU
            then = name if name == "relu" else None
            top = run.binary(x, other, packed, bias, *where, "add", 1.0, then, [], "")
            return functional.leaky_relu_(top, slopes[0]) if name == "leaky_relu" else top

        return runner

    def _plain(self, x: Tensor, window: Window, group: int) -> Runner:
        def make() -> tuple[Tensor, Tensor | None]:
            weight, bias = self._folded(x.dtype)
            return weight.contiguous(memory_format=torch.channels_last), bias

        weight, bias = self._store.once(("plain", x.dtype, self._key), make)
        slope = self._tail.slope

        def runner(x: Tensor, other: Tensor | None) -> Tensor:
            top = convolve(x, weight, bias, window, group)
            top = top if other is None else top.add_(other)
            if slope is None:
                return top
            return functional.leaky_relu_(top, slope) if slope else functional.relu_(top)

        return runner


def _activation(slope: float | None) -> tuple[str | None, list[float]]:
    if slope is None:
        return None, []
    return ("leaky_relu", [slope]) if slope else ("relu", [])


@rule("Deconvolution")
def _deconvolution(node: Node, planner: Planner) -> Step | None:
    """channels_last: a third of the time for the wide kernels that upsample FCN's scores."""
    layer = planner.net.module(node.layer.name)
    if not _is_planar(layer):
        return None
    op = layer.spec.options(Filtered)
    last = torch.channels_last

    def make() -> Tensor:
        return layer.param("weight").detach().contiguous(memory_format=last)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        x = planner.full(x).contiguous(memory_format=last)
        weight = planner.store.once(("deconvolution", layer.spec.name), make)
        return (deconvolve(x, weight, layer.blob(1), op.window(tuple(x.shape)), op.group),)

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)
