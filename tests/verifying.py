"""Compares the port with recorded cases: by the parity rule, and through pycaffe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import caffe_port
import caffe_port.pycaffe as caffe
from caffe_port.parity import Recording, read_recording
from caffe_port.parity.compare import Exact, Verdict, compare
from caffe_port.parity.tolerance import UNIT
from caffe_port.parity.verify import VerifyResult, verify
from caffe_port.parity.walk import of_whole_net
from caffe_port.proto import parse_net
from caffe_port.spec.ops import known_types
from tests.goldens_dir import dialect_of


def recorded_net(folder: Path) -> tuple[caffe_port.Net, Recording]:
    """A recorded case's net, with its weights if it has any, and its recording."""
    recording = read_recording(folder)
    weights = folder / "net.caffemodel"
    net = caffe_port.load(
        folder / "net.prototxt", weights if weights.is_file() else None,
        phase=recording.meta.phase, dialect=dialect_of(folder),
    )  # fmt: skip
    return net, recording


def unknown_types(folder: Path) -> set[str]:
    net = parse_net((folder / "net.prototxt").read_text()).message
    return {layer.type for layer in net.layer} - set(known_types())


def verify_case(folder: Path, isolate: bool) -> VerifyResult:
    """Asserts that no recorded array fails, and that some are compared."""
    net, recording = recorded_net(folder)
    result = verify(net, recording, isolate=isolate)
    bad = [(row.kind, row.name, row.comparison.reason) for row in result.rows
           if row.comparison.verdict is Verdict.FAIL]  # fmt: skip
    assert bad == []
    compared = {row.kind for row in result.rows if row.comparison.verdict is Verdict.PASS}
    assert "data" in compared
    if recording.meta.backward and recording.param_diffs:
        assert "pdiff" in compared
    return result


def assert_whole_run_is_right(
    net: caffe_port.Net, inputs: Mapping[str, np.ndarray], *runs: Mapping[str, np.ndarray]
) -> None:
    """Asserts that blobs of other engines are right up to float32 rounding in the whole net.

    Args:
        net: float32.
        inputs: blob name -> float32 array.
        runs: each engine's blobs.
    """
    with torch.no_grad():
        doubled = {name: torch.from_numpy(x).double() for name, x in inputs.items()}
        names = sorted({name for run in runs for name in run})
        exact = copy.deepcopy(net).double()(doubled, keep=names)
    terms = of_whole_net(net, inputs)
    for name, blob in [entry for found in runs for entry in found.items()]:
        value = exact[name].numpy()
        sigma = terms[name].sigma.numpy().reshape(value.shape)
        sigma = sigma + interp_error(net) * np.abs(value).max(initial=0)
        side = Exact(value, sigma)
        result = compare(blob, side, value.astype(np.float32), side)
        assert result.verdict is Verdict.PASS, (name, result)


def interp_error(net: caffe_port.Net) -> float:
    """The allowed error of other engines' Interp, relative to the peak.

    They compute its positions by other formulas than Caffe, rounded in the last place of the side.
    """
    sides = [max(layer.bottom_shapes[0][2:]) for layer in net.spec.layers if layer.type == "Interp"]
    return UNIT * max(sides, default=0)


def verify_changed_params(folder: Path) -> int:
    """Asserts the parameters that a forward pass changes in pycaffe; returns their number."""
    recording = read_recording(folder)
    phase = getattr(caffe, recording.meta.phase)
    net = caffe.Net(str(folder / "net.prototxt"), str(folder / "net.caffemodel"), phase)
    views = {key: net.params[key[0]][key[1]].data for key in recording.after}
    for name, values in recording.inputs.items():
        net.blobs[name].data[...] = values
    net.forward()
    for key, wanted in recording.after.items():
        peak = np.abs(wanted).max()
        assert np.abs(views[key] - wanted).max() <= 1e-5 * peak, key
    return len(views)
