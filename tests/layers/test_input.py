"""Input."""

import pytest
import torch

from caffe_port.errors import LayerError, UsageError
from tests.layers.helpers import layer, net_of

TWO = 'layer { name: "i" type: "Input" top: "a" top: "b" input_param { %s } }'
READ = ' layer { name: "s" type: "Silence" bottom: "a" bottom: "b" }'


def test_one_shape_for_all_or_one_each():
    assert net_of(TWO % "shape { dim: 2 dim: 3 }").spec.shapes == {"a": (2, 3), "b": (2, 3)}
    each = net_of(TWO % "shape { dim: 2 } shape { dim: 4 }").spec.shapes
    assert each == {"a": (2,), "b": (4,)}


def test_data_must_be_given():
    net = net_of(TWO % "shape { dim: 2 }" + READ)
    with pytest.raises(UsageError, match="inputs b"):
        net({"a": torch.rand(2)})
    with pytest.raises(LayerError, match="no data given for 'x'"):
        layer('type: "Input" top: "x" input_param { shape { dim: 1 } }')()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("", "no shape is given"),
        ("shape { dim: 1 } shape { dim: 1 } shape { dim: 1 }", "3 shapes for 2 tops"),
        ("shape { dim: -1 }", "negative axis"),
    ],
)
def test_what_it_refuses(shapes, message):
    with pytest.raises(LayerError, match=message):
        net_of(TWO % shapes)
