"""The port against real Caffe: the recorded LargeFOV nets, and how small an error is found."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from caffe_port import load
from caffe_port.errors import LayerError
from caffe_port.parity import read_recording, tolerance
from caffe_port.parity.compare import Verdict
from caffe_port.parity.report import worst
from caffe_port.parity.verify import verify
from tests.goldens_dir import GOLDENS, SHAPES, cases
from tests.parity.test_record_caffe import load_tool

RUNS = [case for case in cases("nets") if "largefov" in case.name]
RUNS.append(SHAPES / "caffe_run" / "recording")


def open_case(folder, **options):
    recording = read_recording(folder)
    weights = folder / "net.caffemodel"
    return load(folder / "net.prototxt", weights, phase=recording.meta.phase, **options), recording


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
def test_largefov_equals_caffe(folder, isolate):
    result = verify(*open_case(folder), isolate=isolate)
    bad = [(r.kind, r.name, r.comparison.reason) for r in result.rows
           if r.comparison.verdict is Verdict.FAIL]  # fmt: skip
    assert bad == []
    limit = tolerance.CAFFE_LAYER  # far below what a whole net may show
    assert 0 < worst(result, "e_caffe")["relative"] < limit
    assert result.count(Verdict.PASS) > (8 if isolate else 20)


@pytest.mark.parametrize("layer", ["conv1_2", "conv3_1", "fc6"])
def test_a_small_error_is_found_where_it_is(layer):
    net, recording = open_case(GOLDENS / "nets" / "deeplab1_largefov_v1_hole")
    handle = net.module(layer).register_forward_hook(
        lambda _, __, tops: tuple(top * (1 + 3e-4) for top in tops)
    )
    for isolate in (False, True):
        first = verify(net, recording, isolate=isolate).first_bad
        assert (first.kind, first.name, first.layers[0]) == ("data", layer, layer)
    handle.remove()
    assert verify(net, recording).passed


def test_a_weight_off_by_one_bit_is_found():
    net, recording = open_case(GOLDENS / "layers" / "bvlc_conv_group")
    with torch.no_grad():
        weight = net.layer_params("op")[0].view(-1)
        weight[3] = torch.nextafter(weight[3], torch.tensor(1e9))
    first = verify(net, recording).first_bad
    assert (first.kind, first.name, first.comparison.differing) == ("param", "op/0", 1)


def test_every_recorded_layer_that_the_port_has_equals_caffe():
    checked, bad = 0, []
    for folder in cases("layers"):
        weights = folder / "net.caffemodel"
        recording = read_recording(folder)
        try:
            net = load(folder / "net.prototxt", weights if weights.is_file() else None,
                       phase=recording.meta.phase)  # fmt: skip
        except LayerError:  # a type or a form of it that the port refuses
            continue
        for isolate in (False, True):
            first = verify(net, recording, isolate=isolate).first_bad
            if first is not None:
                bad.append((folder.name, first.kind, first.name, first.comparison.reason))
            checked += 1
    assert bad == []
    assert checked >= 200


def test_the_recorder_runs_on_the_ports_own_pycaffe(tmp_path, monkeypatch):
    import caffe_port.pycaffe

    monkeypatch.setitem(sys.modules, "caffe", caffe_port.pycaffe)
    folder = GOLDENS / "nets" / "deeplab_largefov_train"
    golden = read_recording(folder)
    arguments = [str(folder / "net.prototxt"), str(folder / "net.caffemodel"), "--phase", "TRAIN"]
    for blob in golden.inputs:
        np.save(tmp_path / f"{blob}.npy", golden.inputs[blob])
        arguments += ["--array", f"{blob}={tmp_path / blob}.npy"]
    out = tmp_path / "r.h5"
    assert load_tool().main([*arguments, "--backward", "-o", str(out)]) == 0
    net, _ = open_case(folder)
    recording = read_recording(out)
    result = verify(net, recording)
    assert result.passed
    assert set(golden.data) < set(recording.data)
    assert recording.topdiffs["loss"] == 1
    assert set(golden.param_diffs) == set(recording.param_diffs)
