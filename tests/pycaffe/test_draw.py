"""Images of nets, with and without Graphviz."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import pytest
from google.protobuf import text_format
from PIL import Image

from caffe_port.errors import UsageError
from caffe_port.pycaffe import TRAIN, caffe_pb2, draw

NET = """
layer { name: "data" type: "Data" top: "data" data_param { batch_size: 7 }
  include { phase: TRAIN } }
layer { name: "in" type: "Input" top: "data" include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 3 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 9 } }
layer { name: "sum" type: "Concat" bottom: "ip" bottom: "conv" top: "sum" }
"""


@pytest.fixture
def net() -> caffe_pb2.NetParameter:
    return text_format.Parse(NET, caffe_pb2.NetParameter())


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_graphviz", lambda: False)


def test_texts(net: caffe_pb2.NetParameter) -> None:
    data, _, conv, relu, pool, ip, _ = net.layer
    wanted = r'"conv\n(Convolution)\nkernel size: 3\nstride: 1\npad: 1\nlr mult: 3.0, 1.0"'
    assert draw.get_layer_label(conv, "LR", display_lrm=True) == wanted
    assert (
        draw.get_layer_label(pool, "TB") == '"pool (Pooling AVE) kernel size: 2 stride: 2 pad: 0"'
    )
    labels = [draw.get_edge_label(layer) for layer in (data, conv, relu, ip)]
    assert labels == ["Batch 7", "4", "", "9"]
    with pytest.raises(ValueError, match=r"'relu' \(ReLU\) has no lr_mult"):
        draw.get_layer_lr_mult(relu)


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("rankdir", ["LR", "RL", "TB", "BT"])
def test_an_image_without_graphviz(net: caffe_pb2.NetParameter, rankdir: str) -> None:
    image = Image.open(io.BytesIO(draw.draw_net(net, rankdir)))
    assert image.format == "PNG"
    assert (image.width > image.height) is (rankdir in ("LR", "RL"))
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    for name in ("#FF5050", "#FF9900", "#CC33FF", "#90EE90", "#6495ED", "#E0E0E0"):
        assert tuple(bytes.fromhex(name[1:])) in colours, name


@pytest.mark.usefixtures("_plain")
def test_a_net_without_a_layer_of_the_phase() -> None:
    net = caffe_pb2.NetParameter(layer=[{"name": "in", "type": "Input", "include": [{"phase": 1}]}])
    with pytest.raises(UsageError, match="no layer to draw"):
        draw.draw_net(net, "LR", phase=TRAIN)


def test_directions_mirror_one_another(net: caffe_pb2.NetParameter) -> None:
    boxes, _ = draw._graph(net, True, TRAIN, False)
    sizes = dict.fromkeys(boxes, (50, 20))
    places = {d: draw._layout(boxes, sizes, d)[0] for d in ("LR", "RL", "TB", "BT")}
    first, last = "data_Data", "sum_blob"
    assert places["LR"][first].right < places["LR"][last].left
    assert places["RL"][last].right < places["RL"][first].left
    assert places["TB"][first].bottom < places["TB"][last].top
    assert places["BT"][last].bottom < places["BT"][first].top


def test_boxes_do_not_overlap_and_follow_the_data(net: caffe_pb2.NetParameter) -> None:
    boxes, edges = draw._graph(net, True, TRAIN, False)
    assert "in_Input" not in boxes
    depths = {name: box.depth for name, box in boxes.items()}
    for source, target, _ in edges:
        if (target, source) not in {(a, b) for a, b, _ in edges}:  # in place goes to and fro
            assert depths[source] < depths[target], (source, target)
    places, width, height = draw._layout(boxes, dict.fromkeys(boxes, (50, 20)), "LR")
    seen = list(places.values())
    for i, one in enumerate(seen):
        assert 0 <= one.left < one.right <= width
        assert 0 <= one.top < one.bottom <= height
        for other in seen[:i]:
            apart = one.right <= other.left or other.right <= one.left
            assert apart or one.bottom <= other.top or other.bottom <= one.top


@pytest.mark.usefixtures("_plain")
def test_a_file(net: caffe_pb2.NetParameter, tmp_path: Path) -> None:
    draw.draw_net_to_file(net, tmp_path / "net.gif", "TB", phase=TRAIN)
    with Image.open(tmp_path / "net.gif") as image:
        assert image.format == "GIF"
    with pytest.raises(UsageError, match="drawing as 'svg' needs pydot and the Graphviz"):
        draw.draw_net_to_file(net, tmp_path / "net.svg")
    assert not (tmp_path / "net.svg").exists()


@pytest.mark.usefixtures("_plain")
def test_an_image_too_large(net: caffe_pb2.NetParameter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "MAX_PIXELS", 1000)
    with pytest.raises(UsageError, match="the image would have"):
        draw.draw_net(net, "LR")


def test_pydot_gets_the_same_graph(
    net: caffe_pb2.NetParameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, list[tuple[object, ...]]] = {"Node": [], "Edge": []}

    class Dot:
        def __init__(self, name: str, **options: str) -> None:
            self.name, self.options = name, options

        def add_node(self, node: tuple[object, ...]) -> None:
            made["Node"].append(node)

        def add_edge(self, edge: tuple[object, ...]) -> None:
            made["Edge"].append(edge)

        def create(self, format: str) -> bytes:
            return f"{self.name} {self.options['rankdir']} as {format}".encode()

    pydot = types.ModuleType("pydot")
    pydot.Dot = Dot
    pydot.Node = pydot.Edge = lambda *names, **options: (*names, options["label"])
    monkeypatch.setitem(sys.modules, "pydot", pydot)
    monkeypatch.setattr(draw, "_graphviz", lambda: True)
    assert draw.draw_net(net, "LR", "svg", phase=TRAIN) == b"Net LR as svg"
    assert ('"relu_ReLU"', r'"relu\n(ReLU)"') in made["Node"]
    assert ('"conv_Convolution"', '"conv_blob"', '"4"') in made["Edge"]


def test_without_pydot_there_is_no_pydot_graph(
    net: caffe_pb2.NetParameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(UsageError, match="pip install pydot"):
        draw.get_pydot_graph(net, "LR")


def test_both_kinds_of_rules(net: caffe_pb2.NetParameter) -> None:
    net.layer[0].exclude.add().phase = TRAIN
    with pytest.raises(ValueError, match="'data' has both include and exclude"):
        draw.draw_net(net, "LR", phase=TRAIN)
