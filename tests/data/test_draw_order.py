"""Who draws when, in a net built under a generator."""

from __future__ import annotations

import numpy as np
import torch

from caffe_port.data.rng import CaffeRandom, bernoulli, normal, seeded, uniform
from tests.layers.helpers import net_of

PRODUCT = (
    'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} '
    'inner_product_param {{ num_output: 3 weight_filler {{ type: "{filler}" }} '
    'bias_filler {{ type: "uniform" }} }} }} '
)
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "two" top: "y" } '


def product(name, bottom, filler, param=""):
    return PRODUCT.format(name=name, bottom=bottom, filler=filler, param=param)


def parameters(net, layer):
    return [blob.detach().numpy().ravel() for blob in net.layer_params(layer)]


def test_fillers_draw_layer_by_layer_and_dropout_at_every_pass():
    text = product("one", "b0", "gaussian") + product("two", "one", "uniform") + DROPOUT
    with seeded(CaffeRandom(4)):
        net = net_of(text, (2, 5), phase="TRAIN")
    random = CaffeRandom(4)
    want = [normal(random, 15, 0, 1), uniform(random, 3, 0, 1)]
    want += [uniform(random, 9, 0, 1), uniform(random, 3, 0, 1)]
    for got, values in zip(parameters(net, "one") + parameters(net, "two"), want, strict=True):
        np.testing.assert_array_equal(got, values)
    for _ in range(2):
        blobs = net({"b0": torch.rand(2, 5)}, keep="all")
        kept = (blobs["y"] != 0).numpy().ravel()
        np.testing.assert_array_equal(
            kept, bernoulli(random, 6, 0.5) & (blobs["two"] != 0).numpy().ravel()
        )


def test_a_layer_that_shares_its_weights_draws_too_in_vain():
    shared = 'param { name: "w" }'
    text = product("one", "b0", "uniform", shared) + product("two", "b0", "uniform", shared)
    with seeded(CaffeRandom(4)) as thread:
        net = net_of(text, (2, 3))
    random = CaffeRandom(4)
    one = [uniform(random, 9, 0, 1), uniform(random, 3, 0, 1)]
    uniform(random, 9, 0, 1)
    for got, values in zip(parameters(net, "one"), one, strict=True):
        np.testing.assert_array_equal(got, values)
    np.testing.assert_array_equal(parameters(net, "two")[0], one[0])
    np.testing.assert_array_equal(parameters(net, "two")[1], uniform(random, 3, 0, 1))
    assert thread.draw() == random.draw()


def test_testing_draws_no_mask_and_nets_outside_draw_nothing():
    text = product("two", "b0", "constant") + DROPOUT
    with seeded(CaffeRandom(4)) as thread:
        net = net_of(text, (2, 3), phase="TEST")
        before = thread.draw()
    net({"b0": torch.rand(2, 3)})
    net_of(text, (2, 3), phase="TRAIN")({"b0": torch.rand(2, 3)})
    random = CaffeRandom(4)
    uniform(random, 3, 0, 1)
    assert before == random.draw()
    assert thread.draw() == random.draw()


def test_a_seeded_mask_goes_where_the_bottom_is():
    with seeded(CaffeRandom(4)):
        net = net_of(DROPOUT.replace('"two"', '"b0"'), (4, 50), phase="TRAIN").double()
    x = torch.ones(4, 50, dtype=torch.float64, requires_grad=True)
    (y,) = net.module("drop")(x)
    assert y.dtype == torch.float64
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
