"""Depthwise convolutions, ReLU6, Axpy and SpatialDropout, next to BVLC's layers that equal them."""

import pytest
import torch

from caffe_port.data import rng
from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

X = (2, 3, 6, 7)
DEPTHWISE = (
    'type: "{}" bottom: "b0" top: "y" convolution_param {{ {} weight_filler {{ type: "xavier" }} }}'
)
WINDOW = "kernel_size: 3 stride: 2 pad: 1 dilation: 2 bias_filler { value: 2 }"


def draw(shape=X, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("type", "more"),
    [("DepthwiseConvolution", "num_output: 6 group: 3"), ("ConvolutionDepthwise", "num_output: 3"),
     ("ConvolutionDepthwise", ""), ("ConvolutionDepthwise", "num_output: 9 group: 9")],
)  # fmt: skip
def test_depthwise_layers_are_convolutions_of_one_group_per_channel(type, more):
    made = layer(DEPTHWISE.format(type, f"{WINDOW} {more}"), X)
    outputs = 6 if type.startswith("Depth") else 3
    plain = layer(DEPTHWISE.format("Convolution", f"{WINDOW} num_output: {outputs} group: 3"), X)
    plain.load_state_dict(made.state_dict())
    assert made.param("weight").shape == (outputs, 1, 3, 3)
    x = draw()
    assert torch.equal(made(x)[0], plain(x)[0])
    assert made.spec.op.multiply_adds([X], made.spec.top_shapes) == plain.spec.op.multiply_adds(
        [X], plain.spec.top_shapes
    )
    check_gradients(made, x)


def test_a_depthwise_convolution_needs_its_groups():
    with pytest.raises(LayerError, match="group is 1, for 3 channels"):
        layer(DEPTHWISE.format("DepthwiseConvolution", f"{WINDOW} num_output: 3"), X)


def test_relu6_has_no_diff_at_its_ends():
    made = layer('type: "ReLU6" bottom: "b0" top: "y"', (1, 6))
    x = torch.tensor([[-1.0, 0, 2, 5, 6, 7]], requires_grad=True)
    (y,) = made(x)
    assert y.tolist() == [[0, 0, 2, 5, 6, 6]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("scale", [(2, 3), (2, 3, 1, 1)])
def test_axpy_is_scale_and_eltwise(scale):
    made = layer('type: "Axpy" bottom: "b0" bottom: "b1" bottom: "b2" top: "y"', scale, X, X)
    a, x, y = draw(scale, 2), draw(), draw(X, 3)
    text = (
        'layer { name: "s" type: "Scale" bottom: "b0" bottom: "b1" top: "s" '
        "scale_param { axis: 0 } }"
        'layer { name: "e" type: "Eltwise" bottom: "s" bottom: "b2" top: "y" }'
    )
    flat = net_of(text, X, (2, 3), X)
    wanted = flat({"b0": x, "b1": a.reshape(2, 3), "b2": y})["y"]
    torch.testing.assert_close(made(a, x, y)[0], wanted)
    check_gradients(made, a, x, y, wrt=(0, 1, 2))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 4), X, X), "a scale of shape"),
        (((2, 3, 6, 7), X, X), "a scale of shape"),
        (((2, 3), X, (2, 3, 6, 6)), "bottom 2 has shape"),
    ],
)
def test_axpys_shapes(shapes, message):
    with pytest.raises(LayerError, match=message):
        layer('type: "Axpy" bottom: "b0" bottom: "b1" bottom: "b2" top: "y"', *shapes)


@pytest.mark.parametrize("block", ["spatial_dropout_param", "dropout_param"])
def test_spatial_dropout_drops_channels_of_items(block):
    text = f'type: "SpatialDropout" bottom: "b0" top: "y" {block} {{ dropout_ratio: 0.25 }}'
    shape = (40, 50, 2, 3)
    made = layer(text, shape, phase="TRAIN")
    (y,) = made(torch.ones(shape))
    values = y.flatten(2)
    assert torch.equal(values.amin(2), values.amax(2))
    kept = values[..., 0] != 0
    assert values[..., 0][kept].unique().tolist() == [pytest.approx(1 / 0.75)]
    assert 0.7 < kept.float().mean() < 0.8
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(layer(text, shape)(torch.ones(shape))[0], torch.ones(shape))


def test_spatial_dropout_draws_from_caffes_generator():
    text = 'type: "SpatialDropout" bottom: "b0" top: "y"'
    flat = 'type: "Dropout" bottom: "b0" top: "y"'
    with rng.seeded(rng.CaffeRandom(7)):
        made = layer(text, (4, 5, 2, 2), phase="TRAIN")
    with rng.seeded(rng.CaffeRandom(7)):
        plain = layer(flat, (4, 5), phase="TRAIN")
    (y,), (wanted,) = made(torch.ones(4, 5, 2, 2)), plain(torch.ones(4, 5))
    assert torch.equal(y[..., 0, 0], wanted)
