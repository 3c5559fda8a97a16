"""Quicker and smaller ways to train: what each changes, and what it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.train import kept
from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.solver.modes import LayerRow, LossScale, Modes
from caffe_port.solver.step import DeviceCopy
from caffe_port.solver.training import Training
from tests.solver.making import training

CONVOLUTION = (
    "convolution_param { num_output: 4 kernel_size: 3 pad: 1 "
    'weight_filler { type: "gaussian" std: 0.2 } }'
)
STEM = """
name: "small"
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 dim: 1 dim: 6 dim: 6 }
  data_filler { type: "gaussian" } data_filler { type: "uniform" max: 3.9 } } }
"""
NET = (
    STEM
    + """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" %s }
layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 3 pad: 1 } }
layer { name: "a" type: "Convolution" bottom: "p" top: "a" param { name: "w" } %s }
layer { name: "again" type: "Dropout" bottom: "a" top: "again" }
layer { name: "b" type: "Convolution" bottom: "again" top: "b" param { name: "w" } %s }
layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "e" bottom: "t" top: "loss"
  loss_param { ignore_label: 0 } }
layer { name: "accuracy" type: "SegAccuracy" bottom: "e" bottom: "t" top: "accuracy"
  seg_accuracy_param { reset: false } }
""".replace("%s", CONVOLUTION)
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode._process, "random", None)


def made(folder: Path, **options: object) -> Training:
    mode._process.random = None
    return training(folder, "clip_gradients: 5 ", NET, **options)


def numbers(solver: Training, steps: int = 4) -> list[np.ndarray]:
    """Losses, sums and weights after some steps."""
    losses = []
    for _ in range(steps):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    blobs = [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]
    return [np.array(losses), solver.net.blobs["accuracy"].data.copy(), *blobs]


def assert_near(mine: list[np.ndarray], exact: list[np.ndarray], tolerance: float) -> None:
    for i, (one, other) in enumerate(zip(mine, exact, strict=True)):
        if i != 3:  # a bias before BatchNorm, whose diff is what rounding leaves
            np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


@pytest.fixture
def exact(tmp_path: Path) -> list[np.ndarray]:
    return numbers(made(tmp_path))


@pytest.mark.parametrize("torch_dropout", [False, True])
def test_checkpointing_gives_the_same_numbers(tmp_path: Path, torch_dropout: bool) -> None:
    expected = numbers(made(tmp_path, torch_dropout=torch_dropout))
    solver = made(tmp_path, torch_dropout=torch_dropout, modes=Modes(checkpoint=True))
    for mine, theirs in zip(numbers(solver), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert solver._fused is not None
    rows = [row for row in solver._fused._rows if isinstance(row, LayerRow)]
    assert len(rows) > 1
    assert sum(len(row.steps) for row in rows) >= 9


DEEP = STEM.replace("dim: 6", "dim: 60") + 'layer { name: "s" type: "Scale" bottom: "x" top: "s0" }'
for i in range(36):
    DEEP += f'layer {{ name: "s{i}" type: "Sigmoid" bottom: "s{i}" top: "s{i + 1}" }}'
DEEP += 'layer { name: "e" type: "Reduction" bottom: "s36" top: "e" loss_weight: 1 }'


def left(folder: Path, modes: Modes) -> float:
    """MB that the forward pass leaves for the backward one."""
    mode._process.random = None
    return kept(training(folder, net=DEEP, modes=modes))["MB after forward"]


def test_checkpointing_keeps_about_the_root_of_the_blobs(tmp_path: Path) -> None:
    assert left(tmp_path, Modes(checkpoint=True)) < left(tmp_path, Modes()) / 3


@pytest.mark.parametrize(("amp", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_sixteen_bits_come_near(
    tmp_path: Path, exact: list[np.ndarray], amp: str, tolerance: float,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    solver = made(tmp_path, modes=Modes(amp=amp))
    if solver._scale is not None:
        solver._scale.scale = 64.0  # small enough for these diffs
    mine = numbers(solver)
    assert f"-amp {amp}: products in {amp}: losses and weights are close" in capsys.readouterr().err
    assert_near(mine, exact, tolerance)
    assert any(not np.array_equal(one, other) for one, other in zip(mine, exact, strict=True))


def test_a_step_beyond_fp16_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = made(tmp_path, modes=Modes(amp="fp16"))
    assert solver._scale is not None
    solver._scale.scale = 2.0**40
    before = solver.net.params["a"][0].data.copy()
    solver.step(1)
    assert solver.iter == 1
    np.testing.assert_array_equal(solver.net.params["a"][0].data, before)
    assert "Iteration 0: diffs beyond fp16; no update." in capsys.readouterr().err
    assert solver._scale.scale == 2.0**39


def test_the_loss_scale_is_resumed(tmp_path: Path) -> None:
    solver = made(tmp_path, modes=Modes(amp="fp16"))
    assert solver._scale is not None
    solver._scale.set_state([128.0, 7])
    solver.snapshot()
    again = made(tmp_path, modes=Modes(amp="fp16"))
    again.restore(tmp_path / "snap_iter_0.solverstate")
    assert again._scale is not None
    assert again._scale.state() == [128.0, 7]


def test_the_loss_scale_doubles_after_many_good_steps() -> None:
    scale, diff = LossScale(), torch.ones(2)
    scale.set_state([4.0, 1998])
    assert scale.unscale([diff])
    assert diff.tolist() == [0.25, 0.25]
    assert scale.state() == [4.0, 1999]
    scale.unscale([diff])
    assert scale.state() == [8.0, 0]
    assert not scale.unscale([torch.tensor([torch.inf])])
    assert scale.state() == [4.0, 0]


def test_channels_last(
    tmp_path: Path, exact: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    solver = made(tmp_path, modes=Modes(channels_last=True))
    seen = []
    solver.net._net.module("a").register_forward_pre_hook(
        lambda module, bottoms: seen.append(
            bottoms[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    assert_near(numbers(solver), exact, 1e-5)
    assert all(seen)
    assert "-channels_last: other orders of summation" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_layers(
    tmp_path: Path, exact: list[np.ndarray], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    compile = torch.compile
    monkeypatch.setattr(  # what is traced and run is the same; a compiler takes seconds
        torch, "compile", lambda function, **options: compile(function, backend="aot_eager")
    )
    assert_near(numbers(made(tmp_path, modes=Modes(compile=True))), exact, 1e-5)
    assert "-compile: layers are compiled together" in capsys.readouterr().err


def test_modes_and_callbacks_exclude_each_other(tmp_path: Path) -> None:
    solver = made(tmp_path, modes=Modes(checkpoint=True))
    solver.net.after_forward(lambda layer: None)
    with pytest.raises(UsageError, match="do not go with this net: callbacks or debug_info"):
        solver.step(1)


def test_refused_arguments() -> None:
    with pytest.raises(UsageError, match="amp is 'int8'; expected bf16 or fp16"):
        Modes(amp="int8")
    with pytest.raises(UsageError, match="give one of them"):
        Modes(compile=True, checkpoint=True)


def test_parameters_on_the_device_are_copied_back(tmp_path: Path, exact: list[np.ndarray]) -> None:
    """As on a GPU, but that the other place is main memory too."""
    solver = made(tmp_path)
    solver._device_copy = DeviceCopy(
        solver.net, solver._learned, solver._history, torch.device("cpu")
    )
    for mine, theirs in zip(numbers(solver), exact, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    one = made(tmp_path)
    numbers(one)
    for mine, theirs in zip(solver._history, one._history, strict=True):
        assert torch.equal(mine, theirs)
    for name, blobs in one.net.params.items():
        for blob, other in zip(blobs, solver.net.params[name], strict=True):
            np.testing.assert_array_equal(blob.diff, other.diff)


def test_snapshots_and_tests_use_parameters_on_the_device(tmp_path: Path) -> None:
    states = []
    for away in (False, True):
        solver = made(tmp_path)
        if away:
            solver._device_copy = DeviceCopy(
                solver.net, solver._learned, solver._history, torch.device("cpu")
            )
        solver.param.snapshot, solver.param.test_interval = 2, 2
        solver.step(3)
        files = [tmp_path / f"snap_iter_2.{kind}" for kind in ("caffemodel", "solverstate")]
        states.append([path.read_bytes() for path in files])
    assert states[0] == states[1]
