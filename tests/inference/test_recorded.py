"""Optimized nets against real Caffe: every recorded layer and net, by the project's own rule."""

from __future__ import annotations

import pytest
import torch

from caffe_port.parity import read_recording
from caffe_port.parity.compare import Verdict, compare
from caffe_port.parity.tolerance import LAYER, NET
from tests.goldens_dir import cases
from tests.judging import recorded_net

MODES = ({}, {"fold": False}, {"winograd": True})


def _judge(folder, tolerance):
    """Judges every recorded output in every mode; how many."""
    net, recording = recorded_net(folder)
    fed = {name: torch.tensor(values) for name, values in recording.inputs.items()}
    found = [net.optimized(**options)(fed) for options in MODES]
    with torch.no_grad():
        own = net(fed)
        exact = net.double()({name: values.double() for name, values in fed.items()})
    judged = 0
    for blobs in found:
        assert set(blobs) == set(own)
        for name, blob in blobs.items():
            assert blob.is_contiguous()
            assert (blob.dtype, blob.shape) == (own[name].dtype, own[name].shape)
            # the net itself is held against the recording elsewhere, labels and ties included
            if name in recording.data and not torch.equal(blob, own[name]):
                caffe = recording.data[name]
                result = compare(blob.numpy(), exact[name].numpy(), caffe, tolerance)
                assert result.verdict is Verdict.PASS, (name, result)
            judged += name in recording.data
    return judged


def _cases(kind):
    folders = [f for f in cases(kind) if read_recording(f).meta.phase == "TEST"]
    return pytest.mark.parametrize("folder", folders, ids=lambda folder: folder.name)


@_cases("layers")
def test_layers(folder):
    assert _judge(folder, LAYER) > 0


@_cases("nets")
def test_nets(folder):
    assert _judge(folder, NET) > 0
