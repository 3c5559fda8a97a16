"""BiasChannel: labels of images and of pixels."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "BiasChannel" bottom: "b0" bottom: "b1" top: "y" bias_channel_param {{ {} }}'
ZEROS = torch.zeros(2, 4, 1, 3)


def run(labels, options="", dialect="deeplab2"):
    labels = torch.tensor(labels, dtype=torch.float32)
    text = TEXT.format(options)
    return layer(text, ZEROS.shape, labels.shape, dialect=dialect)(ZEROS, labels)[0][:, :, 0]


def test_image_labels_raise_whole_channels():
    y = run([[[[0]], [[2]]], [[[3]], [[-1]]]], "bg_bias: 0.5 fg_bias: 4")
    assert torch.equal(y, torch.tensor([[0.5, 0, 4, 0], [0, 0, 0, 4]])[..., None].expand(2, 4, 3))


def test_defaults_and_labels_named_twice():
    y = run([[0, 2, 2], [1, 7, -1]], "ignore_label: 7")
    assert y[:, :, 0].tolist() == [[1, 0, 4, 0], [0, 2, 0, 0]]


def test_pixel_labels_raise_their_channel():
    options = "label_type: PIXEL ignore_label: 255 fg_bias: 3"
    y = run([[[[0, 2, 255]]], [[[3, -1, 1]]]], options)
    wanted = torch.zeros(2, 4, 3)
    wanted[0, 0, 0] = wanted[0, 2, 1] = wanted[1, 3, 0] = wanted[1, 1, 2] = 3
    assert torch.equal(y, wanted)


@pytest.mark.parametrize("options", ["bg_bias: 0.5", "bg_bias: 0.5 background_label: 0"])
def test_with_a_background_every_counted_pixel_raises_it(options):
    options += " label_type: PIXEL ignore_label: 255 fg_bias: 3"
    y = run([[[[0, 2, 255]]], [[[3, -1, 1]]]], options)
    assert y[:, 0].tolist() == [[0.5, 0.5, 0], [0.5, 0, 0.5]]
    assert y[0, 2].tolist() == [0, 3, 0]


def test_the_background_may_be_another_label():
    y = run([[[[3, 0, 1]]]] * 2, "label_type: PIXEL background_label: 3")
    assert y[0].tolist() == [[0, 2, 0], [0, 0, 2], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("options", "labels"),
    [("", [[0.0, 2], [1, -1]]), ("label_type: PIXEL bg_bias: 1", [[[[0.0, 1, 2]]]] * 2)],
)
def test_the_diff_passes(options, labels):
    labels = torch.tensor(labels)
    module = layer(TEXT.format(options), ZEROS.shape, labels.shape)
    check_gradients(module, torch.rand(ZEROS.shape), labels)


@pytest.mark.parametrize("options", ["", "label_type: PIXEL"])
def test_a_label_outside_is_refused(options):
    labels = [[[[4, 0, 0]]]] * 2 if options else [[4], [0]]
    with pytest.raises(LayerError, match="label 4; expected 0 to 3"):
        run(labels, options)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("bg_bias: -1", (2, 1), "bg_bias is -1"),
        ("fg_bias: -1", (2, 1), "fg_bias is -1"),
        ("", (2, 1, 1, 3), "labels of shape"),
        ("label_type: PIXEL", (2, 1), "expected \\(2, 1, 1, 3\\)"),
        ("label_type: PIXEL background_label: 4", (2, 1, 1, 3), "background_label is 4"),
    ],
)
def test_what_it_refuses(options, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), ZEROS.shape, shape)
