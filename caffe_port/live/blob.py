"""Blob: a pair of live numpy arrays, data and diff."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Floats: TypeAlias = npt.NDArray[np.float32]


class Blob:
    """Data and diff of equal shape, both writable in place.

    Args:
        shape: sizes of the axes.
        dtype: float32 by default, which is all that pycaffe had.
    Source: BVLC/caffe blob.cpp, as _caffe.cpp shows it to Python.
    """

    def __init__(self, shape: Sequence[int], dtype: npt.DTypeLike | None = None) -> None:
        self._data: Floats = np.zeros(tuple(shape), dtype or np.float32)
        self._diff: Floats | None = None

    @property
    def data(self) -> Floats:
        """The values; write into it, or into parts of it, to change the blob."""
        return self._data

    @property
    def diff(self) -> Floats:
        """The diff of the loss with respect to the values."""
        if self._diff is None:
            self._diff = np.zeros_like(self._data)
        return self._diff

    def drop_diff(self) -> None:
        """Sets the diff to 0; arrays that were taken from it before are left as they are."""
        self._diff = None

    def take_diff(self, values: torch.Tensor) -> None:
        """Makes a tensor's memory the diff's."""
        self._diff = values.detach().view(self._data.shape).numpy()

    @property
    def shape(self) -> list[int]:
        """Sizes of the axes."""
        return list(self._data.shape)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self._data.shape)

    def _legacy(self, axis: int) -> int:
        if self._data.ndim > 4:
            raise ValueError(f"a blob of shape {self._data.shape} has no num, channels, ...")
        return self._data.shape[axis] if axis < self._data.ndim else 1

    @property
    def num(self) -> int:
        """Size of the first axis."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Size of the second axis, 1 where there is none."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Size of the third axis, 1 where there is none."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Size of the fourth axis, 1 where there is none."""
        return self._legacy(3)

    def reshape(self, *shape: int) -> None:
        """Gives the blob a shape; values survive only where the count stays.

        Raises:
            ValueError: a negative size.
        """
        if min(shape, default=0) < 0:
            raise ValueError(f"a blob cannot have shape {shape}")
        if tuple(shape) == self._data.shape:
            return
        if math.prod(shape) == self._data.size:
            self._data = self._data.reshape(shape)
            self._diff = None if self._diff is None else self._diff.reshape(shape)
        else:
            self._data, self._diff = np.zeros(shape, self._data.dtype), None

    def assign(self, values: torch.Tensor) -> None:
        """Takes over a layer's output, reshaping where its shape is new."""
        self.reshape(*values.shape)
        self._data[...] = values.detach().cpu().numpy()


class ParamBlob(Blob):
    """A parameter: its data is the torch parameter's own memory (a copy of it off the CPU)."""

    def __init__(self, param: torch.nn.Parameter) -> None:
        self._param = param
        self._data = param.detach().cpu().numpy()
        self._diff = None

    def holds(self, param: torch.nn.Parameter) -> bool:
        """Whether this is that parameter's blob, over its present memory."""
        return self._param is param and self._data.ctypes.data == param.data_ptr()

    def share_data(self, other: Blob) -> None:
        """Uses another blob's memory for the data; the diff stays its own."""
        self._param.data = torch.from_numpy(other.data)
        self._data = other.data

    def reshape(self, *shape: int) -> None:
        """Gives the parameter another shape, for scripts that write changed weights.

        Its layer runs on only where the count is the same.
        """
        super().reshape(*shape)
        self._param.data = torch.from_numpy(self._data)


class BlobVec(list[Blob]):
    """The parameters of a layer."""

    def add_blob(self, *shape: int) -> None:
        """Adds a blob of zeros; a Python layer's ``setup`` declares its parameters this way."""
        self.append(Blob(shape))
