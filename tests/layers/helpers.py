"""Building one layer from a snippet of prototxt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffe_port import NetSpec
from caffe_port.layers import Layer
from caffe_port.net import Net
from caffe_port.proto import parse_net


def net_of(
    text: str, *shapes: Sequence[int], phase: str = "TEST", dialect: str | None = None
) -> Net:
    """A net of inputs b0, b1, .. of these shapes, followed by ``text``."""
    inputs = "".join(
        f'input: "b{i}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }} '
        for i, shape in enumerate(shapes)
    )
    parsed = parse_net(inputs + text, dialect=dialect)
    spec = NetSpec.build(
        parsed.message, phase=phase, dialect=parsed.dialect, unknown=parsed.unknown
    )
    return Net(spec)


def layer(
    text: str, *shapes: Sequence[int], phase: str = "TEST", dialect: str | None = None
) -> Layer:
    """The layer of a one-layer snippet, such as 'type: "ReLU" bottom: "b0" top: "y"'."""
    net = net_of(f'layer {{ name: "op" {text} }}', *shapes, phase=phase, dialect=dialect)
    return net.module("op")


def check_gradients(module: Layer, *bottoms: torch.Tensor, wrt: Sequence[int] = (0,)) -> None:
    """A float64 gradient check of the first top, for the named bottoms and all parameters."""
    module = module.double()
    points = [b.double() for b in bottoms]
    params = [p for p in module.parameters() if p.requires_grad]
    variables = [points[i].requires_grad_() for i in wrt] + params

    def run(*_: torch.Tensor) -> torch.Tensor:
        return module(*points)[0]

    assert torch.autograd.gradcheck(run, variables, eps=1e-6, atol=1e-7, rtol=1e-5)
