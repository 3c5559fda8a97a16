"""What is folded equals what the layers compute."""

import pytest
import torch

from caffe_port.inference.neurons import affine_of, fold
from tests.layers.helpers import layer

X = (2, 4, 3, 5)
FOLDED = {
    "BatchNorm": 'type: "BatchNorm" bottom: "b0" top: "y"',
    "Scale": 'type: "Scale" bottom: "b0" top: "y" scale_param { bias_term: true }',
    "Scale, no bias": 'type: "Scale" bottom: "b0" top: "y"',
    "Bias": 'type: "Bias" bottom: "b0" top: "y"',
    "NVCaffe's BatchNorm": (
        'type: "BatchNorm" bottom: "b0" top: "y" batch_norm_param { scale_bias: true }'
    ),
    "BN": 'type: "BN" bottom: "b0" top: "y" bn_param { bn_mode: INFERENCE }',
}
KEPT = {
    "statistics of the batch": (
        'type: "BatchNorm" bottom: "b0" top: "y" batch_norm_param { use_global_stats: false }'
    ),
    "a scale per pixel": 'type: "Scale" bottom: "b0" top: "y" scale_param { axis: 2 num_axes: 2 }',
    "a scale per element": (
        'type: "Scale" bottom: "b0" top: "y" scale_param { axis: 1 num_axes: -1 }'
    ),
    "a scale per item and channel": (
        'type: "Scale" bottom: "b0" top: "y" scale_param { axis: 0 num_axes: 2 }'
    ),
    "a bias per row": 'type: "Bias" bottom: "b0" top: "y" bias_param { axis: 2 }',
    "BN that learns": 'type: "BN" bottom: "b0" top: "y"',
    "another layer": 'type: "TanH" bottom: "b0" top: "y"',
}


def _randomized(text):
    made = layer(text, X).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for blob in made.parameters():
            blob.copy_(torch.rand(blob.shape, generator=generator, dtype=torch.float64) + 0.5)
    return made


@pytest.mark.parametrize("text", FOLDED.values(), ids=FOLDED.keys())
def test_an_affine_layer(text):
    made = _randomized(text)
    affine = affine_of(made)
    x = torch.randn(X, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    shape = (1, X[1], 1, 1)
    found = x * affine.scale.detach().reshape(shape) + affine.shift.detach().reshape(shape)
    with torch.no_grad():
        assert torch.allclose(found, made(x)[0], rtol=1e-12, atol=1e-12)


def test_a_factor_of_0_means_no_statistics():
    made = _randomized(FOLDED["BatchNorm"])
    with torch.no_grad():
        made.param("factor").zero_()
        affine = affine_of(made)
    assert torch.equal(affine.shift, torch.zeros(4, dtype=torch.float64))
    assert torch.allclose(affine.scale, torch.tensor(1e-5, dtype=torch.float64).rsqrt())


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT.keys())
def test_what_is_not_the_same_for_all_of_a_channel(text):
    assert affine_of(_randomized(text)) is None


def test_fold_without_affines_changes_nothing():
    weight = torch.randn(2, 3, 1, 1)
    assert fold(weight, None, []) == (weight, None)
