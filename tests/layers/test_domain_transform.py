"""DomainTransform: against a loop, real sizes, limits of the weight."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = (
    'type: "DomainTransform" bottom: "b0" bottom: "b1" bottom: "b2" top: "y" '
    "domain_transform_param {{ {} }}"
)
SHAPES = (2, 3, 5, 6), (2, 1, 5, 6), (2, 1, 1, 2)
OPTIONS = "num_iter: 2 spatial_sigma: 8 range_sigma: 0.5"


def sizes(*pairs):
    return torch.tensor(pairs, dtype=torch.float32).reshape(-1, 1, 1, 2)


def slow(plane, gradient, iterations, spatial, range_, least=0.0):
    """The four passes over a plane, point by point."""
    out = [[float(v) for v in row] for row in plane]
    height, width = plane.shape
    for i in range(iterations):
        sigma = spatial * math.sqrt(3) * 2 ** (iterations - i - 1) / math.sqrt(4**iterations - 1)
        w = [
            [min(max(math.exp(-math.sqrt(2) / sigma * (1 + g * spatial / range_)), least), 1)
             for g in row] for row in gradient.tolist()
        ]  # fmt: skip
        for y in range(height):
            for x in range(1, width):
                out[y][x] += w[y][x] * (out[y][x - 1] - out[y][x])
            for x in range(width - 2, -1, -1):
                out[y][x] += w[y][x + 1] * (out[y][x + 1] - out[y][x])
        for x in range(width):
            for y in range(1, height):
                out[y][x] += w[y][x] * (out[y - 1][x] - out[y][x])
            for y in range(height - 2, -1, -1):
                out[y][x] += w[y + 1][x] * (out[y + 1][x] - out[y][x])
    return torch.tensor(out)


@pytest.mark.parametrize("least", [0.0, 0.4])
def test_against_a_loop_inside_the_real_size(least):
    x, g = torch.rand(SHAPES[0]), torch.rand(SHAPES[1])
    module = layer(TEXT.format(f"{OPTIONS} min_weight: {least}"), *SHAPES)
    (y,) = module(x, g, sizes((5, 6), (3, 4)))
    for n, (height, width) in enumerate(((5, 6), (3, 4))):
        for c in range(3):
            wanted = x[n, c].clone()
            wanted[:height, :width] = slow(
                x[n, c, :height, :width], g[n, 0, :height, :width], 2, 8, 0.5, least
            )
            assert torch.allclose(y[n, c], wanted, atol=1e-6)


def test_an_edge_stops_the_smoothing():
    x = torch.zeros(1, 1, 1, 8)
    x[..., 4:] = 1
    g = torch.zeros(1, 1, 1, 8)
    shapes = x.shape, g.shape, (1, 1, 1, 2)
    text = TEXT.format("num_iter: 3 spatial_sigma: 50 range_sigma: 5")
    (flat,) = layer(text, *shapes)(x, g, sizes((1, 8)))
    g[..., 4] = 1e3
    (edge,) = layer(text, *shapes)(x, g, sizes((1, 8)))
    assert torch.allclose(edge, x, atol=1e-6)
    assert (flat - x).abs().max() > 0.4


def test_an_empty_area_stays():
    x = torch.rand(SHAPES[0])
    (y,) = layer(TEXT.format(OPTIONS), *SHAPES)(x, torch.rand(SHAPES[1]), sizes((0, 6), (5, 0)))
    assert torch.equal(y, x)


def test_gradients_of_both_bottoms():
    shapes = (2, 2, 3, 4), (2, 1, 3, 4), (2, 1, 1, 2)
    module = layer(TEXT.format(OPTIONS), *shapes)
    bottoms = torch.rand(shapes[0]), torch.rand(shapes[1]) + 0.1, sizes((3, 4), (2, 3))
    check_gradients(module, *bottoms, wrt=(0, 1))


def test_the_limits_of_the_weight_do_not_stop_its_diff():
    x, g = torch.tensor([[[[0.0, 1]]]]), torch.full((1, 1, 1, 2), 50.0, requires_grad=True)
    text = TEXT.format("num_iter: 1 spatial_sigma: 1 range_sigma: 1 min_weight: 0.5")
    (y,) = layer(text, x.shape, g.shape, (1, 1, 1, 2))(x, g, sizes((1, 2)))
    y[..., 1].sum().backward()
    # w = 0.5, at its limit; the top is 1 - w; d w / d g = -sqrt(2) w
    assert g.grad.flatten().tolist() == pytest.approx([0, math.sqrt(2) * 0.5])


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (-1, 3)])
def test_a_size_beyond_the_blob_is_refused(size):
    with pytest.raises(LayerError, match=r"expected at most \(5, 6\)"):
        layer(TEXT.format(OPTIONS), *SHAPES)(
            torch.rand(SHAPES[0]), torch.rand(SHAPES[1]), sizes((5, 6), size)
        )


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("num_iter: 0", SHAPES, "num_iter is 0"),
        ("spatial_sigma: 0", SHAPES, "spatial_sigma is 0"),
        ("range_sigma: -1", SHAPES, "range_sigma is -1"),
        ("min_weight: -1", SHAPES, "min_weight is -1"),
        ("", (SHAPES[0], SHAPES[0], SHAPES[2]), "a gradient of shape"),
        ("", (*SHAPES[:2], (2, 1, 1, 1)), "sizes of shape"),
    ],
)
def test_what_it_refuses(options, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), *shapes)
