"""Optimized nets against real Caffe: every recorded layer and net, by the project's own rule."""

from __future__ import annotations

import pytest
import torch

from caffe_port.inference.engines import installed
from caffe_port.parity import read_recording
from tests.goldens_dir import cases
from tests.verifying import assert_whole_run_is_right, recorded_net

MODES = ({"engine": "torch"}, {"fold": False}, *({"engine": name} for name in installed()[1:]))
# where an engine has no form of a layer, torch computes
pytestmark = pytest.mark.filterwarnings("ignore::caffe_port.errors.EngineWarning")


def _judge(folder):
    """Every recorded output in every mode; how many. The net itself is verified elsewhere."""
    net, recording = recorded_net(folder)
    fed = {name: torch.tensor(values) for name, values in recording.inputs.items()}
    found = [net.optimized(**options)(fed) for options in MODES]
    with torch.no_grad():
        own = net(fed)
    compared, changed = 0, []
    for blobs in found:
        assert set(blobs) == set(own)
        for name, blob in blobs.items():
            assert blob.is_contiguous()
            assert (blob.dtype, blob.shape) == (own[name].dtype, own[name].shape)
        changed.append({n: b.numpy() for n, b in blobs.items() if not torch.equal(b, own[n])})
        compared += len(set(blobs) & set(recording.data))
    if any(changed):
        assert_whole_run_is_right(net, recording.inputs, *changed)
    return compared


def _cases(kind):
    folders = [f for f in cases(kind) if read_recording(f).meta.phase == "TEST"]
    return pytest.mark.parametrize("folder", folders, ids=lambda folder: folder.name)


@_cases("layers")
def test_layers(folder):
    assert _judge(folder) > 0


@_cases("nets")
def test_nets(folder):
    assert _judge(folder) > 0
