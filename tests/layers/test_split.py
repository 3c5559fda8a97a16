"""Split: explicit, and as the net inserts it."""

import torch

from tests.layers.helpers import check_gradients, layer, net_of


def test_copies_and_gradients():
    x = torch.rand(2, 3)
    module = layer('type: "Split" bottom: "b0" top: "y" top: "z"', (2, 3))
    assert all(torch.equal(top, x) for top in module(x))
    check_gradients(module, x)


def test_diffs_add_up():
    x = torch.rand(2, 3, requires_grad=True)
    y, z = layer('type: "Split" bottom: "b0" top: "y" top: "z"', (2, 3))(x)
    (2 * y + 3 * z).sum().backward()
    assert x.grad.eq(5).all()


def test_names_of_inserted_ones():
    text = """layer { name: "r" type: "ReLU" bottom: "b0" top: "y" }
      layer { name: "a" type: "ReLU" bottom: "y" top: "a" }
      layer { name: "b" type: "ReLU" bottom: "y" top: "b" }"""
    net = net_of(text, (2,))
    assert [spec.name for spec in net.spec.layers if spec.type == "Split"] == ["y_r_0_split"]
    assert {"y_r_0_split_0", "y_r_0_split_1"} <= set(net.spec.shapes)
