"""Small functions of the module ``caffe``: logging, timing, what is built in."""

from __future__ import annotations

import time

from caffe_port.errors import UsageError
from caffe_port.solver import log as glog
from caffe_port.spec.ops import known_types

_NO_NCCL = (
    "caffe.NCCL does not exist here (has_nccl() is False); train in one process, or start several "
    "with 'caffe train --gpu=0,1' or torchrun"
)


def layer_type_list() -> list[str]:
    """The layer types that nets can have."""
    return known_types()


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Leaves out log lines below ``level``; they always go to standard error."""
    glog.set_min_level(level)


def log(message: str) -> None:
    """Writes a line to the log."""
    glog.log(message, place="_caffe.cpp:68")


def set_logging_disabled() -> None:
    """Leaves out all log lines, as the pycaffe of FlowNet 2 has it."""
    glog.set_min_level(glog.FATAL)


def has_nccl() -> bool:
    """Whether ``NCCL`` can be used: no."""
    return False


class NCCL:
    """Has the name of upstream's gradient exchange between GPUs, which does not exist here.

    Raises:
        UsageError: always.
    """

    def __init__(self, solver: object, uid: bytes) -> None:
        raise UsageError(_NO_NCCL)

    @staticmethod
    def new_uid() -> bytes:
        """Raises UsageError: there is nothing to exchange."""
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
