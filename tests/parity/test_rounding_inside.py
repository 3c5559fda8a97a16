"""Layers that round away what they then subtract: right results pass, wrong ones nearby fail.

Recorded with real Caffe: gates at 0 or 1, differences that are 0 whatever the inputs are, a running
sum that a large number has left, and numbers below the range of float32.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from caffe_port.parity import responses
from caffe_port.parity.compare import Verdict
from caffe_port.parity.recording import Arrays
from caffe_port.parity.tolerance import SMALLEST, UNIT
from caffe_port.parity.verify import verify
from tests.goldens_dir import cases
from tests.verifying import recorded_net, verify_case

CASES = {folder.name: folder for folder in cases("rounding")}


@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
@pytest.mark.parametrize("name", CASES)
def test_right_results_pass(name, isolate):
    verify_case(CASES[name], isolate)


def bad_rows(net, recording):
    return {(row.kind, row.name) for row in verify(net, recording).rows
            if row.comparison.verdict is Verdict.FAIL}  # fmt: skip


def changed(recording, kind, key, values):
    """The recording with another array."""
    part = getattr(recording, kind)
    arrays = {name: part[name] for name in part} | {key: np.asarray(values, np.float32)}
    readers = {name: partial(np.copy, array) for name, array in arrays.items()}
    return dataclasses.replace(recording, **{kind: Arrays(readers)})


# case, part, key, relative change of all values, or absolute in parts of the peak of the top's diff
SLIGHTLY_WRONG = [
    ("rnn_saturated", "param_diffs", ("rnn", 0), 0.01),
    ("rnn_saturated", "param_diffs", ("rnn", 3), 0.01),
    ("rnn_saturated", "diffs", "x", 0.01),
    ("rnn_saturated", "data", "y", 1e-5),
    ("lstm_saturated", "param_diffs", ("lstm", 0), 0.01),
    ("lstm_saturated", "param_diffs", ("lstm", 1), 0.01),
    ("lstm_saturated", "diffs", "x", 0.01),
    ("lstm_saturated", "data", "y", 1e-5),
    ("elu_saturated", "diffs", "x", 0.03),
    ("elu_saturated", "data", "y", 1e-5),
    ("elu_near_zero", "data", "y", 0.2),
    ("elu_near_zero", "diffs", "x", 1e-5),
    ("sigmoid_ce_saturated", "data", "loss", 0.002),
    ("sigmoid_ce_saturated", "diffs", "x", 0.001),
    ("mvn_two_values", "data", "y", 1e-5),
    ("lrn_large_neighbour", "data", "y", 0.01),
    ("lrn_large_neighbour", "diffs", "x", 0.01),
    ("batch_norms_share_statistics", "after", ("a", 0), 1e-5),
    ("batch_norms_share_statistics", "after", ("b", 1), 1e-5),
    ("contrastive_near_its_margin", "diffs", "x", 2e-5),
    ("contrastive_near_its_margin", "data", "loss", 1e-3),
    ("random_layer_without_diff", "diffs", "m", 1e-5),
    ("random_layer_without_diff", "param_diffs", ("m", 0), 1e-3),
    ("bottom_of_a_layer_in_place", "diffs", "m", 1e-5),
    ("bottom_of_a_layer_in_place", "param_diffs", ("m", 0), 1e-5),
]


@pytest.mark.parametrize(("name", "part", "key", "factor"), SLIGHTLY_WRONG)
def test_a_slightly_wrong_result_fails(name, part, key, factor):
    net, recording = recorded_net(CASES[name])
    wrong = changed(recording, part, key, getattr(recording, part)[key] * (1 + factor))
    kinds = {"param_diffs": "pdiff", "diffs": "diff"}
    label = key if isinstance(key, str) else "/".join(map(str, key))
    assert (kinds.get(part, part), label) in bad_rows(net, wrong)


@pytest.mark.parametrize(
    ("name", "part", "key", "error"),
    [
        ("mvn_two_values", "diffs", "x", 1e-4),
        ("rnn_at_one", "param_diffs", ("rnn", 0), 1e-5),
        ("lstm_below_float32", "param_diffs", ("lstm", 0), 1e-36),
        ("lstm_below_float32", "data", "y", 1e-36),
    ],
)
def test_a_value_that_is_0_up_to_rounding_must_be_near_0(name, part, key, error):
    net, recording = recorded_net(CASES[name])
    right = getattr(recording, part)[key]
    wrong = right.copy()
    wrong.reshape(-1)[0] += np.float32(error)
    assert bad_rows(net, changed(recording, part, key, wrong))


@pytest.mark.parametrize("name", ["rnn_saturated", "lstm_saturated"])
def test_gates_in_another_place_fail(name):
    """The gradient of one unit is not that of the next."""
    net, recording = recorded_net(CASES[name])
    layer = name.partition("_")[0]
    key = (layer, 1)
    wrong = np.roll(recording.param_diffs[key], 1)
    assert ("pdiff", f"{layer}/1") in bad_rows(net, changed(recording, "param_diffs", key, wrong))


def test_each_layer_adds_to_the_statistics_that_the_one_before_it_left():
    """Not to those that the pass began with, and in the order of the layers."""
    net, recording = recorded_net(CASES["batch_norms_share_statistics"])
    first = {key: recording.params[key] for key in (("a", 0), ("a", 1), ("a", 2))}
    fraction = 0.999
    assert recording.after["a", 2][0] == pytest.approx(
        ((first["a", 2][0] * fraction + 1) * fraction + 1) * fraction + 1
    )
    means = {}
    for order in (("x", "b", "c"), ("x", "c", "b"), ("c",)):
        mean = first["a", 0].astype(np.float64)
        for name in order:
            mean = mean * fraction + mean_before(recording, name)
        means[order] = mean
    found = recording.after["c", 0]
    assert np.abs(means["x", "b", "c"] - found).max() < 1e-6
    for order in (("x", "c", "b"), ("c",)):
        wrong = changed(recording, "after", ("c", 0), means[order])
        assert ("after", "c/0") in bad_rows(net, wrong)


def mean_before(recording, name):
    """Mean of what a BatchNorm reads: x, z, or x as the first one left it."""
    if name == "b":
        return recording.inputs["z"].astype(np.float64).mean(0)
    x = recording.inputs["x"].astype(np.float64)
    return x.mean(0) if name == "x" else ((x - x.mean(0)) / x.std(0)).mean(0)


def test_the_diff_of_a_bottom_of_a_layer_in_place_is_needed():
    net, recording = recorded_net(CASES["bottom_of_a_layer_in_place"])
    for factor in (0, 2):
        wrong = changed(recording, "diffs", "m", recording.diffs["m"] * factor)
        assert ("diff", "m") in bad_rows(net, wrong)


def test_computed_numbers_are_changed_and_given_ones_are_not():
    x, ones = torch.tensor([[0.3, -0.7]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    given = x.clone()
    with responses.Rounded(0):
        view, doubled, counted = x.reshape(2), x * 2, ones + ones
    assert torch.equal(x, given)
    assert torch.equal(view, given.reshape(2))
    assert torch.equal(counted, ones * 2)
    assert torch.allclose((doubled / given / 2 - 1).abs(), torch.full_like(x, UNIT), rtol=1e-6)


def test_the_response_shows_what_cancels_inside():
    """1 - tanh(20)^2 is 1.7e-17, and nothing but rounding in float32."""
    x = torch.tensor([18.4], dtype=torch.float64)

    def run(values):
        y = values[0].tanh()
        return [1 - y * y]

    (inside,) = responses.to_rounding(run, [x], run([x]))
    (outside,) = responses.largest(run, [x], [UNIT * x], run([x]))
    assert UNIT < inside < 4 * UNIT
    assert outside < 1e-9 * UNIT


def test_numbers_below_float32_are_uncertain_as_a_whole():
    x = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def run(values):
        return [values[0] * 1e-40]

    (found,) = responses.to_rounding(run, [x], run([x]))
    assert found == pytest.approx(0.7e-40)
    assert found < SMALLEST
