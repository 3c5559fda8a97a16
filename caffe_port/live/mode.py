"""What pycaffe keeps for the whole process: mode, device, seed, ranks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from caffe_port.data import rng
from caffe_port.errors import UsageError


@dataclass
class _Process:
    gpu: bool = False
    device: int = 0
    warned: bool = False
    random: rng.CaffeRandom | None = None
    solver_count: int = 1
    solver_rank: int = 0
    multiprocess: bool = False
    python_layers: bool = False
    unknown_fields: bool = False


_process = _Process()


def set_mode_cpu() -> None:
    """Computes on the CPU; the default."""
    _process.gpu = False


def set_mode_gpu() -> None:
    """Computes on the GPU where there is one; else warns, once, and stays on the CPU.

    Blobs stay numpy arrays in main memory: each layer's bottoms and parameters are copied to the
    GPU, and its tops back. For speed use ``caffe_port.load(...).to("cuda")``.
    """
    _process.gpu = torch.cuda.is_available()
    if not _process.gpu and not _process.warned:
        _process.warned = True
        message = "caffe.set_mode_gpu(): torch finds no GPU here; computing on the CPU"
        warnings.warn(message, stacklevel=2)


def set_device(device_id: int) -> None:
    """Chooses the GPU for ``set_mode_gpu``.

    Raises:
        UsageError: there are GPUs, but not this one.
    """
    count = torch.cuda.device_count()
    if count and not 0 <= device_id < count:
        raise UsageError(f"set_device({device_id}): there are {count} GPUs, numbered from 0")
    _process.device = device_id


def device() -> torch.device:
    """Where layers compute."""
    return torch.device("cuda", _process.device) if _process.gpu else torch.device("cpu")


def set_random_seed(seed: int) -> None:
    """Seeds Caffe's generator: nets made from now on draw Caffe's own numbers from it.

    That goes for fillers, dropout, shuffles and crops. Until it is called they use torch's and
    the operating system's randomness.
    """
    if _process.random is None:
        _process.random = rng.CaffeRandom(seed)
    else:
        _process.random.reseed(seed)


@contextmanager
def building() -> Iterator[None]:
    """Nets built inside draw from the generator that ``set_random_seed`` seeded, if it did.

    One that the caller is building under already, by ``caffe_port.data.rng.seeded``, comes first.
    """
    if _process.random is None or rng.current() is not None:
        yield
    else:
        with rng.seeded(_process.random):
            yield


def solver_count() -> int:
    """How many solvers train together."""
    return _process.solver_count


def set_solver_count(count: int) -> None:
    """Says how many solvers train together."""
    _process.solver_count = count


def solver_rank() -> int:
    """Which of them this process is."""
    return _process.solver_rank


def set_solver_rank(rank: int) -> None:
    """Says which of them this process is; only rank 0 tests, logs and writes snapshots."""
    _process.solver_rank = rank


def set_multiprocess(multiprocess: bool) -> None:
    """Says whether the solvers are processes, as they are here, or threads."""
    _process.multiprocess = multiprocess


def allow_python_layers(allowed: bool = True) -> None:
    """Whether nets made from now on may import and run what their Python layers name.

    ``python -m caffe_port.pycaffe`` allows it; say yes only where you trust the model files.
    """
    _process.python_layers = allowed


def allow_unknown_fields(allowed: bool = True) -> None:
    """Whether nets made from now on may have fields that are not known, which then are warned of.

    In Caffe such a field ends the program. The environment variable
    CAFFE_PORT_ALLOW_UNKNOWN_FIELDS=1 allows them too, for scripts that are not to be edited.
    """
    _process.unknown_fields = allowed


def strict_text() -> bool:
    """Whether fields that are not known are errors; see ``allow_unknown_fields``."""
    asked = os.environ.get("CAFFE_PORT_ALLOW_UNKNOWN_FIELDS", "") not in ("", "0")
    return not (asked or _process.unknown_fields)


def python_layers_allowed() -> bool:
    """See ``allow_python_layers``."""
    return _process.python_layers
