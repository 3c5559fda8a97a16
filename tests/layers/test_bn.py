import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "BN" bottom: "b0" {} bn_param {{ {} }}'
FILLERS = "scale_filler { value: 3 } shift_filler { value: -1 }"


def test_a_batch_normalizes_in_either_phase():
    x = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 6.0]]]])  # mean 3, squares 4 1 0 9
    for phase in ("TRAIN", "TEST"):
        module = layer(TEXT.format('top: "y"', FILLERS), (2, 1, 1, 2), phase=phase)
        (y,) = module(x)
        torch.testing.assert_close(y, (x - 3) / 3.5**0.5 * 3 - 1)


def test_mean_and_variance_are_further_tops():
    module = layer(TEXT.format('top: "y" top: "m" top: "v"', FILLERS), (2, 1, 1, 2))
    _, mean, variance = module(torch.tensor([[[[1.0, 2.0]]], [[[3.0, 6.0]]]]))
    assert mean.tolist() == [[[[3]]]]
    assert variance.tolist() == [[[[3.5]]]]


def test_inference_only_scales_and_shifts():
    module = layer(TEXT.format('top: "y"', FILLERS + " bn_mode: INFERENCE"), (2, 3, 1, 2))
    assert [(p.name, p.shape) for p in module.spec.params] == [
        ("scale", (1, 3, 1, 1)),
        ("shift", (1, 3, 1, 1)),
    ]
    (y,) = module(torch.full((2, 3, 1, 2), 2.0))
    assert y.unique().tolist() == [5]


@pytest.mark.parametrize("mode", ["LEARN", "INFERENCE"])
def test_gradients(mode):
    module = layer(TEXT.format('top: "y"', f"{FILLERS} bn_mode: {mode}"), (2, 3, 2, 2))
    check_gradients(module, torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1)))


def test_inference_has_no_statistics_to_show():
    with pytest.raises(LayerError, match="INFERENCE computes none"):
        layer(TEXT.format('top: "y" top: "m"', "bn_mode: INFERENCE"), (2, 3, 2, 2))
