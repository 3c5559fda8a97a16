"""Rules of Convolution, with the layers that are fused into it, and of Deconvolution."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.inference.neurons import Affine, affine_of, fold
from caffe_port.inference.planner import Planner, Step, can_pack, rule
from caffe_port.layers import Layer
from caffe_port.layers.filters import convolve, deconvolve
from caffe_port.plan import Node
from caffe_port.spec.ops import arithmetic, neurons
from caffe_port.spec.ops.filters import Filtered, Window

# (bottom, blob to add or None) -> top
Runner: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]


@dataclass
class _Epilogue:
    """The layers after a convolution that are computed with it.

    Attributes:
        affines: scales and shifts of the channels.
        layers: those of the affines.
        addend: a value to add, or None.
        slope: of the ReLU for negative values; None for no ReLU.
        top: the last layer's output.
    """

    affines: list[Affine]
    layers: list[Layer]
    addend: int | None
    slope: float | None
    top: int


@rule("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def _convolution(node: Node, planner: Planner) -> Step | None:
    layer = planner.net.module(node.layer.name)
    if not _is_planar(layer):
        return None
    epilogue = _epilogue(node, planner)
    run = _Convolution(layer, epilogue, planner)
    inputs = node.bottoms if epilogue.addend is None else (*node.bottoms, epilogue.addend)
    return Step(node.layer, run, inputs, (epilogue.top,), fresh=True)


def _is_planar(layer: Layer) -> bool:
    op, shape = layer.spec.options(Filtered), layer.spec.bottom_shapes[0]
    return len(layer.spec.bottoms) == 1 and len(shape) == 4 and op.channel_axis(shape) == 1


def _epilogue(node: Node, planner: Planner) -> _Epilogue:
    found = _Epilogue([], [], None, None, node.tops[0])
    while (reader := planner.sole_reader(found.top)) is not None:
        layer, op = planner.net.module(reader.layer.name), reader.layer.op
        if isinstance(op, neurons.ReLU):
            found.slope, found.top = op.negative_slope, planner.absorb(reader)
            break
        if found.addend is None and (affine := affine_of(layer)) and planner.options.fold:
            found.affines.append(affine)
            found.layers.append(layer)
        elif found.addend is None and (addend := _addend(reader, found.top, planner)) is not None:
            found.addend = addend
        else:
            break
        found.top = planner.absorb(reader)
    return found


def _addend(reader: Node, top: int, planner: Planner) -> int | None:
    """The other term of a plain sum, if it is already computed."""
    op = reader.layer.op
    if not isinstance(op, arithmetic.Eltwise) or op.operation != "SUM" or op.coeff != (1.0, 1.0):
        return None
    (other,) = (value for value in reader.bottoms if value != top)
    return other if planner.is_computed(other) else None


class _Convolution:
    """A convolution and its epilogue; each shape of the bottom chooses its method once."""

    def __init__(self, layer: Layer, epilogue: _Epilogue, planner: Planner) -> None:
        self._layer, self._epilogue = layer, epilogue
        self._options, self._store = planner.options, planner.store
        self._runners: dict[Hashable, Runner] = {}
        # the same parameters under the same options give the same filters
        self._key: Hashable = tuple(
            (each.spec.type, getattr(each.spec.op, "eps", 0.0), *map(id, each.parameters()))
            for each in (layer, *epilogue.layers)
        )

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> tuple[Tensor, ...]:
        x = x if self._options.reduced is None else x.to(self._options.reduced)
        key = (x.shape, x.dtype, x.device)
        if key not in self._runners:
            self._runners[key] = self._runner(x)
        return (self._runners[key](x, None if addend is None else addend.to(x.dtype)),)

    def _runner(self, x: Tensor) -> Runner:
        op, options = self._layer.spec.options(Filtered), self._options
        window = op.window(tuple(x.shape))
        (expected,) = op.top_shapes([tuple(x.shape)])
        overhangs = any(window.overhang(size, i) for i, size in enumerate(x.shape[2:]))
        if options.compile is not None or not can_pack(x) or 0 in expected or overhangs:
            return self._plain(x, window, op.group)
        return self._packed(x, window, op.group)

    def _folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight, bias = self._layer.param("weight").detach(), self._layer.blob(1)
        bias = None if bias is None else bias.detach()
        weight, bias = fold(weight, bias, self._epilogue.affines)
        return weight.to(dtype), None if bias is None else bias.to(dtype)

    def _packed(self, x: Tensor, window: Window, group: int) -> Runner:
        weight, bias = self._folded(x.dtype)
        packed = self._store.packed(self._key, weight, window, group, tuple(x.shape))
        geometry = (window.pad, window.stride, window.dilation, group)
        slope = self._epilogue.slope
        activation = "none" if slope is None else "leaky_relu" if slope else "relu"
        run = torch.ops.mkldnn._convolution_pointwise

        def runner(x: Tensor, addend: Tensor | None) -> Tensor:
            if addend is None:
                scalars = [slope] if slope else []
                top: Tensor = run(x, packed, bias, *geometry, activation, scalars, "")
                return top
            # oneDNN's sum has no leaky ReLU
            relu = "relu" if slope == 0 else None
            top = run.binary(x, addend, packed, bias, *geometry, "add", 1.0, relu, [], "")
            return functional.leaky_relu_(top, slope) if slope else top

        return runner

    def _plain(self, x: Tensor, window: Window, group: int) -> Runner:
        def make() -> tuple[Tensor, Tensor | None]:
            weight, bias = self._folded(x.dtype)
            return weight.contiguous(memory_format=torch.channels_last), bias

        weight, bias = self._store.once(("plain", x.dtype, self._key), make)
        slope = self._epilogue.slope

        def runner(x: Tensor, addend: Tensor | None) -> Tensor:
            top = convolve(x, weight, bias, window, group)
            top = top if addend is None else top.add_(addend)
            if slope is None:
                return top
            return functional.leaky_relu_(top, slope) if slope else functional.relu_(top)

        return runner


@rule("Deconvolution")
def _deconvolution(node: Node, planner: Planner) -> Step | None:
    """Runs in channels_last: a third of the time for the large kernels that enlarge FCN scores."""
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
