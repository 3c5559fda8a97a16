"""Frames, the GIF, the player, and the branches of a net of several scales."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import UsageError
from caffe_port.unravel import trace
from caffe_port.unravel.drawing import (
    MAX_DOTS,
    YELLOW,
    Frame,
    Panel,
    enlargement,
    frames,
    gif,
    player,
    with_points,
)
from caffe_port.unravel.trace import FrameOrder, frame_order
from tests.unravel.nets import data, layer, make

SCALES = (
    data(1, 1, 5, 5)
    + layer("Interp", "interp_param { shrink_factor: 2 }", "data", "small", "shrink")
    + layer("ReLU", "", "data", "a1", "a1")
    + layer("ReLU", "", "a1", "a2", "a2")
    + layer("Eltwise", "", "a1 a2", "a3", "a3")
    + layer("ReLU", "", "small", "b1", "b1")
    + layer("Interp", "interp_param { zoom_factor: 2 }", "b1", "b2", "grow")
    + layer("Eltwise", "eltwise_param { operation: MAX }", "a3 b2", "both", "both")
    + layer("Power", "", "both", "out", "last")
)


def test_scales_are_branches_and_blocks_are_not():
    net = make(SCALES)
    reached = {"out", "both", "a3", "a2", "a1", "b2", "b1", "small", "data"}
    order = frame_order(net.spec, "out", reached)
    assert order == FrameOrder(
        ("out", "both"), (("a3", "a2", "a1"), ("b2", "b1", "small")), ("data",)
    )
    assert order.frames(80) == [
        ("out",), ("both",), ("a3", "b2"), ("a2", "b1"), ("a1", "small"), ("data",),
    ]  # fmt: skip


def test_a_branch_without_points_is_kept_empty():
    order = frame_order(make(SCALES).spec, "out", {"out", "both", "a3", "a2", "a1", "data"})
    assert order.branches == (("a3", "a2", "a1"), ())
    assert order.frames(80)[2] == ("a3", None)


def test_a_chain_has_no_branches():
    net = make(data(1, 1, 2, 2) + layer("ReLU", top="x") + layer("ReLU", "", "x", name="b"))
    assert frame_order(net.spec, "out", {"out", "x", "data"}) == FrameOrder(
        ("out", "x"), (), ("data",)
    )


def test_long_sequences_are_thinned():
    order = FrameOrder(tuple(f"b{i}" for i in range(100)), (), ("data",))
    thin = order.frames(10)
    assert len(thin) == 10
    assert thin[0] == ("b0",)
    assert thin[-2:] == [("b99",), ("data",)]


@pytest.fixture(scope="module")
def scales():
    net = make(SCALES)
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    return net, trace(net, x, "out")


def test_frames(scales):
    net, traces = scales
    found = frames(net.spec, traces, 0, (5, 5))
    assert [tuple(panel.blob for panel in frame) for frame in found][:2] == [("out",), ("both",)]
    assert found[0][0].number == 25
    assert found[0][0].places.tolist() == [[y, x] for y in range(5) for x in range(5)]
    # a place in the padding is not drawn
    assert len(frames(net.spec, traces, 0, (3, 5))[0][0].places) == 15
    with pytest.raises(UsageError, match="label 7 was not traced; there are 0"):
        frames(net.spec, traces, 7, (5, 5))


def test_too_many_dots_are_thinned():
    net = make(data(1, 1, 100, 100) + layer("ReLU"))
    traces = trace(net, np.ones((1, 1, 100, 100), np.float32), "out")
    panel = frames(net.spec, traces, 0, (100, 100))[0][0]
    assert panel.number == 10000
    assert len(np.unique(panel.places, axis=0)) == MAX_DOTS


def sequence() -> list[Frame]:
    one = Panel("top <b>", 1, np.array([[3.0, 4.0]]))
    return [(one,), (one, Panel("not reached", 0, np.empty((0, 2)))), (one,)]


PICTURE = np.full((160, 320, 3), 90, np.uint8)


def test_the_gif_moves_and_keeps_the_dots_colour():
    image = Image.open(io.BytesIO(gif(PICTURE, sequence())))
    assert image.n_frames == 3
    assert image.info["loop"] == 0
    assert image.size[0] > 2 * 320
    image.seek(1)
    assert image.convert("RGB").getpixel((4, 18 + 3)) == YELLOW


def test_the_player_is_self_contained():
    page = player(PICTURE, sequence(), 'a "quoted" name')
    assert page.count("<canvas") == 2
    assert 'max="2"' in page
    assert "a &quot;quoted&quot; name" in page
    (script,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert "<" not in script
    assert json.loads(script)[1] == [
        {"name": "top <b>: 1 point", "at": [4, 4]},
        {"name": "not reached", "at": []},
    ]
    assert 'src="data:image/jpeg' in page


def test_dots_outside_of_the_image_are_not_drawn():
    places = np.array([[-3.0, 2.0], [2.0, 999.0], [10.0, 20.0]])
    drawn = np.asarray(with_points(PICTURE, places))
    yellow = (drawn == YELLOW).all(2)
    rows, columns = yellow.nonzero()
    assert {int(rows.mean().round()), int(columns.mean().round())} <= {10, 11, 20, 21}
    assert yellow.sum() < 30


@pytest.mark.parametrize(("size", "factor"), [((64, 48), 5), ((300, 400), 1), ((1280, 900), 0.5)])
def test_small_images_are_enlarged_and_large_ones_not(size, factor):
    assert enlargement(size) == factor
