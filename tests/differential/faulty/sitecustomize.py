"""Makes ``import caffe`` give the port, with a fault that a file names while it is there.

Python runs this file when it starts, because its folder is on PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["FAULTY_ROOT"])

from caffe_port.errors import UsageError
from caffe_port.layers.neurons import ReLU, TanH
from caffe_port.live.net import Net
from caffe_port.pycaffe import alias
from caffe_port.solver.solver import Solver

_relu, _save, _apply_update = ReLU.forward, Net.save, Solver.apply_update


def _fault() -> str:
    path = Path(os.environ["FAULT_FILE"])
    return path.read_text() if path.exists() else ""


def _faulty_relu(self: Any, *bottoms: Any) -> Any:
    (top,) = _relu(self, *bottoms)
    if _fault() == "value":
        return (top * 1.001,)
    if _fault() == "abort":
        os.write(2, b"F0101 10:00:00.000000  1 relu_layer.cpp:12] Check failed: false a fault\n")
        os.abort()
    if _fault() == "segmentation":
        os.kill(os.getpid(), 11)
    return (top,)


def _refusing_tanh(self: Any, *bottoms: Any) -> Any:
    if _fault() == "refusal":
        raise UsageError("no TanH here")
    return (bottoms[0].tanh(),)


def _faulty_save(self: Any, path: Any) -> None:
    if _fault() == "file":
        for blobs in self.params.values():
            blobs[0].data[...] += 1
    _save(self, path)


def _faulty_update(self: Any) -> None:
    if _fault() == "update":
        for blobs in self.net.params.values():
            blobs[0].diff[...] *= 2
    _apply_update(self)


ReLU.forward, TanH.forward = _faulty_relu, _refusing_tanh  # type: ignore[method-assign]
Net.save, Solver.apply_update = _faulty_save, _faulty_update  # type: ignore[method-assign]
alias.install()
