"""Dropout: the mask of training."""

import numpy as np
import pytest
import torch

from caffe_port.data import rng
from caffe_port.errors import LayerError
from tests.layers.helpers import layer, net_of

TEXT = 'type: "Dropout" bottom: "b0" top: "y" dropout_param {{ dropout_ratio: {} }}'


def test_testing_is_the_identity():
    x = torch.rand(3, 4)
    assert torch.equal(layer(TEXT.format(0.3), (3, 4))(x)[0], x)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_training_keeps_a_share_and_scales_it(ratio):
    torch.manual_seed(3)
    x = torch.rand(200, 500) + 0.5
    (y,) = layer(TEXT.format(ratio), x.shape, phase="TRAIN")(x)
    kept = y != 0
    scaled = x * (1 / (1 - float(np.float32(ratio))))
    assert torch.allclose(y[kept], scaled[kept], rtol=2e-7, atol=0)
    deviation = (ratio * (1 - ratio) / x.numel()) ** 0.5
    assert abs(kept.float().mean().item() - (1 - ratio)) < 5 * deviation


def test_each_pass_draws_again_and_the_diff_has_the_same_mask():
    module = layer(TEXT.format(0.5), (50, 50), phase="TRAIN")
    x = torch.ones(50, 50, requires_grad=True)
    (first,), (second,) = module(x), module(x)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_what_it_refuses(ratio):
    with pytest.raises(LayerError, match="dropout_ratio"):
        layer(TEXT.format(ratio), (2, 2))


SAMPLED = TEXT.replace("}}", "sample_weights_test: true }}")
UNSCALED = TEXT.replace("}}", "scale_train: false }}")


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_bayesian_segnet_drops_in_both_phases(phase):
    """caffe-segnet dropout_layer.cpp: the mask of training wherever sample_weights_test is set."""
    x = torch.rand(50, 50) + 0.5
    with rng.seeded(rng.CaffeRandom(3)):
        module = layer(SAMPLED.format(0.25), x.shape, phase=phase)
    with rng.seeded(rng.CaffeRandom(3)):
        plain = layer(TEXT.format(0.25), x.shape, phase="TRAIN")
    first, second = module(x)[0], module(x)[0]
    assert torch.equal(first, plain(x)[0])
    assert torch.equal(second, plain(x)[0])
    assert not torch.equal(first, second)


def test_faster_rcnn_scales_in_testing():
    """caffe-fast-rcnn dropout_layer.cpp: TEST multiplies by 1 / scale_, scale_ in float32."""
    x = torch.rand(40, 50)
    (y,) = layer(UNSCALED.format(0.3), x.shape)(x)
    scale = np.float32(1 / (1 - float(np.float32(0.3))))
    assert torch.equal(y, x * torch.tensor(np.float32(1.0 / float(scale))))
    with rng.seeded(rng.CaffeRandom(5)):
        module = layer(UNSCALED.format(0.3), x.shape, phase="TRAIN")
    (y,) = module(x)
    kept = y != 0
    assert 0.6 < kept.float().mean() < 0.8
    assert torch.equal(y[kept], x[kept])


@pytest.mark.parametrize("text", [SAMPLED, UNSCALED])
def test_the_fast_net_keeps_the_options(text):
    net = net_of(f'layer {{ name: "op" {text.format(0.5)} }}', (20, 20))
    found = net.optimized(engine="torch")({"b0": torch.ones(20, 20)})["y"]
    assert sorted(found.unique().tolist()) == ([0.0, 2.0] if text is SAMPLED else [0.5])
