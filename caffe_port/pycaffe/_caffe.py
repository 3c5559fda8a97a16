"""The names of pycaffe's compiled module: its classes, the base class of Python layers, logging.

Source: BVLC/caffe python/caffe/_caffe.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from caffe_port.errors import UsageError
from caffe_port.live.blob import Blob, BlobVec
from caffe_port.live.mode import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe_port.live.net import Net
from caffe_port.proto import caffe_pb2
from caffe_port.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe_port.solver import log as glog
from caffe_port.solver.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffe_port.spec.ops import known_types

_NO_NCCL = (
    "caffe.NCCL does not exist here (has_nccl() is False); train in one process, or start several "
    "with 'caffe train --gpu=0,1' or torchrun"
)

# in Caffe vectors of C++
RawBlobVec = LayerVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list

__version__ = "1.0.0"  # of the Caffe whose interface this is

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "__version__",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]


def layer_type_list() -> list[str]:
    """The layer types that nets can have."""
    return known_types()


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Omits log lines below ``level``; all others are written to standard error."""
    glog.set_min_level(level)


def log(message: str) -> None:
    """Writes a line to the log."""
    glog.log(message, place="_caffe.cpp:68")


def set_logging_disabled() -> None:
    """Omits all log lines. Source: the pycaffe of FlowNet 2."""
    glog.set_min_level(glog.FATAL)


def has_nccl() -> bool:
    """Whether ``NCCL`` can be used: no."""
    return False


class NCCL:
    """Stands in for Caffe's gradient exchange between GPUs, which does not exist here.

    Raises:
        UsageError: always.
    """

    def __init__(self, solver: object, uid: bytes) -> None:
        raise UsageError(_NO_NCCL)

    @staticmethod
    def new_uid() -> bytes:
        """Raises UsageError."""
        raise UsageError(_NO_NCCL)


class Timer:
    """A stop watch."""

    def __init__(self) -> None:
        self._start = self._stop = 0.0

    def start(self) -> None:
        """Starts to measure."""
        self._start = self._stop = time.perf_counter()

    def stop(self) -> None:
        """Ends the measurement."""
        self._stop = time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop."""
        return 1000 * (self._stop - self._start)


class Layer:
    """The base class of Python layers, which ``python_param { module layer }`` names.

    It defines ``setup(bottom, top)``, ``reshape(bottom, top)``, ``forward(bottom, top)`` and
    ``backward(top, propagate_down, bottom)``; bottom and top are lists of Blobs.

    Attributes:
        blobs: parameters; ``setup`` declares each with ``self.blobs.add_blob(*shape)``.
        param_str: the prototxt's string; set before ``setup``, as is phase.
        param_str_: the same, under its name of 2015.
        phase: caffe.TRAIN or caffe.TEST.
    Source: BVLC/caffe python_layer.hpp, _caffe.cpp.
    """

    param_str: str
    param_str_: str
    phase: int

    def __init__(self, param: caffe_pb2.LayerParameter) -> None:
        self.blobs = BlobVec()

    @property
    def type(self) -> str:
        """The layer type, 'Python'."""
        return "Python"

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called once, when the net is made; does nothing here."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called before each forward; sets the shape of each top.

        Raises:
            TypeError: the subclass does not define it.
        """
        raise TypeError(f"{type(self).__name__} defines no reshape(bottom, top)")
