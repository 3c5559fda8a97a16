import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

ONE = 'type: "Scale" bottom: "b0" top: "y" scale_param {{ {} }}'
TWO = 'type: "Scale" bottom: "b0" bottom: "b1" top: "y" scale_param {{ {} }}'


def fill(module, name, values):
    with torch.no_grad():
        module.get_parameter(name).copy_(torch.as_tensor(values))


def numbered(*shape):
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


@pytest.mark.parametrize(
    ("options", "shape", "equation"),
    [
        ("", (3,), "nchw,c->nchw"),
        ("axis: 0", (2,), "nchw,n->nchw"),
        ("axis: 1 num_axes: 2", (3, 4), "nchw,ch->nchw"),
        ("axis: -2 num_axes: 1", (4,), "nchw,h->nchw"),
        ("axis: 1 num_axes: -1", (3, 4, 5), "nchw,chw->nchw"),
        ("axis: 0 num_axes: -1", (2, 3, 4, 5), "nchw,nchw->nchw"),
        ("axis: 2 num_axes: 0", (), "nchw,->nchw"),
    ],
)
def test_axes_of_a_learned_scale(options, shape, equation):
    module = layer(ONE.format(options), (2, 3, 4, 5))
    assert [p.shape for p in module.spec.params] == [shape]
    assert bool((module.param("weight") == 1).all())
    fill(module, "weight", numbered(*shape))
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x)[0], torch.einsum(equation, x, numbered(*shape)))
    check_gradients(module, x)


def test_a_scalar_scale_needs_the_axis_only_for_its_bias():
    scaled = layer(TWO.format("axis: 1"), (2,), ())
    assert scaled(torch.ones(2), torch.tensor(3.0))[0].tolist() == [3, 3]
    with pytest.raises(LayerError, match="axis 1 is outside"):
        layer(TWO.format("axis: 1 bias_term: true"), (2,), ())


def test_the_bias_has_the_scales_shape_and_starts_at_zero():
    module = layer(ONE.format("axis: 1 num_axes: 2 bias_term: true"), (2, 3, 4))
    assert [(p.name, p.shape) for p in module.spec.params] == [("weight", (3, 4)), ("bias", (3, 4))]
    x = numbered(2, 3, 4)
    assert torch.equal(module(x)[0], x)
    fill(module, "bias", numbered(3, 4))
    assert torch.equal(module(x)[0], x + numbered(3, 4))
    check_gradients(module, x)


@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 3)), (1, (3,)), (1, ()), (2, (4,))])
def test_a_second_bottom_is_the_scale(axis, shape):
    module = layer(TWO.format(f"axis: {axis}"), (2, 3, 4), shape)
    assert module.spec.params == ()
    x, scale = numbered(2, 3, 4), numbered(*shape)
    padded = scale.reshape(shape + (1,) * (3 - axis - len(shape))) if shape else scale
    assert torch.equal(module(x, scale)[0], x * padded)
    check_gradients(module, x, scale, wrt=(0, 1))


def test_a_second_bottom_with_a_bias():
    module = layer(TWO.format("bias_term: true bias_filler { value: 3 }"), (2, 3), (3,))
    assert [(p.name, p.shape) for p in module.spec.params] == [("bias", (3,))]
    x, scale = numbered(2, 3), numbered(3)
    assert torch.equal(module(x, scale)[0], x * scale + 3)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (ONE.format("num_axes: 4"), [(2, 3, 4)], "4 axes from axis 1 on"),
        (ONE.format("num_axes: -2"), [(2, 3, 4)], "num_axes is -2"),
        (ONE.format("axis: 3"), [(2, 3, 4)], "axis 3"),
        (TWO.format(""), [(2, 3, 4), (4,)], "does not fit a bottom of shape"),
        (TWO.format("axis: 2"), [(2, 3, 4), (4, 1)], "does not fit a bottom of shape"),
    ],
)
def test_what_does_not_fit_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)


SHARED = """
layer { name: "a" type: "Scale" bottom: "b0" top: "ya" param { name: "s" } }
layer { name: "b" type: "Scale" bottom: "b1" top: "yb" param { name: "s" } }
"""


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3, 2), lambda x, z: (x + z).sum((0, 2))),
        ((1, 3, 2), lambda x, z: x.sum((0, 2))),  # set, not added to: the owner's comes last
        ((1, 1, 2), lambda x, z: (x + z).sum((0, 2))),
        ((1, 1, 1), lambda x, z: x.sum((0, 2))),
    ],
)
def test_a_shared_scale_of_one_item_keeps_the_owners_diff_only(shape, expected):
    net = net_of(SHARED, shape, shape)
    x, z = numbered(*shape), 100 * numbered(*shape)
    blobs = net({"b0": x, "b1": z})
    (blobs["ya"] + blobs["yb"]).sum().backward()
    assert torch.equal(net.layer_params("a")[0].grad, expected(x, z))
