"""labels() gives what argmax over all scores gives."""

import pytest
import torch

from caffe_port.errors import UsageError
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer

X = (2, 3, 9, 7)


def _text(labels, more):
    options = f'num_output: {labels} kernel_size: 1 weight_filler {{ type: "gaussian" std: 1 }}'
    return conv("c", "b0", options=options) + more


def _zoomed(labels, options="zoom_factor: 8"):
    return _text(labels, layer("s", "Interp", "c", more=f"interp_param {{ {options} }}"))


def _x(seed=0):
    return torch.randn(X, generator=torch.Generator().manual_seed(seed))


def _are_best(labels, scores):
    """A label's score is the highest, or equal to it within rounding."""
    found = scores.gather(1, labels[:, None].long())[:, 0]
    assert (scores.amax(1) - found).max() <= 1e-6 * scores.abs().max()
    assert (labels != scores.argmax(1)).float().mean() < 1e-3


@pytest.mark.parametrize("size", [None, (65, 49), (64, 30), (1, 1), (9, 49), (2, 9)])
@pytest.mark.parametrize("options", ["zoom_factor: 8", "zoom_factor: 3", "height: 30 width: 49"])
def test_enlarged_scores(options, size):
    net = net_of(_zoomed(21, options), X)
    with torch.no_grad():
        scores = net(_x())["s"]
    if size is not None:
        size = (min(size[0], scores.shape[2]), min(size[1], scores.shape[3]))
        scores = scores[:, :, : size[0], : size[1]]
    found = net.optimized().labels(_x(), size=size)
    assert found.dtype == torch.uint8
    _are_best(found, scores)


@pytest.mark.parametrize("more", ["", "crop", "shrink"])
def test_other_scores(more):
    text = {
        "": _text(5, ""),
        "crop": _zoomed(5, "zoom_factor: 4 pad_beg: -1 pad_end: -2"),
        "shrink": _zoomed(5, "shrink_factor: 2"),
    }[more]
    net = net_of(text, X)
    with torch.no_grad():
        (scores,) = net(_x()).values()
    _are_best(net.optimized().labels(_x()), scores)


def test_the_lowest_of_equal_scores_wins():
    net = net_of(_zoomed(21), X)
    with torch.no_grad():
        for blob in net.parameters():
            blob.zero_()
    assert not net.optimized().labels(_x()).any()


def test_more_than_256_labels():
    net = net_of(_zoomed(300), X)
    with torch.no_grad():
        net.layer_params("c")[1][299] = 1000
    found = net.optimized().labels(_x())
    assert found.dtype == torch.int64
    assert found.eq(299).all()


def test_a_blob_by_name():
    net = net_of(_zoomed(4) + layer("t", "TanH", "c") + layer("u", "TanH", "s"), X)
    fast = net.optimized()
    assert torch.equal(fast.labels(_x(), "s"), fast.labels(_x(), "u"))
    assert fast.labels(_x(), "c").shape == (2, 9, 7)


@pytest.mark.parametrize(
    ("blob", "size", "words"),
    [
        (None, None, "The net's outputs are flat, t, u; name it"),
        ("q", None, "'q' is not a blob"),
        ("s", (66, 4), "size is 66 x 4; 's' is 65 x 49"),
        ("s", (0, 4), "size is 0 x 4"),
        ("flat", None, "expected (N, C, H, W)"),
    ],
)
def test_blobs_without_labels(blob, size, words):
    more = layer("t", "TanH", "c") + layer("u", "TanH", "s") + layer("flat", "Flatten", "c")
    net = net_of(_zoomed(4) + more, X)
    with pytest.raises(UsageError) as caught:
        net.optimized().labels(_x(), blob, size=size)
    assert words in str(caught.value)


def test_an_axis_that_becomes_one_pixel():
    net = net_of(_zoomed(5, "height: 1 width: 90"), X)
    with torch.no_grad():
        want = net(_x())["s"].argmax(1)
    assert torch.equal(net.optimized().labels(_x()).long(), want)
