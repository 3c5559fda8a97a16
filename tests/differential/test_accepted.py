"""Known differences are recognized by the layers of the net, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.spec.making import layer
from tools.differential import outcomes
from tools.differential.accepted import accepted_as
from tools.differential.comparing import LOOSE, difference
from tools.differential.drafts import is_free, spec_of
from tools.differential.exchanges import _live_difference, comparable
from tools.differential.outcomes import Outcome
from tools.differential.sides import Answer
from tools.differential.solver_case import _moved, rounds_a_diff_away

X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
P = 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } }\n'
FILTER = layer("f", "Filter", "x s", "f")
SELECTOR = 'layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 2 } } }\n'
IP = "inner_product_param { num_output: 3 }"


def found(text: str, status: str, message: str = "", blamed: str = "", live: bool = False) -> str:
    spec = spec_of(text, "TEST")
    types = tuple(x.type for x in spec.layers)
    outcome = Outcome(0, "net", types[-1], status, types, message=message, blamed=blamed,
                      live_agrees=live)  # fmt: skip
    return accepted_as(outcome, spec)


def test_a_parameter_that_is_written_in_place() -> None:
    over, beside = layer("e", "Exp", "p", "p"), layer("e", "Exp", "p", "e")
    assert found(P + over, outcomes.DIFFER, live=True) == "shared memory"
    assert not found(P + over, outcomes.DIFFER)
    assert not found(P + beside, outcomes.DIFFER, live=True)


def test_flatten_behind_a_slice_of_one_blob() -> None:
    flat = layer("r", "Flatten", "c", "r")
    one = layer("c", "Slice", "x", "c")
    two = layer("c", "Slice", "x", "c d", more="slice_param { axis: 1 slice_point: 1 }")
    name = "Flatten behind Concat or Slice of one blob"
    assert found(X + one + flat, outcomes.DIFFER) == name
    assert not found(X + two + flat, outcomes.DIFFER)


def test_what_caffe_checks_behind_filter() -> None:
    message = "Check failed: bottom[0]->shape() == bottom[bottom_id]->shape() shape mismatch"
    net = X + SELECTOR + FILTER + layer("i", "InnerProduct", "f", "i", more=IP)
    assert found(net, outcomes.CAFFE_REFUSES, message) == "behind Filter"
    assert not found(net, outcomes.CAFFE_REFUSES, "Check failed: data_")
    without = X + layer("i", "InnerProduct", "x", "i", more=IP)
    assert not found(without, outcomes.CAFFE_REFUSES, message)


@pytest.mark.parametrize(("type", "name"), [("HingeLoss", "HingeLoss with several labels per item"),
                                            ("MultinomialLogisticLoss", "")])  # fmt: skip
def test_labels_that_the_port_alone_refuses(type: str, name: str) -> None:
    message = "labels of shape (1, 2) for scores of shape (1,); expected one per item"
    outcome = Outcome(0, "layer", type, outcomes.PORT_REFUSES, (type,), blamed=type,
                      message=message)  # fmt: skip
    assert accepted_as(outcome, None) == name


@pytest.mark.parametrize(("kind", "rate", "name"),
                         [("solver", 0, "frozen parameters of recurrent layers"),
                          ("solver", 1, ""), ("net", 0, "")])  # fmt: skip
def test_frozen_parameters_of_a_recurrent_layer(kind: str, rate: int, name: str) -> None:
    inputs = X.replace("dim: 2", "dim: 2 dim: 1") + X.replace("dim: 3", "dim: 1").replace("x", "c")
    options = f"recurrent_param {{ num_output: 2 }} param {{ lr_mult: {rate} }}"
    spec = spec_of(inputs + layer("r", "RNN", "x c", "r", more=options), "TRAIN")
    assert accepted_as(Outcome(0, kind, "RNN", outcomes.DIFFER, ("RNN",)), spec) == name


def test_last_bits_of_inputs_that_may_be_any_number() -> None:
    """Labels stay what they are."""
    target = X.replace('"x"', '"t"').replace("dim: 3", "")
    spec = spec_of(X + target + layer("l", "SoftmaxWithLoss", "x t", "l"), "TRAIN")
    assert (is_free(spec, "x"), is_free(spec, "t")) == (True, False)
    given = {f"input/{batch}/{blob}": np.ones(3, np.float32) for batch in (0, 1) for blob in "xt"}
    moved = _moved(spec, 2, given, Answer("ok"), 0)
    for batch in (0, 1):
        assert 0 < np.abs(moved[f"input/{batch}/x"] - 1).max() < 2e-6
        assert (moved[f"input/{batch}/t"] == 1).all()


@pytest.mark.parametrize(("axis", "size", "rounded"), [(0, 2, True), (2, 4, True), (1, 3, False)])
def test_a_bias_before_a_softmax_over_all_that_it_is_added_to(
    axis: int, size: int, rounded: bool
) -> None:
    """Its diff is 0 but for rounding; that of one bias for each class is not."""
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 } } }'
        'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 4 } } }'
        + layer("b", "Bias", "x", "b", more=f"bias_param {{ axis: {axis} num_axes: 1 }}")
        + layer("l", "SoftmaxWithLoss", "b t", "l", more="softmax_param { axis: 1 }")
    )
    generator = np.random.RandomState(4)
    given = {
        "input/0/x": generator.standard_normal((2, 3, 4)).astype(np.float32),
        "input/0/t": np.ones((2, 4), np.float32),
    }
    mine = Answer("ok", arrays={"start/b/0": generator.standard_normal(size).astype(np.float32)})
    assert rounds_a_diff_away(text, given, mine) is rounded


def test_a_diff_that_a_layer_in_place_does_not_pass_on_is_not_compared() -> None:
    first = layer("i", "InnerProduct", "x", "i", more=IP)
    stops = layer("r", "ReLU", "i", "i", more="propagate_down: false")
    passes = layer("r", "ReLU", "i", "i")
    last = layer("j", "InnerProduct", "i", "j", more=IP + " loss_weight: 1")
    answered = {"diff/i": np.ones((2, 3), np.float32)}
    assert not comparable(spec_of(X + first + stops + last, "TEST"), answered)
    assert comparable(spec_of(X + first + passes + last, "TEST"), answered)


def test_few_values_may_all_be_wrong() -> None:
    """A kink may be met from the other side in one of eight values, not in one of one."""
    for size, places, good in ((1, 1, False), (3, 1, False), (8, 2, True), (8, 3, False)):
        values, wrong = np.ones(size), np.ones(size)
        wrong[:places] = 2
        assert (difference(wrong, values, LOOSE) == "") is good


def test_what_is_left_of_larger_numbers_may_be_off() -> None:
    left, other = np.full(4, 3e-9), np.full(4, -2e-7)
    assert difference(left, other, LOOSE)
    assert not difference(left, other, LOOSE, floor=1e-6)
    assert difference(left, other * 10, LOOSE, floor=1e-6)


@pytest.mark.parametrize(("error", "agrees"), [(3e-8, True), (1e-5, False)])
def test_a_gradient_that_is_what_is_left_of_diffs(error: float, agrees: bool) -> None:
    """The sum of diffs of 0.1 may be rounding errors alone."""
    wanted = {"diff/b": np.full(4, 0.1, np.float32), "pdiff/b/0": np.full(1, 3e-8, np.float32)}
    mine = Answer("ok", arrays=wanted | {"pdiff/b/0": wanted["pdiff/b/0"] + np.float32(error)})
    assert (_live_difference(mine, wanted, "Caffe", LOOSE) is None) is agrees
