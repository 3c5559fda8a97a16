"""Parameter: a learned blob."""

import torch

from tests.layers.helpers import layer, net_of

TEXT = 'type: "Parameter" top: "w" parameter_param { shape { dim: 2 dim: 3 } }'


def test_the_top_is_the_parameter_and_starts_as_zeros():
    net = net_of(f'layer {{ name: "p" {TEXT} }}')
    blobs = net({}, keep="all")
    assert torch.equal(blobs["w"], torch.zeros(2, 3))
    with torch.no_grad():
        net.layer_params("p")[0].fill_(2)
    assert net({})["w"].eq(2).all()
    assert list(net.state_dict()) == ["p.weight"]


def test_its_diff_is_the_parameters():
    text = f"""layer {{ name: "p" {TEXT} }}
      layer {{ name: "e" type: "Eltwise" bottom: "b0" bottom: "w" top: "y"
        eltwise_param {{ operation: PROD }} }}
      layer {{ name: "s" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }}"""
    net = net_of(text, (2, 3), phase="TRAIN")
    x = torch.rand(2, 3)
    blobs = net({"b0": x}, keep="all")
    blobs["loss"].backward()
    assert torch.equal(net.layer_params("p")[0].grad, x)
    assert torch.equal(blobs.diff("w"), x)


def test_without_a_shape_it_is_a_scalar():
    assert layer('type: "Parameter" top: "w"')()[0].shape == ()


def test_a_rate_of_0_freezes_it():
    (w,) = layer(TEXT + " param { lr_mult: 0 }")()
    assert not w.requires_grad


def test_shared_by_count_it_has_its_own_shape():
    text = """layer {{ name: "{0}" type: "Parameter" top: "{0}"
      param {{ name: "w" share_mode: PERMISSIVE }} parameter_param {{ shape {{ {1} }} }} }}"""
    net = net_of(text.format("p", "dim: 2 dim: 3") + text.format("q", "dim: 6"))
    blobs = net({})
    assert (blobs["p"].shape, blobs["q"].shape) == ((2, 3), (6,))
