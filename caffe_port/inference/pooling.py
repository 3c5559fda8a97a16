"""Rules of Pooling, LRN and Interp."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.inference.planner import Planner, Step, rule
from caffe_port.layers.pooling import max_pool
from caffe_port.plan import Node
from caffe_port.spec.ops import pooling, resampling


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
