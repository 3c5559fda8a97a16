"""Parameters that several layers share, of one shape or of one count."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.weights import StoredBlob, StoredLayer
from tests.layers.helpers import net_of

FLAT_SHAPE, TALL_SHAPE = (2, 6), (2, 2, 3, 1)
# the owner takes 6 numbers, the user 2 channels of 3 x 1: 4 x 6 weights either way
TEXT = """
layer { name: "flat" type: "InnerProduct" bottom: "b0" top: "y"
  param { name: "w" } inner_product_param { num_output: 4 bias_term: false
    weight_filler { type: "uniform" } } }
layer { name: "tall" type: "Convolution" bottom: "b1" top: "z"
  param { name: "w" share_mode: %s }
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 bias_term: false } }
"""


def permissive():
    return net_of(TEXT % "PERMISSIVE", FLAT_SHAPE, TALL_SHAPE)


def numbered(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


def test_a_user_of_another_shape_sees_the_owners_numbers():
    net = permissive()
    weight = net.layer_params("flat")[0]
    assert weight.shape == (4, 6)
    assert net.layer_params("tall")[0] is weight
    assert net.module("tall").param("weight").shape == (4, 2, 3, 1)
    assert [p.shape for p in net.spec.layer("tall").params] == [(4, 2, 3, 1)]
    x = numbered(*FLAT_SHAPE)
    blobs = net({"b0": x, "b1": x.reshape(TALL_SHAPE)})
    torch.testing.assert_close(blobs["z"].flatten(1), blobs["y"])
    with torch.no_grad():
        weight.fill_(1)
    blobs = net({"b0": x, "b1": x.reshape(TALL_SHAPE)})
    assert blobs["z"].flatten().tolist() == [21] * 4 + [57] * 4


def test_the_diffs_of_all_users_add_up_in_the_owner():
    net = permissive()
    x, z = numbered(*FLAT_SHAPE), 100 * numbered(*TALL_SHAPE)
    blobs = net({"b0": x, "b1": z})
    (blobs["y"].sum() + blobs["z"].sum()).backward()
    expected = (x.sum(0) + z.reshape(FLAT_SHAPE).sum(0)).expand(4, 6)
    torch.testing.assert_close(net.layer_params("flat")[0].grad, expected)


def test_gradients_reach_the_owner():
    net = permissive().double()
    weight = net.layer_params("flat")[0]
    x = numbered(*FLAT_SHAPE).double() / 10

    def run(_):
        blobs = net({"b0": x, "b1": x.reshape(TALL_SHAPE)})
        return blobs["y"].sum() + blobs["z"].square().sum()

    assert torch.autograd.gradcheck(run, (weight,))


def test_each_layer_is_stored_and_loaded_in_its_own_shape():
    net = permissive()
    stored = {layer.name: layer for layer in net.stored_layers()}
    assert stored["flat"].blobs[0].data.shape == (4, 6)
    assert stored["tall"].blobs[0].data.shape == (4, 2, 3, 1)
    numbers = np.arange(24, dtype=np.float32)
    net.load_stored([
        StoredLayer("flat", "InnerProduct", (StoredBlob(np.zeros((4, 6), np.float32)),)),
        StoredLayer("tall", "Convolution", (StoredBlob(numbers.reshape(4, 2, 3, 1)),)),
    ])  # fmt: skip
    # the last copy read wins
    assert net.layer_params("flat")[0].flatten().tolist() == numbers.tolist()


def test_it_follows_the_owner_into_another_type():
    net = permissive().to(torch.float64)
    assert net.module("tall").param("weight").dtype == torch.float64


def test_strict_sharing_wants_equal_shapes():
    with pytest.raises(LayerError, match=r"shape \(4, 2, 3, 1\) here and \(4, 6\) in its"):
        net_of(TEXT % "STRICT", FLAT_SHAPE, TALL_SHAPE)


def test_permissive_sharing_wants_equal_counts():
    with pytest.raises(LayerError, match="expected the same count"):
        net_of(TEXT % "PERMISSIVE", (2, 5), TALL_SHAPE)
