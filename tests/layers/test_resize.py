"""ResizeBilinear, ResizeNearestNeighbor and the variants of Interp, by loops after their forks."""

import math

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

X = (2, 3, 5, 7)


def draw(shape=X, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ratio(size, wanted, aligned):
    return (size - 1) / (wanted - 1) if aligned and wanted > 1 else size / wanted


def bilinear(x, height, width, aligned):
    top = np.zeros((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        y, z = i * ratio(x.shape[2], height, aligned), j * ratio(x.shape[3], width, aligned)
        rows = [math.floor(y), min(math.ceil(y), x.shape[2] - 1)]
        columns = [math.floor(z), min(math.ceil(z), x.shape[3] - 1)]
        above, below = (
            x[..., r, columns[0]] * (1 - z % 1) + x[..., r, columns[1]] * (z % 1) for r in rows
        )
        top[..., i, j] = above * (1 - y % 1) + below * (y % 1)
    return top


def nearest(x, height, width, flag):
    def place(i, size, wanted):
        scale = ratio(size, wanted, flag == "align_corners")
        at = {"align_corners": math.floor(i * scale + 0.5), "": math.floor(i * scale),
              "half_pixel_centers": math.floor((i + 0.5) * scale),
              "half_pixel_onnx": math.floor((i + 0.5) * scale - 0.5)}[flag]  # fmt: skip
        return max(min(at, size - 1), 0)

    rows = [place(i, x.shape[2], height) for i in range(height)]
    columns = [place(j, x.shape[3], width) for j in range(width)]
    return x[:, :, rows][..., columns]


def resize(type, options, shape=X):
    block = {"ResizeBilinear": "resize_bilinear_param",
             "ResizeNearestNeighbor": "resize_nearest_neighbor_param"}[type]  # fmt: skip
    return layer(f'type: "{type}" bottom: "b0" top: "y" {block} {{ {options} }}', shape)


@pytest.mark.parametrize("size", [(8, 9), (3, 4), (5, 7), (1, 1)])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_bilinear(size, aligned, layout):
    options = f'align_corners: {str(aligned).lower()} data_format: "{layout}" '
    options += f"output_height: {size[0]} output_width: {size[1]}"
    x = draw()
    given = x if layout == "NCHW" else x.permute(0, 2, 3, 1).contiguous()
    made = resize("ResizeBilinear", options, tuple(given.shape))
    (y,) = made(given)
    found = y if layout == "NCHW" else y.permute(0, 3, 1, 2)
    wanted = bilinear(x.double().numpy(), *size, aligned)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=2e-6)
    check_gradients(made, given)


@pytest.mark.parametrize("size", [(10, 14), (8, 9), (3, 4)])
@pytest.mark.parametrize("flag", ["", "align_corners", "half_pixel_centers", "half_pixel_onnx"])
def test_nearest(size, flag):
    options = f'data_format: "NCHW" output_height: {size[0]} output_width: {size[1]}'
    options += f" {flag}: true" if flag else ""
    x = draw()
    made = resize("ResizeNearestNeighbor", options)
    assert np.array_equal(made(x)[0].numpy(), nearest(x.numpy(), *size, flag))


def test_sizes_from_factors():
    made = resize("ResizeNearestNeighbor", 'data_format: "NCHW" scale_height: 1.5 scale_width: 2')
    assert made.spec.top_shapes == ((2, 3, 7, 14),)


@pytest.mark.parametrize(
    ("type", "options", "message"),
    [
        ("ResizeBilinear", "output_height: 3", "no size"),
        ("ResizeBilinear", "output_height: 3 output_width: 0", "the size is"),
        ("ResizeBilinear", 'output_height: 3 output_width: 3 data_format: "CHWN"', "CHWN"),
        ("ResizeBilinear", "output_height: 3 output_width: 3 half_pixel_onnx: true", "at most one"),
        (
            "ResizeNearestNeighbor",
            "output_height: 3 output_width: 3 align_corners: true half_pixel_centers: true",
            "at most one",
        ),
    ],
)
def test_wrong_options_are_refused(type, options, message):
    with pytest.raises(LayerError, match=message):
        resize(type, options)


TWO = 'type: "Interp" bottom: "b0" bottom: "b1" top: "y" interp_param {{ {} }}'


def test_interp_to_the_size_of_a_second_bottom():
    made = layer(TWO.format("pad_beg: -1"), X, (1, 9, 11, 8))
    sized = layer('type: "Interp" bottom: "b0" top: "y" interp_param { height: 11 width: 8 '
                  "pad_beg: -1 }", X)  # fmt: skip
    assert torch.equal(made(draw(), draw((1, 9, 11, 8)))[0], sized(draw())[0])
    with pytest.raises(LayerError, match="a second bottom and a factor or size"):
        layer(TWO.format("zoom_factor: 2"), X, (1, 9, 11, 8))


def test_interps_nearest_neighbour_is_opencvs():
    options = "type: NearestNeighbor height: 8 width: 9"
    made = layer(f'type: "Interp" bottom: "b0" top: "y" interp_param {{ {options} }}', X)
    assert np.array_equal(made(draw())[0].numpy(), nearest(draw().numpy(), 8, 9, ""))
