"""Deletion and insertion on nets whose evidence is known."""

import numpy as np
import pytest
import torch

from caffe_port.unravel import trace
from caffe_port.unravel.measures import FRACTIONS, ORDERS, Curves, area, curves, mean_curves
from tests.unravel.nets import data, layer, make


def test_the_area_of_known_curves():
    assert area([1] * len(FRACTIONS)) == pytest.approx(1)
    assert area(FRACTIONS) == pytest.approx(0.5)
    assert area([1 - f for f in FRACTIONS]) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def far():
    """Label 1 wherever the pixel 24 columns to the right is bright: the evidence is elsewhere."""
    text = data(1, 3, 48, 48) + layer(
        "Convolution",
        "convolution_param { num_output: 2 kernel_h: 1 kernel_w: 49 pad_h: 0 pad_w: 24 }",
    )
    weight = np.zeros((2, 3, 1, 49))
    weight[1, :, 0, 48] = 1
    net = make(text, layer__weight=weight, layer__bias=[5, 0])
    x = torch.zeros(1, 3, 48, 48)
    x[0, :, 10:20, 30:40] = 5
    return net, x, trace(net, x, "out", [1])


def test_points_are_where_the_evidence_is(far):
    _, _, traces = far
    assert (traces.label_map[10:20, 6:16] == 1).all()
    assert traces.label_map.sum() == 100
    places = traces[1]["data"]
    assert {tuple(p) for p in places[:, 1:].tolist()} == {
        (y, x) for y in range(10, 20) for x in range(30, 40)
    }


def test_evidence_elsewhere_beats_the_own_region(far):
    net, x, traces = far
    found = curves(net, x, traces, 1, (48, 48))
    assert tuple(found) == ORDERS
    for each in found.values():
        # whole at one end and empty at the other
        assert each.deletion[0] == pytest.approx(each.insertion[-1])
        assert each.deletion[-1] == pytest.approx(each.insertion[0])
        assert each.deletion[0] > 0.99
        assert each.deletion[-1] < 0.01
    deletion, insertion = ({name: c.areas[i] for name, c in found.items()} for i in (0, 1))
    assert deletion["traced points"] < 0.1 < deletion["random"]
    assert insertion["traced points"] > 0.9 > insertion["random"]
    assert deletion["own region"] > deletion["traced points"] + 0.3
    assert deletion["gradient"] == pytest.approx(deletion["traced points"], abs=0.02)


def test_the_same_seed_gives_the_same_curves(far):
    net, x, traces = far
    one, again = (curves(net, x, traces, 1, (48, 48), seed=3)["random"] for _ in range(2))
    other = curves(net, x, traces, 1, (48, 48), seed=4)["random"]
    assert one == again
    assert one != other


def test_scores_coarser_than_the_input(far):
    text = data(1, 3, 32, 32) + layer(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 4 stride: 4 }"
    )
    weight = np.zeros((2, 3, 4, 4))
    weight[1] = 1
    net = make(text, layer__weight=weight, layer__bias=[5, 0])
    x = torch.zeros(1, 3, 32, 32)
    x[0, :, 4:12, 8:16] = 1
    traces = trace(net, x, "out", [1])
    assert traces.label_map.sum() == 4
    found = curves(net, x, traces, 1, (32, 32))
    assert found["own region"].areas[0] < 0.15


def test_the_mean_of_curves():
    ones, zeros = Curves((1.0,) * 11, (1.0,) * 11), Curves((0.0,) * 11, (0.5,) * 11)
    mean = mean_curves([{"random": ones}, {"random": zeros}])["random"]
    assert mean == Curves((0.5,) * 11, (0.75,) * 11)
    assert mean_curves([]) == {}
