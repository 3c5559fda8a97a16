"""Silence."""

import torch

from tests.layers.helpers import layer, net_of


def test_it_has_no_tops():
    assert layer('type: "Silence" bottom: "b0" bottom: "b1"', (2,), (3,))(
        torch.rand(2), torch.rand(3)
    ) == ()  # fmt: skip


def test_its_bottoms_are_not_outputs():
    text = """layer { name: "r" type: "ReLU" bottom: "b0" top: "y" }
      layer { name: "e" type: "ReLU" bottom: "b0" top: "z" }
      layer { name: "s" type: "Silence" bottom: "y" }"""
    net = net_of(text, (2,))
    assert net.spec.outputs == ("z",)
    assert list(net(torch.rand(2))) == ["z"]
