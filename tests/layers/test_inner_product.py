import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "InnerProduct" bottom: "b0" top: "y" inner_product_param {{ num_output: 4 {} }}'


def built(options, *shape):
    module = layer(TEXT.format(options), shape).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    return module, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "weight", "top"),
    [
        ("", (4, 30), (2, 4)),
        ("axis: 2", (4, 10), (2, 3, 4)),
        ("axis: -1", (4, 5), (2, 3, 2, 4)),
        ("axis: 0", (4, 60), (4,)),
        ("transpose: true", (30, 4), (2, 4)),
        ("bias_term: false", (4, 30), (2, 4)),
    ],
)
def test_shapes_and_values(options, weight, top):
    module, x = built(options, 2, 3, 2, 5)
    assert module.spec.params[0].shape == weight
    assert module.spec.top_shapes == (top,)
    w = module.param("weight").t() if "transpose" in options else module.param("weight")
    expected = (x.reshape(-1, w.shape[1]) @ w.t()).reshape(top)
    if "false" not in options:
        expected = expected + module.param("bias")
    torch.testing.assert_close(module(x)[0], expected)
    check_gradients(module, x)


def test_multiply_adds():
    assert built("", 2, 3, 2, 5)[0].spec.multiply_adds == 2 * 30 * 4


def test_num_output_is_needed():
    with pytest.raises(LayerError, match="num_output"):
        layer('type: "InnerProduct" bottom: "b0" top: "y"', (2, 3))


def test_an_axis_outside_is_refused():
    with pytest.raises(LayerError, match="axis 2 is outside"):
        layer(TEXT.format("axis: 2"), (2, 3))
