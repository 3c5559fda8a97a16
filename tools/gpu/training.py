"""Trainings on the device, next to the same on the CPU, alone and with one process of NCCL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed

from caffe_port.ranks import BatchRanks
from tools.gpu.nets import Trained, loss_error, train, weight_error
from tools.gpu.outcome import Row, Setting, within

OF_LOSS, OF_PEAK = 1e-4, 1e-3
SOLVERS = ("SGD", "Nesterov", "Adam", "RMSProp", "AdaGrad", "AdaDelta")
GROUP = "training: losses and weights of the CPU"


@contextmanager
def one_process(device: str) -> Iterator[BatchRanks]:
    """The group that torchrun would make with one process: NCCL for a GPU's tensors."""
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield BatchRanks(0, 1)
    finally:
        distributed.destroy_process_group()


def run(setting: Setting) -> Iterator[Row]:
    """NCCL first, then every solver, then resuming."""
    torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if setting.wants("NCCL"):
            yield from with_nccl(folder, setting)
        for kind in SOLVERS[:1] if setting.small else SOLVERS:
            if setting.wants(kind):
                yield from solver(folder, kind, setting)
        if setting.wants("resumed"):
            yield from resumed(folder, setting)


def rows(name: str, found: Trained, wanted: Trained) -> Iterator[Row]:
    """Losses and weights of a run next to those of the CPU."""
    yield within(GROUP, f"{name}, losses", loss_error(found[0], wanted[0]), OF_LOSS)
    yield within(GROUP, f"{name}, weights", weight_error(found[1], wanted[1]), OF_PEAK)


def with_nccl(folder: Path, setting: Setting) -> Iterator[Row]:
    """One process that shares its batches with itself."""
    wanted = train(folder / "alone", "cpu")
    with one_process(setting.device) as ranks:
        found = train(folder / "group", setting.device, ranks=ranks)
    backend = "NCCL" if setting.on_gpu else "gloo in place of NCCL"
    yield from rows(f"one process of {backend}", found, wanted)


def solver(folder: Path, kind: str, setting: Setting) -> Iterator[Row]:
    """A solver's own update."""
    momentum = "momentum: 0 " if kind in ("RMSProp", "AdaGrad") else ""
    more = f'type: "{kind}" {momentum}clip_gradients: 5 '
    wanted = train(folder / f"{kind} cpu", "cpu", more)
    yield from rows(kind, train(folder / kind, setting.device, more), wanted)


def resumed(folder: Path, setting: Setting) -> Iterator[Row]:
    """A resumed run equals the whole one on the same device; torch draws the dropout's masks.

    Other masks give errors of a hundred times the bound; some sums of a GPU have no fixed order.
    """
    _, wanted = train(folder / "whole", setting.device, torch_dropout=True)
    state = folder / "whole" / "snap_iter_4.solverstate"
    _, found = train(folder / "whole", setting.device, resume=state, torch_dropout=True)
    error = weight_error(found, wanted)
    yield within("training: resumed", "torch's dropout, weights", error, 1e-4)
