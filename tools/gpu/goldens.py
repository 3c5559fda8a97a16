"""What real Caffe recorded, compared with the port on the device by the rule of `verify`.

Each net runs twice: with sums as `verify` makes them (no cuDNN, no TensorFloat-32), which has to
pass, and with the kernels that cuDNN chooses (without TensorFloat-32), which is reported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import caffe_port.pycaffe as caffe
from caffe_port.parity.compare import Verdict
from caffe_port.parity.verify import verify
from caffe_port.solver.solver import Solver
from tests.goldens_dir import GOLDENS
from tests.verifying import recorded_net
from tools.gpu.nets import computing_on
from tools.gpu.outcome import Row, Setting, within

SMALL = 12  # every so many recordings on the CPU
OF_PEAK = 2e-5  # of weights after 24 steps, as tests/solver/test_solver.py has it


def run(setting: Setting) -> Iterator[Row]:
    """Layers, nets, wide layers, solvers."""
    torch.backends.cudnn.allow_tf32 = False
    kinds = {"layers": bundled("layers") + bundled("rounding"), "nets": bundled("nets"),
             "layers of published width": bundled("wide")}  # fmt: skip
    if setting.small:
        kinds = {"layers": kinds["layers"][::SMALL]}
    for kind, folders in kinds.items():
        for folder in folders:
            if setting.wants(folder.name):
                yield compared(kind, folder, setting, fastest=False)
    for case in bundled("solvers"):
        if setting.wants(case.name):
            yield from solver_steps(case, setting)
    for kind, folders in kinds.items() if setting.on_gpu else ():
        for folder in folders:
            if setting.wants(folder.name):
                yield compared(kind, folder, setting, fastest=True)


def bundled(kind: str) -> list[Path]:
    """The recordings of this repository."""
    return sorted(path.parent for path in (GOLDENS / kind).glob("*/case.json"))


def compared(kind: str, folder: Path, setting: Setting, fastest: bool) -> Row:
    """One recording."""
    net, recording = recorded_net(folder)
    result = verify(net, recording, device=setting.device, fastest=fastest)
    shares = [row.comparison.port_share for row in result.rows
              if row.comparison.verdict is Verdict.PASS]  # fmt: skip
    worst = max((share for share in shares if share is not None), default=None)
    bad = result.first_bad
    found = f"{result.count(Verdict.PASS)} arrays pass"
    if bad is not None:
        found = f"{bad.kind} {bad.name}: {bad.comparison.reason}"
    group = f"recorded {kind}{', kernels of cuDNN' if fastest else ''}"
    return Row(group, folder.name, bad is None, found, not fastest, worst)


def solver_steps(case: Path, setting: Setting) -> Iterator[Row]:
    """24 steps of a solver, on the batches that Caffe had."""
    values = np.load(case / "case.npz")
    with tempfile.TemporaryDirectory() as folder, computing_on(setting.device):
        text = (case / "solver.prototxt").read_text()
        text = text.replace('"snap"', f'"{folder}/snap"')
        text = text.replace('"train.prototxt"', f'"{case}/train.prototxt"')
        path = Path(folder) / "solver.prototxt"
        path.write_text(text)
        made = caffe.get_solver(path)
        made.net.copy_from(case / "init.caffemodel")
        worst, loss = 0.0, 0.0
        for iteration in range(24):
            for name in "xt":
                made.net.blobs[name].data[...] = values[f"batch/{name}"][iteration % 4]
            made.step(1)
            wanted = float(values["loss"][iteration])
            found = float(made.net.blobs["loss"].data)
            loss = max(loss, abs(found - wanted) / abs(wanted))
            worst = max(worst, distance(made, values, iteration + 1))
    yield within("recorded solvers", f"{case.name}, weights", worst, OF_PEAK)
    yield within("recorded solvers", f"{case.name}, losses", loss, 1e-4)


def distance(made: Solver, values: np.lib.npyio.NpzFile, step: int) -> float:
    """The largest distance of the weights from Caffe's after a step, of the peak."""
    worst = 0.0
    for key in values.files:
        if key.startswith(f"w/{step}/"):
            _, _, layer, index = key.split("/")
            error = np.abs(made.net.params[layer][int(index)].data - values[key]).max()
            worst = max(worst, float(error / np.abs(values[key]).max()))
    return worst
