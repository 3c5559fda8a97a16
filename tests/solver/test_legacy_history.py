"""A solver state with the old four axes, as DeepLab v1 wrote them, resumed and written again.

Recorded with real Caffe 1.0: `leg_old.solverstate` is its own state of iteration 2 with num,
channels, height and width in place of the shapes; `caffes.solverstate` is the state that it wrote
two steps after it restored that one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from caffe_port.proto import caffe_pb2
from caffe_port.weights.solver_state import read_solver_state
from tests.goldens_dir import ROOT

RECORDED = ROOT / "tests" / "solver" / "legacy_history"


def test_the_histories_keep_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    solver = caffe.SGDSolver("leg_solver.prototxt")
    solver.restore("leg_old.solverstate")
    solver.step(2)
    found = read_solver_state("leg_iter_4.solverstate")
    wanted = read_solver_state("caffes.solverstate")
    assert [array.shape for array in found.history] == [(1, 1, 2, 3), (1, 1, 1, 2)]
    for ours, caffes in zip(found.history, wanted.history, strict=True):
        np.testing.assert_allclose(ours, caffes, rtol=1e-6)
    message = caffe_pb2.SolverState.FromString(Path("leg_iter_4.solverstate").read_bytes())
    assert list(message.history[0].shape.dim) == [1, 1, 2, 3]
    assert not message.history[0].HasField("num")
    assert (found.iter, found.learned_net) == (wanted.iter, wanted.learned_net)
