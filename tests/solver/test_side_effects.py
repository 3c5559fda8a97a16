"""Layers in place train as in Caffe, as recorded in tests/goldens/solvers/in_place.npz."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffe_port.errors import UsageError
from caffe_port.solver.modes import Modes
from caffe_port.solver.step import FusedStep, why_not_fused
from caffe_port.solver.training import Training
from tests.goldens_dir import GOLDENS
from tests.solver.making import solver_file
from tests.solver.test_ranks import Alike
from tools import record_in_place as recorder

RECORDED = np.load(GOLDENS / "solvers" / "in_place.npz")
NETS = recorder.nets()
GROUPS = sorted({name.split(", ")[0] for name in NETS})


class Fused(Training):
    """Trains in one graph of autograd, whatever the layers in place do."""

    def _clear_diffs(self) -> None:
        self._fused = self._fused or FusedStep(self.net)
        self._fused.clear()


def trained(folder: Path, name: str, kind: type[Training] = Training) -> tuple[Training, float]:
    """A training of a recorded net, and how far it is from Caffe's, relative to the peak."""
    (folder / "net.prototxt").write_text(NETS[name])
    (folder / "solver.prototxt").write_text(recorder.SOLVER % (folder / "net.prototxt"))
    training, found = kind(folder / "solver.prototxt"), {}
    recorder.train(training, found, name)
    errors = [np.abs(found[key] - RECORDED[key]).max() / np.abs(RECORDED[key]).max()
              for key in (f"{name}/outputs", f"{name}/update")]  # fmt: skip
    return training, float(max(errors))


@pytest.mark.parametrize("group", GROUPS)
def test_a_training_gives_caffes_numbers(tmp_path: Path, group: str) -> None:
    in_vain = 0
    names = [name for name in NETS if name.split(", ")[0] == group]
    for name in names:
        training, error = trained(tmp_path, name)
        assert error < 2e-5, name
        if training.net._net.spec.side_effects:
            in_vain += trained(tmp_path, name, Fused)[1] < 2e-5
        else:
            assert not why_not_fused(training.net), name
    # a few layers by layer that need not be: such as ReLU behind Softmax, which changes nothing
    assert in_vain <= (5 if group.startswith("ELU in elu_param") else 2)


def test_the_recording_is_of_these_nets() -> None:
    assert {key.rpartition("/")[0] for key in RECORDED} == set(NETS)


SIGMOID_DROPOUT = NETS["Sigmoid, then Dropout"]
WHY = (
    r"layer 'w' \(Dropout\) overwrites blob 'y', which the backward pass of layer 'y' \(Sigmoid\) "
    "reads; give the layer in place a top of its own"
)


def test_the_log_says_why_a_net_is_trained_layer_by_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, "Sigmoid, then Dropout")
    assert re.search(f"The net is trained layer by layer: {WHY}", capsys.readouterr().err)
    trained(tmp_path, "ReLU in, then Dropout")
    assert "layer by layer" not in capsys.readouterr().err


def test_the_faster_ways_are_refused(tmp_path: Path) -> None:
    solver = solver_file(tmp_path, net=SIGMOID_DROPOUT)
    training = Training(solver, modes=Modes(checkpoint=True))
    with pytest.raises(UsageError, match="-checkpoint and several processes do not .*: " + WHY):
        training.step(1)
    with pytest.raises(UsageError, match=WHY):
        Training(solver, ranks=Alike(0, 2)).step(1)
