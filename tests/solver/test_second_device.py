"""Trainings on a device that is not main memory: the weights, histories, logs and snapshots of a
training in main memory, which the same kernels compute."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_port.live import mode
from caffe_port.solver import log, snapshot
from caffe_port.solver.modes import Modes
from caffe_port.solver.training import Training
from caffe_port.weights import read_weights
from caffe_port.weights.solver_state import read_solver_state
from tests.second_device import second_device
from tests.solver.making import said, training

NET = """
name: "tiny"
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 9 dim: 9 } shape { dim: 4 dim: 1 dim: 5 dim: 5 }
  data_filler { type: "gaussian" } data_filler { value: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p"
  pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "drop" type: "Dropout" bottom: "p" top: "p" }
layer { name: "f" type: "Convolution" bottom: "p" top: "f" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { std: 0.3 type: "gaussian" } } }
layer { name: "g" type: "Convolution" bottom: "f" top: "g" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { std: 0.3 type: "gaussian" } } }
layer { name: "acc" type: "SegAccuracy" bottom: "g" bottom: "t" top: "acc"
  seg_accuracy_param { reset: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "g" bottom: "t" top: "loss" }
"""
MORE = (
    "snapshot: 2 snapshot_diff: true test_iter: 1 test_interval: 2 max_iter: 4 average_loss: 2 "
    "weight_decay: 0.01 "
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_level", [])
    monkeypatch.setattr(mode._process, "random", None)


@contextlib.contextmanager
def computing_on(device: torch.device | None):
    """Makes trainings of the block compute there; None is the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if device is not None:
            patch.setattr(mode, "device", lambda: device)
        yield


def everything(folder: Path, solver: Training) -> dict[str, np.ndarray]:
    """All that two snapshots have, and what is in the blobs at the end."""
    found = {}
    for step in (2, 4):
        stem = folder / f"snap_iter_{step}"
        for layer in read_weights(f"{stem}.caffemodel").layers:
            for i, blob in enumerate(layer.blobs):
                found[f"{step} {layer.name} {i}"] = np.array(blob.data)
                if blob.diff is not None:
                    found[f"{step} {layer.name} {i} diff"] = np.array(blob.diff)
        for i, values in enumerate(read_solver_state(f"{stem}.solverstate").history):
            found[f"{step} history {i}"] = np.array(values)
    for name, blobs in solver.net.params.items():
        found |= {f"end {name} {i}": blob.data.copy() for i, blob in enumerate(blobs)}
        found |= {f"end {name} {i} diff": blob.diff.copy() for i, blob in enumerate(blobs)}
    return found


def trained(folder: Path, more: str, device: torch.device | None, **options: object):
    folder.mkdir()
    torch.manual_seed(0)
    with computing_on(device):
        solver = training(folder, more, NET, **options)
        solver.solve()
    return everything(folder, solver)


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ("clip_gradients: 1 ", {}),
        ('iter_size: 2 type: "Adam" ',
         {"torch_dropout": True, "modes": Modes(channels_last=True)}),
    ],
)  # fmt: skip
def test_a_training_and_its_snapshots(tmp_path, capsys, more, options):
    wanted = trained(tmp_path / "cpu", MORE + more, None, **options)
    logged = said(capsys.readouterr().err)
    with second_device() as device:
        found = trained(tmp_path / "device", MORE + more, device, **options)
    assert found.keys() == wanted.keys()
    assert any(name.endswith(" diff") and name.startswith("2 ") for name in found)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    again = [line.replace(f"{tmp_path}/device", f"{tmp_path}/cpu")
             for line in said(capsys.readouterr().err)]  # fmt: skip
    assert again == logged


@pytest.mark.parametrize("first", ["cpu", "device"])
def test_resuming_on_another_device(tmp_path, first):
    """What was trained on one device resumes on the other as if nothing had happened."""
    with second_device() as device:
        devices = {"cpu": None, "device": device}
        wanted = trained(tmp_path / "whole", MORE, devices.pop(first))
        (other,) = devices.values()
        with computing_on(other):
            again = training(tmp_path / "whole", MORE, NET)
            again.restore(tmp_path / "whole" / "snap_iter_2.solverstate")
            again.solve()
    for name, blobs in again.net.params.items():
        for i, blob in enumerate(blobs):
            np.testing.assert_array_equal(blob.data, wanted[f"end {name} {i}"], err_msg=name)


class Cuda:
    """A GPU's generator."""

    def __init__(self) -> None:
        self.state, self.places = torch.arange(16, dtype=torch.uint8), []

    def get_rng_state(self, device: torch.device) -> torch.Tensor:
        self.places.append(device)
        return self.state

    def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
        self.places.append(device)
        self.state = state


def test_the_state_of_a_gpus_generator_is_stored(tmp_path, monkeypatch):
    """Masks of torch's dropout come from there."""
    solver = training(tmp_path, MORE, NET)
    solver.solve()
    device, cuda = torch.device("cuda", 1), Cuda()
    monkeypatch.setattr(mode, "device", lambda: device)
    monkeypatch.setattr(torch, "cuda", cuda)
    state, weights = (tmp_path / f"snap_iter_2.{kind}" for kind in ("solverstate", "caffemodel"))
    run_state = snapshot.RunState([solver.net, *solver.test_nets])
    run_state.write(tmp_path / "r", state, weights, snapshot.Smoothing((1.0,), 1.0, 0))
    cuda.state = torch.zeros(16, dtype=torch.uint8)
    run_state.read(tmp_path / "r", state, weights)
    assert torch.equal(cuda.state, torch.arange(16, dtype=torch.uint8))
    assert set(cuda.places) == {device}
    monkeypatch.setattr(mode, "device", lambda: torch.device("cpu"))
    assert run_state.read(tmp_path / "r", state, weights) is not None
