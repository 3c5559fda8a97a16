"""Which of two implementations runs: torch everywhere, Triton where it can."""

from __future__ import annotations

import functools
import os
from importlib.metadata import PackageNotFoundError, version

from torch import Tensor

from caffe_port.errors import UsageError

PATHS = ("auto", "torch", "triton")
OLDEST_TRITON = 3, 6


@functools.cache
def has_triton() -> bool:
    """Whether a Triton is installed that compiles the kernels; 3.4 does not."""
    try:
        major, minor = version("triton").split(".")[:2]
    except PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= OLDEST_TRITON


def chosen_path(path: str, like: Tensor) -> str:
    """'torch' or 'triton'.

    Args:
        path: 'torch'; 'triton'; 'auto': Triton for CUDA tensors where it is installed.
        like: a tensor of the device in question.
    Raises:
        UsageError: no such path, or Triton cannot run here.
    """
    if path not in PATHS:
        raise UsageError(f"path is {path!r}; expected one of {', '.join(PATHS)}")
    if path == "auto":
        # an empty tensor has nothing to launch for
        fits = like.is_cuda and has_triton() and like.numel() > 0
        return "triton" if fits else "torch"
    if path == "triton":
        if not has_triton():
            raise UsageError(
                "path is 'triton' but no Triton from 3.6 on is installed: "
                "pip install 'caffe_port[triton]'"
            )
        if not like.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise UsageError(
                f"path is 'triton' for a tensor on {like.device}; expected CUDA, or the "
                "environment variable TRITON_INTERPRET=1 set before Triton is first imported"
            )
    return path
