"""The net and the training that several parts use: bundled, small, and the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import caffe_port
from caffe_port.live import mode
from caffe_port.net import Net
from caffe_port.solver.training import Training
from tools.gpu.parts import ROOT

Trained = tuple[list[float], dict[str, np.ndarray]]  # losses, and weights by name
SHAPES = ROOT / "examples" / "shapes_voc"
RUN = SHAPES / "caffe_run"
MODEL = (str(RUN / "recording" / "net.prototxt"), str(RUN / "model" / "train_iter_2400.caffemodel"))
BLOB, SIDE = "fc8_interp", 161

NET = """
name: "small"
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 33 dim: 33 } shape { dim: 4 dim: 1 dim: 17 dim: 17 }
  data_filler { type: "gaussian" std: 40 } data_filler { value: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p"
  pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "drop" type: "Dropout" bottom: "p" top: "p" }
layer { name: "fc7" type: "Convolution" bottom: "p" top: "fc7" convolution_param {
  num_output: 32 kernel_size: 3 pad: 2 dilation: 2 weight_filler { type: "xavier" } } }
layer { name: "fc8" type: "Convolution" bottom: "fc7" top: "fc8" convolution_param {
  num_output: 6 kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "acc" type: "SegAccuracy" bottom: "fc8" bottom: "t" top: "acc"
  seg_accuracy_param { reset: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc8" bottom: "t" top: "loss" }
"""
SOLVER = (
    'base_lr: 0.01 lr_policy: "poly" power: 0.9 momentum: 0.9 weight_decay: 0.0005 max_iter: 8 '
    "random_seed: 3 snapshot: 4 test_iter: 1 test_interval: 4 iter_size: 2 "
)


def bundled() -> Net:
    """The bundled model: LargeFOV with narrow layers, trained by Caffe."""
    return caffe_port.load(*MODEL, phase="TEST")


def images(count: int, seed: int = 0) -> Tensor:
    """(count, 3, SIDE, SIDE), of the range of an image less its mean."""
    drawn = np.random.default_rng(seed).normal(0, 60, (count, 3, SIDE, SIDE))
    return torch.from_numpy(drawn.astype(np.float32))


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """pycaffe's mode, and that of trainings, for the block."""
    where = torch.device(device)
    if where.type == "cuda":
        mode.set_device(where.index or 0)
        mode.set_mode_gpu()
    try:
        yield
    finally:
        mode.set_mode_cpu()


class Losses:
    """A watcher of a training that keeps the losses."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, step: object) -> None:
        self.found.append(float(step.loss))  # type: ignore[attr-defined]

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Tests are not kept."""

    def saved(self) -> None:
        """Nor snapshots."""


def train(
    folder: Path, device: str, more: str = "", resume: Path | None = None, **options: object
) -> Trained:
    """Trains the small net.

    Args:
        folder: for its files and snapshots.
        device: where.
        more: text for the solver, in place of the fields that it names.
        resume: a solver state.
        options: of ``Training``.
    Returns:
        The losses and the weights at the end.
    """
    folder.mkdir(exist_ok=True)
    (folder / "net.prototxt").write_text(NET)
    path, watcher = folder / "solver.prototxt", Losses()
    path.write_text(
        f'{SOLVER} {more} net: "{folder}/net.prototxt" snapshot_prefix: "{folder}/snap"'
    )
    with computing_on(device):
        torch.manual_seed(1)
        solver = Training(path, watchers=[watcher], **options)  # type: ignore[arg-type]
        solver.solve(resume)
    weights = {f"{name}/{i}": blob.data.copy()
               for name, blobs in solver.net.params.items()
               for i, blob in enumerate(blobs)}  # fmt: skip
    return watcher.found, weights


def loss_error(found: list[float], wanted: list[float]) -> float:
    """The largest distance of two runs' losses, relative."""
    if len(found) != len(wanted):
        return float("nan")
    return max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))


def weight_error(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest distance of two runs' weights, of each parameter's peak."""
    return max(
        float(np.abs(found[name] - wanted[name]).max() / max(np.abs(wanted[name]).max(), 1e-6))
        for name in wanted
    )
