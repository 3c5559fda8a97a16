"""Layers that work on each element, and those that only join blobs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.inference.graph import Node
from caffe_port.inference.planner import Planner, Step, rule
from caffe_port.spec.ops import arithmetic, neurons


@rule("ReLU")
def _relu(node: Node, planner: Planner) -> Step:
    op = node.layer.options(neurons.ReLU)
    slope, over = op.negative_slope, planner.may_overwrite(node.inputs[0])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        if slope:
            return (functional.leaky_relu(x, slope, inplace=over),)
        return (functional.relu(x, inplace=over),)

    return Step(node.layer, run, node.inputs, node.outputs, fresh=True)


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

    return Step(node.layer, run, node.inputs, node.outputs, fresh=True)


@rule("Concat")
def _concat(node: Node, planner: Planner) -> Step:
    module = planner.net.module(node.layer.name)

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        tops: tuple[Tensor, ...] = module(*bottoms)
        return tops

    return Step(node.layer, run, node.inputs, node.outputs, fresh=True)


@rule("AbsVal", "BatchNorm", "Bias", "BN", "Clip", "Crop", "ELU", "Power", "PReLU", "Scale",
      "Sigmoid", "Softmax", "Swish", "TanH", "Threshold")  # fmt: skip
def _in_any_layout(node: Node, planner: Planner) -> Step:
    """Their modules do as well in channels_last, and leave the blob in it."""
    name, net = node.layer.name, planner.net

    def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
        return net.run_layer(name, [planner.full(x) for x in bottoms])

    return Step(node.layer, run, node.inputs, node.outputs)
