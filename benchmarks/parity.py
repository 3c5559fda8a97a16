"""The smallest mistake that `verify` finds in layers of published width.

Each recording of tests/goldens/wide is a layer as real Caffe computed it, with OpenBLAS or with the
reference BLAS. The layer's weights are changed, the recorded weights are left out (they would give
every change away), and the smallest change that fails is searched, also by the rule of the
first version: e_port at most 3 e_caffe or 8 units in the last place of the peak, e_caffe at most
1e-5 of the peak. Run it with `python -m benchmarks parity`; it measures no times.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import caffe_port
from benchmarks.measure import report, versions
from caffe_port.parity import Recording, read_recording
from caffe_port.parity.judge import Row
from caffe_port.parity.recording import Arrays
from caffe_port.parity.verify import verify

FOLDER = Path(__file__).parent.parent / "tests" / "goldens" / "wide"
LAYER = "l"
TAPS = 40
# relative changes that are tried, from large to small
SIZES = [10 ** (-power / 4) for power in range(4, 33)]

Change = Callable[[list[Tensor], float], None]


def scale_all(params: list[Tensor], size: float) -> None:
    """All weights times 1 + size."""
    params[0].mul_(1 + size)


def scale_filter(params: list[Tensor], size: float) -> None:
    """The weights of one output channel (of one input channel in a Deconvolution)."""
    params[0][1].mul_(1 + size)


def move_bias(params: list[Tensor], size: float) -> None:
    """The bias of one channel, by ``size`` of the standard deviation of the layer's sums."""
    weight = params[0]
    params[1][1] += size * float(weight.std()) * (weight[1].numel() ** 0.5)


CHANGES: dict[str, Change] = {
    "all weights, relative": scale_all,
    "one filter, relative": scale_filter,
    "one bias, of the spread": move_bias,
}


def fails_now(rows: tuple[Row, ...]) -> bool:
    """By the present rule."""
    return any(row.comparison.verdict.value == "fail" for row in rows)


def failed_before(rows: tuple[Row, ...]) -> bool:
    """By the first version's rule, on the same figures."""
    for row in rows:
        c = row.comparison
        if c.e_port is None or c.e_caffe is None or not c.peak or c.ulps is None:
            continue
        part = 4e-6 * c.peak if row.kind == "pdiff" else 0.0
        allowed = max(3 * c.e_caffe, 8 * c.e_port / c.ulps if c.ulps else 0.0, part)
        if c.e_caffe > 1e-5 * c.peak or c.e_port > allowed:
            return True
    return False


def _rows(net: caffe_port.Net, recording: Recording, change: Callable[[list[Tensor]], None]):  # type: ignore[no-untyped-def]
    changed = copy.deepcopy(net)
    with torch.no_grad():
        change(changed.layer_params(LAYER))
    return verify(changed, recording).rows


def _smallest(
    net: caffe_port.Net, recording: Recording, change: Change, fails: Callable[..., bool]
) -> float | None:
    found = None
    for size in SIZES:
        if not fails(_rows(net, recording, lambda params, size=size: change(params, size))):
            return found
        found = size
    return found


def _lost_taps(net: caffe_port.Net, recording: Recording, fails: Callable[..., bool]) -> float:
    """The share of lost taps, drawn at random, that is found."""
    generator = torch.Generator().manual_seed(0)
    count = net.layer_params(LAYER)[0].numel()
    places = torch.randint(0, count, (TAPS,), generator=generator).tolist()
    found = [
        fails(_rows(net, recording, lambda params, at=at: params[0].view(-1)[at].zero_()))
        for at in places
    ]
    return sum(found) / TAPS


def measure(folder: Path) -> dict[str, dict[str, object]]:
    """What both rules say of one recording: name of the rule -> figures."""
    recording = read_recording(folder)
    net = caffe_port.load(
        folder / "net.prototxt", folder / "net.caffemodel", phase=recording.meta.phase
    )
    bare = dataclasses.replace(recording, params=Arrays({}))
    rules = {"now": fails_now, "first version": failed_before}
    table: dict[str, dict[str, object]] = {}
    for rule, fails in rules.items():
        right = "fails" if fails(_rows(net, bare, lambda params: None)) else "passes"
        row: dict[str, object] = {"the right layer": right}
        for name, change in CHANGES.items():
            smallest = _smallest(net, bare, change, fails)
            row[name] = "-" if right == "fails" else f"{smallest:.0e}" if smallest else "not found"
        row["lost taps found"] = "-" if right == "fails" else f"{_lost_taps(net, bare, fails):.0%}"
        table[rule] = row
    return table


def main() -> None:
    """Measures every bundled recording of published width."""
    tables = {}
    for folder in sorted(FOLDER.iterdir()):
        backward = json.loads((folder / "case.json").read_text())["backward"]
        name = f"{folder.name} ({'forward and backward' if backward else 'forward'})"
        tables[name] = measure(folder)
    report("parity", {"versions": versions("torch", "numpy"), "tables": tables})
