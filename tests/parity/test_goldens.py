"""The port against real Caffe: every recorded net and layer, and how small an error is found."""

from __future__ import annotations

import pytest
import torch

from caffe_port import load
from caffe_port.parity import read_recording
from caffe_port.parity.compare import Verdict
from caffe_port.parity.report import worst
from caffe_port.parity.verify import verify
from tests.goldens_dir import GOLDENS, SHAPES, cases
from tests.verifying import verify_case

RUNS = cases("nets")
RUNS.append(SHAPES / "caffe_run" / "recording")


def open_case(folder, **options):
    recording = read_recording(folder)
    weights = folder / "net.caffemodel"
    return load(folder / "net.prototxt", weights, phase=recording.meta.phase, **options), recording


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
def test_every_recorded_net_equals_caffe(folder, isolate):
    result = verify_case(folder, isolate)
    assert 0 < worst(result, "e_caffe")["relative"] < 1e-5
    assert result.count(Verdict.PASS) >= 13


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


@pytest.mark.parametrize("folder", cases("layers"), ids=lambda folder: folder.name)
def test_every_recorded_layer_equals_caffe_alone(folder):
    """Whole nets of one layer are compared in layers/test_goldens.py."""
    verify_case(folder, isolate=True)
