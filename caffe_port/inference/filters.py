"""Rules of layers with windows: filters, with the layers that are fused into them, and pooling."""

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
from caffe_port.layers.pooling import max_pool
from caffe_port.plan import Node
from caffe_port.spec.ops import arithmetic, neurons, pooling, resampling
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


@rule("Pooling")
def _pooling(node: Node, planner: Planner) -> Step:
    """Computes no indices, which only a second top and the backward pass need."""
    op, module = node.layer.options(pooling.Pooling), planner.net.module(node.layer.name)
    if op.method == "MAX" and len(node.tops) == 1:

        def run(x: Tensor) -> tuple[Tensor, ...]:
            if not _as_torch(op, tuple(x.shape)):
                return (max_pool(x, op)[0],)
            kernel = op.window(tuple(x.shape))
            top = functional.max_pool2d(x, kernel, op.stride, op.pad, ceil_mode=op.ceil)
            return (top,)

        return Step(node.layer, run, node.bottoms, node.tops, fresh=True)

    def with_module(x: Tensor) -> tuple[Tensor, ...]:
        tops: tuple[Tensor, ...] = module(planner.full(x))
        return tops

    return Step(node.layer, with_module, node.bottoms, node.tops, fresh=True)


def _as_torch(op: pooling.Pooling, shape: tuple[int, ...]) -> bool:
    """Whether torch has these windows: pads of at most half of one, and none wholly outside."""
    kernel, tops = op.window(shape), op.top_shapes([shape])[0]
    return all(
        2 * op.pad[i] <= kernel[i]
        and (tops[2 + i] - 1) * op.stride[i] < shape[2 + i] + op.pad[i]
        for i in (0, 1)
    )  # fmt: skip


@rule("LRN")
def _lrn(node: Node, planner: Planner) -> Step | None:
    op = node.layer.options(pooling.LRN)
    if op.within:
        return None

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return (normalize_across_channels(planner.full(x), op),)

    return Step(node.layer, run, node.bottoms, node.tops, fresh=True)


def normalize_across_channels(x: Tensor, op: pooling.LRN) -> Tensor:
    """x / (k + alpha / size * sum of the squares of size channels around) ^ beta.

    Args:
        x: (N, C, H, W), fastest in channels_last.
    Source: BVLC/caffe lrn_layer.cpp, CrossChannelForward_cpu.
    """
    pixels = x.permute(0, 2, 3, 1)
    channels, width = x.shape[1], op.width(x.shape[1])
    reach = width // 2
    squares = functional.pad(pixels.square(), (reach, reach))
    total = squares[..., :channels].clone()
    for i in range(1, width):
        total += squares[..., i : i + channels]
    total.mul_(op.alpha / op.local_size).add_(op.k)
    if op.beta == 0.75:
        root = total.sqrt()
        return (pixels / root.mul_(root.sqrt())).permute(0, 3, 1, 2)
    return (pixels * total.pow_(-op.beta)).permute(0, 3, 1, 2)


@rule("Interp")
def _interp(node: Node, planner: Planner) -> Step:
    """Makes a bottom that is enlarged contiguous, before it is large."""
    op, name, net = node.layer.options(resampling.Interp), node.layer.name, planner.net

    def run(x: Tensor) -> tuple[Tensor, ...]:
        x = planner.full(x)
        shape = op.top_shapes([tuple(x.shape)])[0]
        grows = shape[2] * shape[3] > x.shape[2] * x.shape[3]
        return net.run_layer(name, [x.contiguous() if grows else x])

    return Step(node.layer, run, node.bottoms, node.tops)
