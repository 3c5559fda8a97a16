"""The blobs of a forward pass: what goes in, and what comes out."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from caffe_port.errors import UsageError, escaped
from caffe_port.plan import Plan

if TYPE_CHECKING:
    import numpy.typing as npt

Array: TypeAlias = "Tensor | npt.NDArray[np.floating]"


class Blobs(dict[str, Tensor]):
    """The blobs after a forward pass: name -> data of the last writer.

    Args:
        plan: of the forward pass; diffs are kept only where it keeps all blobs.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        super().__init__()
        self._first: dict[str, Tensor] = {}
        # torch.compile cannot keep the gradient of a tensor within a graph
        self._keeps = plan is not None and plan.keep_all and not torch.compiler.is_compiling()
        wanted = plan is not None and self._keeps and torch.is_grad_enabled()
        self._needed = plan.needs_diff if plan is not None and wanted else frozenset()

    def __setitem__(self, name: str, data: Tensor) -> None:
        """Sets a blob, with a diff where Caffe computes one, also if no earlier layer needs it."""
        if name in self._needed and data.is_floating_point() and not data.requires_grad:
            data = data.detach().requires_grad_()
        if self._keeps and data.requires_grad and name not in self._first:
            data.retain_grad()
            self._first[name] = data
        super().__setitem__(name, data)

    def __repr__(self) -> str:
        shown = [
            f"{name[:60]} {tuple(blob.shape)}" for name, blob in itertools.islice(self.items(), 8)
        ]
        more = [f"{len(self) - 8:,} more"] if len(self) > 8 else []
        return f"<Blobs {escaped(', '.join(shown + more))}>"

    def _repr_html_(self) -> str:
        from caffe_port.reports.html import folded

        headers = ("blob", "shape", "dtype", "device", "least", "greatest")
        return folded(f"{len(self):,} blobs", headers, list(self.items()), _cells)

    def diff(self, name: str) -> Tensor | None:
        """The blob's diff after backward, or None where none was computed.

        As in Caffe, the diff of a blob written in place is with respect to its first writer's
        output. Only a forward pass with ``keep="all"`` keeps diffs, and none in ``torch.compile``.
        """
        first = self._first.get(name)
        return None if first is None else first.grad


def _cells(item: tuple[str, Tensor]) -> list[object]:
    name, blob = item
    known = blob.numel() > 0 and blob.device.type != "meta"
    ends = [f"{float(end):.6g}" for end in blob.detach().aminmax()] if known else ["", ""]
    kind = str(blob.dtype).removeprefix("torch.")
    return [name, str(tuple(blob.shape)), kind, str(blob.device), *ends]


def as_tensor(name: str, data: Array) -> Tensor:
    """An input as a tensor; an array of any layout.

    Args:
        name: the input's, for the error.
        data: a tensor, which is returned as it is, or numbers.
    Raises:
        UsageError: it is something else.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray):
        # torch accepts neither read-only arrays nor the negative strides of a flipped image
        data = np.require(data, requirements=["C", "W"])
    try:
        return torch.as_tensor(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"input '{name}' cannot become a tensor: {error}") from error


class KnownSizes(TorchFunctionMode):
    """Makes sizes whole numbers while ``torch.jit.trace`` runs, which would make them tensors.

    Layers choose windows and check bottoms by these numbers.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in _SIZES:
            return func(*args, **(kwargs or {}))
        with warnings.catch_warnings():
            # torch warns that a size is a constant from here on: fixed_size makes that safe
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            found = func(*args, **(kwargs or {}))
            return tuple(map(int, found)) if isinstance(found, tuple) else int(found)


_shape: Any = Tensor.shape
_SIZES = (_shape.__get__, Tensor.size, Tensor.numel, Tensor.__len__)


def fixed_size(data: Tensor) -> Tensor:
    """The same tensor, in a trace that refuses any other size.

    A split into one part is an error of torch unless the part has the axis's length.
    """
    for axis, size in enumerate(data.shape):
        (data,) = data.split_with_sizes([size], axis)
    return data
