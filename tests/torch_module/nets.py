"""Small nets, and runs of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from caffe_port.net import Net
from caffe_port.proto import parse_net
from caffe_port.proto.printer import print_text
from caffe_port.spec import NetSpec
from tests.any_net.draft import net_with
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer

THREE = 'num_output: 4 kernel_size: 3 weight_filler { type: "xavier" }'
BODY = (
    conv("c1", "b0", options=f"{THREE} pad: 1")
    + layer("r1", "ReLU", "c1", "c1")
    + layer("p1", "Pooling", "c1", more="pooling_param { kernel_size: 3 stride: 2 pad: 1 }")
    + conv("c2", "p1", options=f"{THREE} pad: 2 dilation: 2")
    + layer("r2", "ReLU", "c2", "c2")
    + conv("fc", "c2")
    + layer("up", "Interp", "fc", more="interp_param { zoom_factor: 2 }")
)
LOSS = layer("loss", "SoftmaxWithLoss", "fc b1")


def segmenting() -> Net:
    """Convolutions in place with ReLU, pooling, a dilated convolution, Interp."""
    torch.manual_seed(0)
    return net_of(BODY, (2, 3, 9, 11))


def losing() -> tuple[Net, dict[str, Tensor]]:
    """The same in TRAIN with a loss, and its inputs: images and labels."""
    torch.manual_seed(0)
    net = net_of(BODY + LOSS, (2, 3, 9, 11), (2, 1, 5, 6), phase="TRAIN")
    labels = torch.arange(60).remainder(3).float().reshape(2, 1, 5, 6)
    return net, {"b0": image(), "b1": labels}


def image(*shape: int) -> Tensor:
    return torch.randn(shape or (2, 3, 9, 11), generator=torch.Generator().manual_seed(1))


def of_kind(kind: str, without: Collection[str] = ()) -> tuple[Net, dict[str, Tensor]]:
    """A net with layers of that kind of ``tests.any_net``, and its inputs."""
    message, values = net_with(kind, without)
    text = print_text(message)
    read = parse_net(text)
    torch.manual_seed(0)
    net = Net(NetSpec.build(read.message, phase="TEST", text=text, dialect=read.dialect))
    shapes = net.spec.shapes
    inputs = {n: values[n] if n in values else torch.randn(shapes[n]) for n in net.spec.inputs}
    return net, inputs


def run(net: Callable[..., Mapping[str, Tensor]], *inputs: Any) -> dict[str, Tensor]:
    """The outputs, with the same random numbers each time."""
    torch.manual_seed(1)
    return dict(net(*inputs))


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, blob in wanted.items():
        assert torch.equal(found[name], blob), name
