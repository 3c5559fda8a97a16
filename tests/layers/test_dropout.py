"""Dropout: the mask of training."""

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

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
