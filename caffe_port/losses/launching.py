"""Helpers of every kernel launch."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import UsageError


def on_device(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Makes a CUDA tensor's device the current one, on which Triton launches."""
    return torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()


def power_of_two(number: int, least: int, most: int) -> int:
    """The smallest power of two that holds ``number``, within bounds: the side of a block."""
    return min(max(1 << max(number - 1, 0).bit_length(), least), most)


def accumulator(dtype: torch.dtype) -> Any:
    """Triton's type for the sums over elements of a torch dtype."""
    import triton.language as tl

    return tl.float64 if dtype == torch.float64 else tl.float32


class _Once(torch.autograd.Function):
    """The identity on a gradient, with the tensors that the gradient depends on."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *origins: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        raise UsageError("a kernel's gradient was differentiated; use path='torch' for that")


def only_once(gradient: Tensor, *origins: Tensor) -> Tensor:
    """A kernel's gradient, marked so that differentiating it again is an error.

    Args:
        gradient: a kernel's result, without graph.
        origins: the tensors that it depends on.
    """
    return _Once.apply(gradient, *origins)  # type: ignore[no-any-return,no-untyped-call]
