"""Where a blob's places lie in the image, against windows of one tap and known offsets."""

import numpy as np
import pytest

from caffe_port import load
from caffe_port.unravel.points import placements
from tests.goldens_dir import GOLDENS
from tests.unravel.nets import data, layer, make


def placed(net, blob, y, x, shapes=None):
    place = placements(net.spec, shapes or {})[blob]
    return place.of(np.array([[0, y, x]], np.int32))[0].tolist()


@pytest.mark.parametrize(
    ("type", "options", "want"),
    [
        ("Convolution", "convolution_param { num_output: 1 kernel_size: 3 stride: 2 }", [3, 5]),
        ("Convolution", "convolution_param { num_output: 1 kernel_size: 3 pad: 1 }", [1, 2]),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 3 dilation: 2 pad: 1 }",
            [2, 3],
        ),
        ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", [2.5, 4.5]),
        ("Interp", "interp_param { zoom_factor: 2 }", [0.5, 1]),
        ("ReLU", "", [1, 2]),
        ("Deconvolution", "convolution_param { num_output: 1 kernel_size: 4 stride: 2 pad: 1 }",
         [0.25, 0.75]),
    ],
)  # fmt: skip
def test_one_layer(type, options, want):
    net = make(data(1, 1, 9, 9) + layer(type, options))
    assert placed(net, "out", 1, 2) == pytest.approx(want)


def test_fcn_alexnet_is_aligned_with_its_input():
    # pad 100 in front, cut off again at the end: the score's places are the image's
    net = load(GOLDENS / "nets" / "bvlc_fcn_alexnet" / "net.prototxt")
    assert placed(net, "score", 0, 0) == pytest.approx([0, 0], abs=0.5)
    assert placed(net, "score", 40, 60) == pytest.approx([40, 60], abs=0.5)
    # conv1's window of 11 starts 100 pixels outside
    assert placed(net, "conv1", 25, 0) == [5, -95]


def test_blobs_that_are_not_maps_have_none():
    net = make(data(1, 1, 3, 3) + layer("Flatten"))
    assert set(placements(net.spec, {})) == {"data"}
