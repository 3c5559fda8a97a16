"""Tracing as a whole: labels, branches, what is refused, and FCN-AlexNet from full resolution."""

import numpy as np
import pytest
import torch

import caffe_port
from caffe_port import load
from caffe_port.errors import UnsupportedLayerError, UsageError
from caffe_port.unravel import Link, register_rule, trace
from caffe_port.unravel.points import PointSet
from tests.goldens_dir import GOLDENS
from tests.unravel.nets import data, follow, layer, make

FCN = GOLDENS / "nets" / "bvlc_fcn_alexnet"
LARGEFOV = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"


@pytest.fixture(scope="module")
def largefov():
    net = load(LARGEFOV / "net.prototxt", LARGEFOV / "net.caffemodel")
    with np.load(GOLDENS / "unravel" / "deeplab_largefov_v2_full_shift" / "case.npz") as case:
        return net, case["input/data"]


@pytest.fixture(scope="module")
def fcn():
    net = load(FCN / "net.prototxt", FCN / "net.caffemodel")
    with np.load(GOLDENS / "unravel" / "bvlc_fcn_alexnet_full_shift" / "case.npz") as case:
        return net, case["input/data"]


def same(one, other):
    assert one.keys() == other.keys()
    for label in one:
        assert one[label].keys() == other[label].keys()
        for blob, rows in one[label].items():
            assert np.array_equal(rows, other[label][blob])


def test_all_labels_at_once_are_each_label_alone(largefov):
    net, x = largefov
    together = trace(net, x, "fc8_interp", k=2)
    assert len(together) > 2
    assert sorted(together) == np.unique(together.label_map).tolist()
    for label in together:
        same({label: together[label]}, trace(net, x, "fc8_interp", [label], k=2))


def test_blobs_come_from_the_top_down(largefov):
    net, x = largefov
    found = trace(net, x, "fc8_interp")
    assert list(found.shapes)[:2] == ["fc8_interp", "fc8_voc12"]
    assert list(found.shapes)[-1] == "data"
    assert found.shapes["fc8_interp"] == (1, 21, 65, 81)
    assert found.top == "fc8_interp"


def test_a_given_label_map(largefov):
    net, x = largefov
    map_ = np.full((65, 81), 255, np.uint8)
    map_[10:20, 30:40] = 3
    found = trace(net, x, "fc8_interp", label_map=map_)
    assert list(found) == [3]
    assert len(found[3]["fc8_interp"]) == 100
    assert set(found[3]["fc8_interp"][:, 0].tolist()) == {3}


def test_an_absent_label(largefov):
    net, x = largefov
    absent = next(label for label in range(21) if label not in trace(net, x, "fc8_interp"))
    found = trace(net, x, "fc8_interp", [absent])
    assert {blob: rows.shape for blob, rows in found[absent].items()} == {"fc8_interp": (0, 3)}


def test_no_labels(largefov):
    net, x = largefov
    assert trace(net, x, "fc8_interp", []) == {}


def test_fcn_alexnet_from_its_full_resolution_score(fcn):
    net, x = fcn
    full = trace(net, x, "score")
    assert list(full.shapes)[:3] == ["score", "upscore", "score_fr"]
    with torch.no_grad():
        scores = net(x, keep=["score_fr", "score"])
    for label, blobs in full.items():
        rows = blobs["score"]
        assert np.array_equal(blobs["upscore"], np.add(rows, [0, 18, 18]))
        # the upsampling keeps its channels apart, so a label's points stay in its channel
        assert set(blobs["score_fr"][:, 0].tolist()) == {label}
        assert len(blobs["data"]) > 0
    # one place by hand: (40, 50) of the score is (58, 68) of upscore, reached by rows and columns
    # 0, 1 and 1, 2 of score_fr; the weights are those of a bilinear filter of 63, stride 32
    label = int(full.label_map[40, 50])
    map_ = np.full(full.label_map.shape, 255)
    map_[40, 50] = label
    one = trace(net, x, "score", [label], label_map=map_)[label]["score_fr"]
    around = {}
    for i in (0, 1):
        for j in (1, 2):
            weight = (1 - abs(58 - 32 * i - 31) / 32) * (1 - abs(68 - 32 * j - 31) / 32)
            around[i, j] = weight * float(scores["score_fr"][0, label, i, j])
    assert tuple(one[0].tolist()) == (label, *max(around, key=around.get))
    assert sum(around.values()) == pytest.approx(float(scores["score"][0, label, 40, 50]), rel=1e-4)


def test_branches_wait_for_one_another():
    # data -> a (ReLU) -> two readers, of which the later one is met first: b = a * 2, c = a + b
    text = data(1, 1, 1, 2)
    text += layer("ReLU", top="a", name="one")
    text += layer("Power", "power_param { scale: 2 }", "a", "b", "two")
    text += layer("Eltwise", "", "a b", "out", "sum")
    found = follow(make(text), [[[[3, 1]]]], (0, 0, 0))
    assert found == {"out": [(0, 0, 0)], "b": [(0, 0, 0)], "a": [(0, 0, 0)], "data": [(0, 0, 0)]}
    # -1 * 2 is smaller than -1, and 0 is 0: the first bottom
    found = follow(make(text), [[[[0, 1]]]], (0, 0, 0))
    assert found == {"out": [(0, 0, 0)], "a": [(0, 0, 0)], "data": [(0, 0, 0)]}


def test_points_of_two_labels_meet():
    text = data(1, 2, 1, 2) + layer(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 1 bias_term: false }",
    )  # fmt: skip
    net = make(text, layer__weight=[[1, 0], [2, 0.1]])
    x = torch.tensor([[[[1.0, -1]], [[0, 0]]]])
    found = trace(net, x, "out", label_map=np.array([[0, 1]]))
    assert {label: blobs["data"].tolist() for label, blobs in found.items()} == {
        0: [[0, 0, 0]],
        1: [[1, 0, 1]],
    }
    found = trace(net, torch.cat([x[..., :1]] * 2, 3), "out", label_map=np.array([[1, 1]]))
    assert found[1]["data"].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_layers_in_place_are_passed_under_one_name():
    text = data(1, 1, 1, 3) + layer("Power", "power_param { shift: 1 }", top="x", name="a")
    text += layer("ReLU", bottom="x", top="x", name="b")
    text += layer("Pooling", "pooling_param { kernel_h: 1 kernel_w: 3 }", "x", name="c")
    found = follow(make(text), [[[[-5, -2, -3]]]], (0, 0, 0))
    # all are 0 behind the ReLU: the last of equals
    assert found == {"out": [(0, 0, 0)], "x": [(0, 0, 2)], "data": [(0, 0, 2)]}


def test_inputs_of_a_net_with_several_need_names():
    text = data(1, 1, 1, 2, name="a") + data(1, 1, 1, 2, name="b") + layer("Eltwise", "", "a b")
    with pytest.raises(UsageError, match="inputs a, b; give a dict"):
        trace(make(text), np.zeros((1, 1, 1, 2), np.float32), "out")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shift": "half_shift"}, "full_shift, no_shift, partial_shift"),
        ({"k": 0}, "k is 0"),
        ({"top": "fc9"}, "'fc9', which is not a blob"),
        ({"labels": [21]}, "label 21; the scores have the labels 0 to 20"),
        ({"label_map": np.zeros((3, 3), int)}, r"size \(65, 81\)"),
        ({"label_map": np.zeros((65, 81))}, "float64"),
    ],
)
def test_refused_arguments(largefov, wrong, message):
    net, x = largefov
    with pytest.raises(UsageError, match=message):
        trace(net, x, **{"top": "fc8_interp", **wrong})


def test_one_image_at_a_time(largefov):
    net, x = largefov
    with pytest.raises(UsageError, match=r"\(2, 21, 65, 81\); expected \(1, labels, H, W\)"):
        trace(net, np.concatenate([x, x]), "fc8_interp")


def test_a_layer_without_a_rule_is_named():
    text = data(1, 1, 3, 3) + layer("SPP", "spp_param { pyramid_height: 2 }", top="s", name="odd")
    shape = "reshape_param { shape { dim: 1 dim: 5 dim: 1 dim: 1 } }"
    net = make(text + layer("Reshape", shape, "s"))
    with pytest.raises(UnsupportedLayerError, match=r"layer 'odd' \(SPP\).*register_rule"):
        trace(net, np.zeros((1, 1, 3, 3), np.float32), "out")


def test_all_types_without_a_rule_are_counted():
    pyramid = "spp_param { pyramid_height: 1 }"
    text = data(1, 1, 3, 3) + layer("SPP", pyramid, top="s", name="one")
    shape = "reshape_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 } }"
    text += layer("Reshape", shape, "s", top="r", name="back")
    net = make(
        text + layer("SPP", pyramid, "r", top="t", name="two") + layer("Reshape", shape, "t")
    )
    with pytest.raises(UnsupportedLayerError) as caught:
        trace(net, np.zeros((1, 1, 3, 3), np.float32), "out")
    assert "of this net's types also not: SPP (2)" in str(caught.value)


def test_a_layer_outside_of_the_path_needs_no_rule():
    text = data(1, 1, 3, 3) + layer("ArgMax", "argmax_param { axis: 1 }", top="a", name="arg")
    net = make(text + layer("Crop", "crop_param { axis: 2 }", "data a"))
    assert follow(net, np.zeros((1, 1, 3, 3)), (0, 1, 2))["data"] == [(0, 1, 2)]


def test_a_custom_rule(monkeypatch):
    from caffe_port.unravel.rules import _registry

    monkeypatch.setattr(_registry, "_rules", dict(_registry._rules))

    @register_rule("Tile")
    def first_copy(passage, points):
        return [Link(0, torch.arange(len(points)), points % passage.bottoms[0].numel())]

    net = make(data(1, 2, 1, 1) + layer("Tile", "tile_param { axis: 1 tiles: 3 }"))
    assert follow(net, np.zeros((1, 2, 1, 1)), (5, 0, 0))["data"] == [(1, 0, 0)]
    for type in ("Tile", "Convolution", "Pooling"):
        with pytest.raises(ValueError, match=f"'{type}' has a tracing rule already"):
            register_rule(type)(first_copy)


def test_merging_keeps_each_place_once():
    members = torch.eye(2, dtype=torch.bool)
    merged = PointSet.merge([(torch.tensor([7, 2]), members), (torch.tensor([2, 9]), members)])
    assert merged.flat.tolist() == [2, 7, 9]
    assert merged.members.tolist() == [[True, True], [True, False], [False, True]]


def test_it_is_a_public_name():
    assert caffe_port.unravel.trace is trace


def test_float64(largefov):
    net, x = largefov
    again = load(LARGEFOV / "net.prototxt", LARGEFOV / "net.caffemodel").double()
    same(trace(net, x, "fc8_interp"), trace(again, x.astype(np.float64), "fc8_interp"))
