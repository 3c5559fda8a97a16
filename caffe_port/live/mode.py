"""Settings of the process, as pycaffe has them: mode, device, seed, ranks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe_port.data import rng
from caffe_port.errors import UsageError

if TYPE_CHECKING:
    import torch


@dataclass
class _Process:
    gpu: bool = False
    device: int = 0
    warned: bool = False
    random: rng.CaffeRandom | None = None
    solver_count: int = 1
    solver_rank: int = 0
    python_layers: bool = False
    unknown_fields: bool = False


_process = _Process()


def set_mode_cpu() -> None:
    """Computes on the CPU; the default."""
    _process.gpu = False


def set_mode_gpu() -> None:
    """Computes on the GPU if there is one; otherwise warns once and computes on the CPU.

    Blobs stay numpy arrays in main memory: each layer's bottoms and parameters are copied to the
    GPU, and its tops back. For speed use ``caffe_port.load(...).to("cuda")``.
    """
    import torch

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
    import torch

    count = torch.cuda.device_count()
    if count and not 0 <= device_id < count:
        raise UsageError(f"set_device({device_id}): there are {count} GPUs, numbered from 0")
    _process.device = device_id


def device() -> torch.device:
    """Where layers compute."""
    import torch

    return torch.device("cuda", _process.device) if _process.gpu else torch.device("cpu")


def expect_device(name: str) -> None:
    """Refuses a device that does not compute here.

    Args:
        name: as torch names it: cpu, cuda, cuda:1.
    Raises:
        UsageError: torch knows no such device, or there is none.
    """
    import torch

    if name == "cpu":
        return
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        is_cuda = name.partition(":")[0] == "cuda"
        if is_cuda and not torch.cuda.is_available():
            raise UsageError(f"the device is '{name}', but torch finds no GPU here") from error
        raise UsageError(
            f"the device is '{name}'; expected cpu, or a GPU of this machine such as cuda or "
            f"cuda:1: {str(error).splitlines()[0]}"
        ) from error


def set_random_seed(seed: int) -> None:
    """Seeds Caffe's generator, from which nets made later draw the same numbers as Caffe.

    It is used for fillers, dropout, shuffles and crops. Before the first call they use torch's
    generator and the operating system's.
    """
    if _process.random is None:
        _process.random = rng.CaffeRandom(seed)
    else:
        _process.random.reseed(seed)


@contextmanager
def building() -> Iterator[None]:
    """Lets nets built inside draw from the generator of ``set_random_seed``, if it was called.

    A generator that ``caffe_port.data.rng.seeded`` has set has precedence.
    """
    if _process.random is None or rng.current() is not None:
        yield
    else:
        with rng.seeded(_process.random):
            yield


def solver_count() -> int:
    """The number of solvers that train together."""
    return _process.solver_count


def set_solver_count(count: int) -> None:
    """Sets the number of solvers that train together."""
    _process.solver_count = count


def solver_rank() -> int:
    """The rank of this process among them."""
    return _process.solver_rank


def set_solver_rank(rank: int) -> None:
    """Sets the rank of this process; only rank 0 tests, logs and writes snapshots."""
    _process.solver_rank = rank


def set_multiprocess(multiprocess: bool) -> None:
    """Accepted and ignored: the solvers here are always processes, never threads."""


def allow_python_layers(allowed: bool = True) -> None:
    """Allows nets made later to import and run the code of their Python layers.

    ``python -m caffe_port.pycaffe`` allows it; do so only for model files that you trust.
    """
    _process.python_layers = allowed


def allow_unknown_fields(allowed: bool = True) -> None:
    """Allows nets made later to have unknown fields, with a warning.

    In Caffe such a field ends the program. The environment variable
    CAFFE_PORT_ALLOW_UNKNOWN_FIELDS=1 allows them too, for scripts that cannot be edited.
    """
    _process.unknown_fields = allowed


def strict_text() -> bool:
    """Whether unknown fields are errors; see ``allow_unknown_fields``."""
    asked = os.environ.get("CAFFE_PORT_ALLOW_UNKNOWN_FIELDS", "") not in ("", "0")
    return not (asked or _process.unknown_fields)


def python_layers_allowed() -> bool:
    """See ``allow_python_layers``."""
    return _process.python_layers
