"""Known and intended differences: what Caffe does there is useless or undefined.

The table in docs/differential.md is made of this list; a test keeps the two equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from caffe_port.spec import LayerSpec, NetSpec
from tools.differential import outcomes
from tools.differential.outcomes import Outcome

#: Layer types of Caffe that write into diffs that nothing needs: HingeLoss and Scale use a bottom's
#: diff as working memory, LSTMUnit and the net inside of a recurrent layer compute all diffs, and
#: the others share their top's diff with their bottom.
SCRATCH = frozenset(
    ["Concat", "Flatten", "HingeLoss", "LSTM", "LSTMUnit", "RNN", "Reshape", "Scale", "Slice"]
)

#: Layer types whose parameters Caffe shares in a way of its own.
SHARED_OTHERWISE = frozenset({"LSTM", "Parameter", "RNN"})

_RECURRENT = ("LSTM", "RNN")
_VIEWS = ("Flatten", "Reshape", "Split")
_VIEWS_OF_ONE = ("Concat", "Slice")
_FLOATING_POINT = "signal 8"  # SIGFPE: a whole number was divided by 0


@dataclass(frozen=True)
class Accepted:
    """One known difference.

    Attributes:
        name: short, for tables.
        why: what Caffe does and what the port does.
        applies: whether an outcome is this one; the spec is None where the port refuses the net.
    """

    name: str
    why: str
    applies: Callable[[Outcome, NetSpec | None], bool]


def _refused_for(words: str) -> Callable[[Outcome, NetSpec | None], bool]:
    pattern = re.compile(words)
    return lambda outcome, _: (
        outcome.status == outcomes.CAFFE_REFUSES and bool(pattern.search(outcome.message))
    )


def _second_loss_top(outcome: Outcome, spec: NetSpec | None) -> bool:
    found = _refused_for("loss_weight must be unspecified or specified once per top")
    return "SoftmaxWithLoss" in outcome.types and found(outcome, spec)


def _empty(outcome: Outcome, spec: NetSpec | None) -> bool:
    ended = outcome.status in (outcomes.CAFFE_REFUSES, outcomes.CAFFE_CRASHES)
    return ended and spec is not None and any(not math.prod(s) for s in spec.shapes.values())


def _nothing_selected(outcome: Outcome, _: NetSpec | None) -> bool:
    crashed = outcome.status == outcomes.CAFFE_CRASHES and outcome.message == _FLOATING_POINT
    return crashed and "Filter" in outcome.types


def may_share_memory(type: str) -> bool:
    """Whether Caffe may give a top of the type the memory of its bottom."""
    return type in _VIEWS or type in _VIEWS_OF_ONE


def _shares_its_bottom(layer: LayerSpec) -> bool:
    """Whether Caffe gives the tops the memory of the bottom."""
    single = len(layer.bottoms) == len(layer.tops) == 1
    return layer.type in _VIEWS or (single and layer.type in _VIEWS_OF_ONE)


def _shared_memory(outcome: Outcome, spec: NetSpec | None) -> bool:
    """A blob over another one's memory is written in place, or is a parameter's."""
    if not outcome.live_agrees or spec is None:
        return False
    views = {top for x in spec.layers if _shares_its_bottom(x) for top in x.tops}
    learned = {top for x in spec.layers if x.type == "Parameter" for top in x.tops}
    written = {x.tops[0] for x in spec.layers if x.tops[:1] and x.tops[0] in x.bottoms}
    return bool((views | learned) & written) or bool(views and learned)


def _overwritten(outcome: Outcome, spec: NetSpec | None) -> bool:
    """Two layers write one blob in place, or one behind the layer that made it."""
    if not outcome.live_agrees or spec is None:
        return False
    return any(x.tops[:1] and x.tops[0] in x.bottoms for x in spec.layers)


def _flat_recurrent(outcome: Outcome, spec: NetSpec | None) -> bool:
    if outcome.status != outcomes.DIFFER or spec is None:
        return False
    states = {top for x in spec.layers if x.type in _RECURRENT for top in x.tops}
    flat = {x.bottoms[0] for x in spec.layers if x.type != "Split" and _shares_its_bottom(x)}
    return bool(states & flat)


def _flat_single(outcome: Outcome, spec: NetSpec | None) -> bool:
    """Flatten or Reshape reads the top of Concat or Slice of one blob."""
    if outcome.status != outcomes.DIFFER or spec is None:
        return False
    single = [x for x in spec.layers if x.type in _VIEWS_OF_ONE and _shares_its_bottom(x)]
    flat = [x for x in spec.layers if x.type in ("Flatten", "Reshape")]
    return bool({x.tops[0] for x in single} & {x.bottoms[0] for x in flat})


def _more_labels(outcome: Outcome, _: NetSpec | None) -> bool:
    refused = outcome.status == outcomes.PORT_REFUSES and outcome.blamed == "HingeLoss"
    return refused and "expected one per item" in outcome.message


def _behind_filter(outcome: Outcome, spec: NetSpec | None) -> bool:
    return "Filter" in outcome.types and _refused_for("shape|count|n > 0")(outcome, spec)


def _not_stopped(outcome: Outcome, spec: NetSpec | None) -> bool:
    if outcome.status != outcomes.DIFFER or spec is None:
        return False
    stopped = (x for x in spec.layers if False in x.message.propagate_down)
    return any(x.type in SCRATCH for x in stopped)


def _shared_recurrent(outcome: Outcome, spec: NetSpec | None) -> bool:
    if outcome.status != outcomes.DIFFER or spec is None:
        return False
    return any(x.type in _RECURRENT and any(p.owner for p in x.params) for x in spec.layers)


def _frozen_recurrent(outcome: Outcome, spec: NetSpec | None) -> bool:
    if outcome.status != outcomes.DIFFER or spec is None or outcome.kind != "solver":
        return False
    frozen = (p.lr_mult == 0 for x in spec.layers if x.type in _RECURRENT for p in x.params)
    return any(frozen)


def _shared_parameter(outcome: Outcome, spec: NetSpec | None) -> bool:
    if outcome.status != outcomes.DIFFER or spec is None:
        return False
    blobs = {x.name for x in spec.layers if x.type == "Parameter"}
    users = [(x.name, p.owner[0]) for x in spec.layers for p in x.params if p.owner]
    return any(name in blobs or owner in blobs for name, owner in users)


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "no way back",
        "Caffe ends the process in the backward pass of ArgMax, Accuracy and Threshold, and where "
        "a label, an index or a sequence mark would get a diff; the port gives them none.",
        _refused_for("Not Implemented Yet|ackprop"),
    ),
    Accepted(
        "second top of SoftmaxWithLoss",
        "It needs two loss_weight, which Caffe 1.0 hands to its inner Softmax of one top, and "
        "refuses; the port computes.",
        _second_loss_top,
    ),
    Accepted(
        "more than four axes",
        "Layers that ask for num, channels, height or width refuse a fifth axis in Caffe; in the "
        "port they take the axis that is meant.",
        _refused_for("legacy accessors"),
    ),
    Accepted(
        "empty blobs",
        "Caffe gives a blob without values no memory and ends where a layer touches it, or divides "
        "by its count; the port computes.",
        _empty,
    ),
    Accepted(
        "Filter selects nothing",
        "Caffe's backward pass divides by the number of selected items; the port's diffs are 0.",
        _nothing_selected,
    ),
    Accepted(
        "shared memory",
        "The top of Flatten, Reshape and Split, and of Concat and Slice with one blob, is its "
        "bottom's memory in Caffe, that of a Parameter layer its parameter's: a layer in place on "
        "it changes the bottom or the parameter too, for all who read that later. The port's "
        "pycaffe does the same, its Net does not.",
        _shared_memory,
    ),
    Accepted(
        "overwritten before backward",
        "Where a layer in place has written over what an earlier layer reads in its backward pass "
        "(Exp, then Clip in place), Caffe's diffs follow from what is there then. The port's "
        "pycaffe does the same, its Net gives the derivative.",
        _overwritten,
    ),
    Accepted(
        "Flatten behind a recurrent layer",
        "In Caffe the diff of the flattened blob does not reach the net inside of LSTM or RNN, "
        "whose diffs stay 0; the port passes it on.",
        _flat_recurrent,
    ),
    Accepted(
        "Flatten behind Concat or Slice of one blob",
        "Their top shares its bottom's diff in Caffe, until Flatten or Reshape behind them gives "
        "the top another: the bottom's diff stays 0; the port passes it on.",
        _flat_single,
    ),
    Accepted(
        "HingeLoss with several labels per item",
        "Caffe takes the first N numbers of the labels, whatever their shape; the port refuses.",
        _more_labels,
    ),
    Accepted(
        "behind Filter",
        "How many items Filter passes on is known when the net runs. Caffe then checks the shapes "
        "of all layers behind it again, and ends where none are left; the port computes where it "
        "can.",
        _behind_filter,
    ),
    Accepted(
        "propagate_down: false on layers with working memory",
        "Caffe's LSTM, LSTMUnit, RNN, Scale and HingeLoss write into the diff of a bottom that "
        "`propagate_down: false` spares, and a Split in front adds it up; the port leaves it 0.",
        _not_stopped,
    ),
    Accepted(
        "recurrent layers share parameters",
        "In Caffe the steps after the first keep the layer's own weights when LSTM or RNN takes "
        "its parameters from another layer; the port uses the shared ones.",
        _shared_recurrent,
    ),
    Accepted(
        "frozen parameters of recurrent layers",
        "In Caffe LSTM and RNN compute the diffs of parameters with `lr_mult: 0` too, and these "
        "count in the norm that `clip_gradients` limits; the port computes none.",
        _frozen_recurrent,
    ),
    Accepted(
        "a Parameter layer shares its parameter",
        "In Caffe the diff of the parameter is the diff of one layer's top, whichever was written "
        "last; in the port the diffs of all users add up.",
        _shared_parameter,
    ),
)


def accepted_as(outcome: Outcome, spec: NetSpec | None) -> str:
    """The name of the accepted difference that an outcome is; '' where it is none."""
    if outcome.status in outcomes.GOOD:
        return ""
    return next((known.name for known in ACCEPTED if known.applies(outcome, spec)), "")
