import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

ONE = 'type: "Bias" bottom: "b0" top: "y" bias_param {{ {} }}'
TWO = 'type: "Bias" bottom: "b0" bottom: "b1" top: "y" bias_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "shape", "spread"),
    [
        ("", (3,), (1, 3, 1)),
        ("num_axes: -1", (3, 4), (1, 3, 4)),
        ("axis: -1", (4,), (1, 1, 4)),
        ("num_axes: 0", (), (1, 1, 1)),
        ("axis: 0 num_axes: 2", (2, 3), (2, 3, 1)),
    ],
)
def test_axes_of_a_learned_bias(options, shape, spread):
    module = layer(ONE.format(options), (2, 3, 4))
    assert [(p.name, p.shape) for p in module.spec.params] == [("bias", shape)]
    values = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)
    with torch.no_grad():
        module.get_parameter("bias").copy_(values)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(x)[0], x + values.reshape(spread))
    check_gradients(module, x)


def test_a_second_bottom_is_the_bias():
    module = layer(TWO.format("axis: 0"), (2, 3, 4), (2, 3))
    x, bias = torch.ones(2, 3, 4), torch.arange(6.0).reshape(2, 3)
    assert module.spec.params == ()
    assert torch.equal(module(x, bias)[0], 1 + bias[..., None].expand(2, 3, 4))
    check_gradients(module, x, bias, wrt=(0, 1))


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (ONE.format("num_axes: 3"), [(2, 3, 4)], "3 axes from axis 1 on"),
        (ONE.format("num_axes: -5"), [(2, 3, 4)], "num_axes is -5"),
        (TWO.format(""), [(2, 3, 4), (3, 5)], "does not fit a bottom of shape"),
    ],
)
def test_what_does_not_fit_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)
