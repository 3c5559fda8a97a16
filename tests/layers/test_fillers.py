"""How parameters start: ranges, variances, and what is refused."""

import pytest
import torch
from torch.testing import assert_close

from caffe_port.errors import LayerError
from caffe_port.layers.fillers import fill
from caffe_port.proto import caffe_pb2
from tests.layers.helpers import layer

SHAPE = (40, 30, 5, 5)
IN, OUT = 30 * 25, 40 * 25


def filled(shape, **options):
    torch.manual_seed(3)
    blob = torch.full(shape, float("nan"))
    fill(blob, caffe_pb2.FillerParameter(**options))
    assert blob.isfinite().all()
    return blob


def test_constants():
    blob = torch.ones(3)
    fill(blob, None)
    assert_close(blob, torch.zeros(3))
    assert_close(filled((3,), type="constant", value=2.5), torch.full((3,), 2.5))
    assert_close(filled((3,)), torch.zeros(3))


def test_uniform():
    blob = filled(SHAPE, type="uniform", min=-2, max=1)
    assert -2 <= blob.min() < -1.99
    assert 0.99 < blob.max() <= 1
    assert abs(blob.mean() + 0.5) < 0.02


def test_gaussian():
    blob = filled(SHAPE, type="gaussian", mean=3, std=0.5)
    assert abs(blob.mean() - 3) < 0.02
    assert abs(blob.std() - 0.5) < 0.02
    assert_close(filled((2, 2), type="gaussian", mean=1, std=0), torch.ones(2, 2))


def test_sparse_gaussian_leaves_so_many_per_output():
    blob = filled(SHAPE, type="gaussian", std=1, sparse=4)
    assert abs((blob != 0).float().mean() - 4 / 40) < 0.01


NORMS = [(0, IN), (1, OUT), (2, (IN + OUT) / 2)]


@pytest.mark.parametrize(("norm", "fan"), NORMS, ids=["in", "out", "average"])
def test_xavier_and_msra_scale_with_the_fan(norm, fan):
    xavier = filled(SHAPE, type="xavier", variance_norm=norm)
    limit = (3 / fan) ** 0.5
    assert 0.99 * limit < xavier.abs().max() <= limit * 1.000001
    msra = filled(SHAPE, type="msra", variance_norm=norm)
    assert abs(msra.std() / (2 / fan) ** 0.5 - 1) < 0.02


def test_one_axis_has_fans_too():
    # Caffe: count / num is 1, count / channels is the count
    assert filled((50,), type="xavier").abs().max() > 1.5
    assert filled((50,), type="xavier", variance_norm=1).abs().max() <= (3 / 50) ** 0.5


def test_positive_unitball():
    blob = filled((4, 3, 2), type="positive_unitball")
    assert blob.min() >= 0
    assert_close(blob.flatten(1).sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("size", "ramp"), [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1, 0.5]), (1, [1.0])]
)
def test_bilinear(size, ramp):
    row = torch.tensor(ramp)
    wanted = (row[:, None] * row[None, :]).expand(2, 3, size, size)
    assert_close(filled((2, 3, size, size), type="bilinear"), wanted)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, 2), {"type": "magic"}, "unknown filler 'magic'"),
        ((2, 2), {"type": "bilinear"}, "square 4-D filters, found \\(2, 2\\)"),
        ((1, 1, 2, 3), {"type": "bilinear"}, "square 4-D"),
        ((2,), {"type": "gaussian", "std": -1}, "std -1.0; expected 0 or more"),
        ((2,), {"type": "gaussian", "std": float("nan")}, "std nan"),
        ((2,), {"type": "uniform", "min": float("-inf"), "max": 0}, "from -inf to 0.0"),
        ((2,), {"type": "uniform", "min": 1, "max": 0}, "from 1.0 to 0.0"),
    ],
)
def test_refused_arguments(shape, options, words):
    with pytest.raises(ValueError, match=words):
        filled(shape, **options)


@pytest.mark.parametrize("type", ["xavier", "msra", "gaussian", "uniform", "positive_unitball"])
def test_a_parameter_without_elements(type):
    assert filled((2, 0, 3, 3), type=type).numel() == 0


@pytest.mark.parametrize("filler", ['type: "xavier"', 'type: "msra"', 'type: "gaussian" sparse: 2'])
def test_a_scalar_has_no_fans(filler):
    options = f"prelu_param {{ channel_shared: true filler {{ {filler} }} }}"
    with pytest.raises(LayerError, match=r"'op' \(PReLU\).*a scalar"):
        layer(f'type: "PReLU" bottom: "b0" top: "y" {options}', (1, 3))
