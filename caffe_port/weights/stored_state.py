"""A solver state as a file holds it, in either of Caffe's formats, and what both check."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.errors import FormatError
from caffe_port.weights.blobproto import INT_MAX
from caffe_port.weights.stored import Array

MAX_NAME = 65536


@dataclass(frozen=True, eq=False)
class SolverState:
    """What a solver needs, besides the weights, to go on.

    Attributes:
        iter: how many iterations were done.
        learned_net: the file with the weights of that moment, as it was named then.
        current_step: how many steps of the learning rate were taken (step, multistep).
        history: per learnable parameter its momentum, or what its update keeps; Adam and AdaDelta
            keep two: all the first ones, then all the second. float32 or float64; DeepLab v1
            pads the shapes to four axes.
    """

    iter: int
    learned_net: str
    current_step: int
    history: tuple[Array, ...]


def counted(value: int, offset: int | None = None) -> int:
    """A count of iterations or steps, refused where Caffe could not have counted it."""
    if not 0 <= value <= INT_MAX:
        raise FormatError(f"{value} iterations or steps; Caffe counts to 2^31 - 1", offset=offset)
    return value


def weights_name(text: bytes | memoryview, offset: int | None = None) -> str:
    """``learned_net``, refused where it is no file's name; any encoding is kept printable."""
    if len(text) > MAX_NAME:
        raise FormatError(f"a learned_net of {len(text)} bytes", offset=offset)
    return bytes(text).decode(errors="backslashreplace")
