"""Nets of the kinds 'layer' and 'net': one pass on both sides, compared as `verify` does it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe_port
from caffe_port.errors import ParityError
from caffe_port.parity import read_recording
from caffe_port.parity.topology import is_random
from caffe_port.parity.verify import VerifyResult, verify
from caffe_port.spec import NetSpec
from tools.differential.accepted import SCRATCH
from tools.differential.cases import Case
from tools.differential.comparing import (
    LOOSE,
    TIGHT,
    difference,
    form_difference,
    has_nan,
    identical,
)
from tools.differential.drafts import input_values, output_diffs, param_values, weighted_tops
from tools.differential.goldens import write_recording
from tools.differential.sides import Answer, Arrays, CaffeSide, ask_port

_ROUNDED = 1e-6  # of the largest value or diff: what may be left where such numbers cancel
_VALUES, _DIFFS = ("data", "after"), ("diff", "pdiff")
_PARTS = _VALUES + _DIFFS


@dataclass(frozen=True)
class Difference:
    """Where the two sides differ.

    Attributes:
        blamed: the layer type where it starts; '' where that is not known.
        part: of the recording: 'data', 'diff', ...; or 'shape', 'file', 'weights', ...
        message: what was found.
        live_agrees: the port's pycaffe computes otherwise than its Net, and as Caffe does.
    """

    blamed: str
    part: str
    message: str
    live_agrees: bool = False


@dataclass
class Exchange:
    """What both sides were given and answered.

    Attributes:
        mine, theirs: the port's answer and Caffe's.
        given: the arrays that both got.
        difference: what differs, when both answered.
        undefined: Caffe's answer has NaN, and the port's at the same places.
    """

    mine: Answer
    theirs: Answer
    given: Arrays
    difference: Difference | None = None
    undefined: bool = False

    @property
    def answered(self) -> bool:
        """Whether both sides carried out the request."""
        return self.mine.ended == "ok" == self.theirs.ended


def given_arrays(spec: NetSpec, seed: int) -> Arrays:
    """Inputs and parameters for a net."""
    given: Arrays = {f"input/{k}": v for k, v in input_values(spec, seed).items()}
    for (layer, index), values in param_values(spec, seed).items():
        given[f"param/{layer}/{index}"] = values
    return given


def one_pass(caffe: CaffeSide, case: Case, text: str, spec: NetSpec, work: Path) -> Exchange:
    """Forward, and backward where the case says so."""
    given = given_arrays(spec, case.seed)
    if case.backward:
        given.update({f"topdiff/{k}": v for k, v in output_diffs(spec, case.seed).items()})
    request = {"do": "net", "net": text, "phase": case.phase, "seed": case.seed,
               "backward": case.backward, "save": True, "starts": starts(spec, given)}  # fmt: skip
    mine = ask_port(request, given, caffe.timeout)
    exchange = Exchange(mine, caffe.ask(request, given), given)
    if exchange.answered:
        _compare(exchange, case, text, spec, work)
    return exchange


def starts(spec: NetSpec, given: Arrays) -> list[str]:
    """Blobs whose diffs the backward pass starts from: those that were set, and losses."""
    prefix = "topdiff/"
    named = {name.removeprefix(prefix) for name in given if name.startswith(prefix)}
    return sorted(named.union(weighted_tops(spec)))


def _compare(exchange: Exchange, case: Case, text: str, spec: NetSpec, work: Path) -> None:
    mine, theirs = exchange.mine, exchange.theirs
    answered = comparable(spec, theirs.arrays)
    exchange.difference = built_difference(mine, theirs)
    if exchange.difference is not None:
        return
    if has_nan(theirs.arrays):
        exchange.undefined = True
        exchange.difference = _live_difference(mine, answered, "Caffe", LOOSE)
        return
    write_recording(work, text, case.phase, exchange.given, answered, {})
    net = caffe_port.load(work / "net.prototxt", work / "net.caffemodel", phase=case.phase)
    # the same numbers need no verdict
    recorded = None if identical(mine.arrays, answered) else recorded_difference(work, net)
    apart = None  # what pycaffe makes otherwise than the net under autograd
    if not draws(spec):
        own = {k: v for k, v in _own_arrays(net, exchange.given, theirs).items() if k in answered}
        own |= _own_states(net, answered)
        apart = _live_difference(mine, own, "the port's Net", TIGHT)
    live = None
    if apart is not None or draws(spec):
        live = _live_difference(mine, answered, "Caffe", LOOSE)
    exchange.difference = live
    if recorded is not None:
        exchange.difference = replace(recorded, live_agrees=live is None and apart is not None)


def _own_arrays(net: caffe_port.Net, given: Arrays, theirs: Answer) -> Arrays:
    """Data and diffs of a pass of the port's Net, which `verify` has compared."""
    inputs = {k.removeprefix("input/"): v for k, v in given.items() if k.startswith("input/")}
    blobs = net(inputs, keep="all")
    found = {f"data/{name}": values.detach().numpy() for name, values in blobs.items()}
    pairs = [(blobs[name], values) for name, values in theirs.part("topdiff").items()]
    pairs = [(blob, values) for blob, values in pairs if blob.requires_grad]
    if pairs:
        diffs = [torch.from_numpy(values).reshape(blob.shape) for blob, values in pairs]
        torch.autograd.backward([blob for blob, _ in pairs], diffs)
    for name in blobs:
        if (diff := blobs.diff(name)) is not None:
            found[f"diff/{name}"] = diff.numpy()
    return found


def _own_states(net: caffe_port.Net, answered: Arrays) -> Arrays:
    """The parameters that Caffe's pass changed, as the Net's pass has left them."""
    found = {}
    for key in answered:
        part, _, place = key.partition("/")
        if part == "after":
            layer, _, index = place.rpartition("/")
            found[key] = net.layer_params(layer)[int(index)].detach().numpy()
    return found


def comparable(spec: NetSpec, answered: Arrays) -> Arrays:
    """Leaves out diffs that no backward pass made.

    These are diffs that were set and that no layer in place passed back, and what layers of
    ``accepted.SCRATCH`` leave where no diff is needed.
    """
    needed, left_out = set(), set()
    for layer in spec.layers:
        for blob, wanted in zip(layer.bottoms, layer.bottom_needs_backward, strict=True):
            if wanted and layer.needs_backward:
                needed.add(f"diff/{blob}")
            elif layer.type in SCRATCH:
                left_out.add(f"diff/{blob}")
        for index, param in enumerate(layer.params):
            if layer.type in SCRATCH and param.lr_mult == 0:
                left_out.add(f"pdiff/{layer.name}/{index}")
    walked = [layer for layer in spec.layers if layer.needs_backward]
    in_place = {top for layer in walked for top in layer.tops if top in layer.bottoms}
    left_out -= needed
    left_out |= {name.removeprefix("top") for name in answered if name.startswith("topdiff/")} - {
        f"diff/{top}" for top in in_place
    }
    left_out |= {f"diff/{top}" for top in _stopped_in_place(spec)}
    return {name: value for name, value in answered.items() if name not in left_out}


def _stopped_in_place(spec: NetSpec) -> set[str]:
    """Blobs whose diff stays that of a later layer: one in place passes none back."""
    return {
        blob
        for layer in spec.layers
        for blob, wanted in zip(layer.bottoms, layer.bottom_needs_backward, strict=True)
        if blob in layer.tops and not (wanted and layer.needs_backward)
    }


def built_difference(mine: Answer, theirs: Answer) -> Difference | None:
    """How the blobs or parameters of the two nets differ in name or shape."""
    for what in ("blobs", "params"):
        a, b = (dict(side.header[what]) for side in (mine, theirs))
        if set(a) != set(b):
            names = ", ".join(sorted(set(a) ^ set(b)))
            return Difference("", "shape", f"{what} that only one side has: {names}")
        for name, shape in b.items():
            flaw = _shapes_differ(a[name], shape)
            if flaw:
                return Difference("", "shape", f"{what} '{name}': {flaw}")
    return None


def _shapes_differ(mine: list[Any], theirs: list[Any]) -> str:
    if mine and isinstance(mine[0], list) and len(mine) == len(theirs):
        return next(filter(None, map(_shapes_differ, mine, theirs)), "")
    if mine == theirs:
        return ""
    return form_difference(_Shaped(mine), _Shaped(theirs))  # type: ignore[arg-type]


class _Shaped:
    """A shape in place of an array."""

    def __init__(self, shape: list[int]) -> None:
        self.shape, self.ndim = tuple(shape), len(shape)


def recorded_difference(folder: Path, net: caffe_port.Net) -> Difference | None:
    """What `verify` finds in a recording that was just made."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = verify(net, read_recording(folder))
    except ParityError as error:
        if "can be compared" in str(error):
            return None
        return Difference("", "recording", str(error))
    return _first_bad(result, net.spec)


def _first_bad(result: VerifyResult, spec: NetSpec) -> Difference | None:
    bad = result.first_bad
    if bad is None:
        return None
    types = {layer.name: layer.type for layer in spec.layers}
    blamed = [types[name] for name in bad.layers if name in types]
    return Difference(
        blamed[0] if blamed else "", bad.kind, f"{bad.kind} '{bad.name}': {bad.comparison.reason}"
    )


def _live_difference(
    mine: Answer, wanted: Arrays, whose: str, tolerance: float
) -> Difference | None:
    """What pycaffe's interface shows that is another result, not another rounding."""
    floors = {
        part: _ROUNDED * _peak(wanted, parts) for parts in (_VALUES, _DIFFS) for part in parts
    }
    for key, values in wanted.items():
        part, _, name = key.partition("/")
        if part not in _PARTS:
            continue
        if flaw := difference(mine.arrays.get(key), values, tolerance, floors[part]):
            message = f"{part} '{name}' through pycaffe, compared with {whose}: {flaw}"
            return Difference("", f"live {part}", message)
    return None


def _peak(arrays: Arrays, parts: tuple[str, ...]) -> float:
    """The largest number of all arrays of some parts."""
    found = [values for key, values in arrays.items() if key.partition("/")[0] in parts]
    peaks = [float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) for values in found]
    return max(peaks, default=0.0)


def draws(spec: NetSpec) -> bool:
    """Whether a layer of the net draws random numbers."""
    return any(is_random(layer, spec.phase) for layer in spec.layers)


def sharing_values(spec: NetSpec, given: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What every parameter holds, shared ones too: '<layer>/<i>' -> values."""
    found = {}
    for layer in spec.layers:
        for index, param in enumerate(layer.params):
            owner = param.owner or (layer.name, index)
            values = given[f"param/{owner[0]}/{owner[1]}"]
            found[f"{layer.name}/{index}"] = values.reshape(-1)
    return found
