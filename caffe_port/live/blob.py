"""Blob: a pair of live numpy arrays, data and diff."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Floats: TypeAlias = npt.NDArray[np.float32]


def _shown(memory: Floats, shape: Sequence[int]) -> Floats:
    """The first numbers of a flat array, in a shape."""
    return memory[: math.prod(shape)].reshape(tuple(shape))


class Blob:
    """Data and diff of equal shape, both writable in place.

    The memory of each may be another blob's too, as that of Split's tops is its bottom's: what is
    written through one blob is then seen through the other. It is kept when the blob shrinks.

    Args:
        shape: sizes of the axes.
        dtype: float32 by default, which is all that pycaffe had.
    Source: BVLC/caffe blob.cpp, as _caffe.cpp shows it to Python.
    """

    def __init__(self, shape: Sequence[int], dtype: npt.DTypeLike | None = None) -> None:
        self._allocate(shape, dtype or np.float32)

    def _allocate(self, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self._data: Floats = np.zeros(tuple(shape), dtype)
        self._data_memory = self._data.reshape(-1)
        self._diff: Floats | None = None
        self._diff_memory: Floats | None = None
        self._capacity = self._data.size

    @property
    def data(self) -> Floats:
        """The values; write into it, or into parts of it, to change the blob."""
        return self._data

    @property
    def diff(self) -> Floats:
        """The diff of the loss with respect to the values."""
        if self._diff is None:
            size = max(self._capacity, self._data.size)
            self._diff_memory = np.zeros(size, self._data.dtype)
            self._diff = _shown(self._diff_memory, self._data.shape)
        return self._diff

    @property
    def has_diff(self) -> bool:
        """Whether somebody has asked for the diff since the blob got its memory."""
        return self._diff is not None

    def drop_diff(self) -> None:
        """Sets the diff to 0; arrays that were taken from it before are left as they are."""
        self._diff = self._diff_memory = None

    def take_data(self, values: Floats) -> None:
        """Makes an array's memory the data's; the shape becomes the array's."""
        self.reshape(*values.shape)
        self._data, self._data_memory = values, values.reshape(-1)

    def take_diff(self, values: torch.Tensor) -> None:
        """Makes a tensor's memory the diff's."""
        self._diff = values.detach().view(self._data.shape).numpy()
        self._diff_memory = self._diff.reshape(-1)

    def share_data(self, other: Blob) -> None:
        """Makes another blob's data this one's too, in this one's shape; the counts are equal."""
        self._data_memory = other._data_memory
        self._data = _shown(self._data_memory, self._data.shape)

    def share_diff(self, other: Blob) -> None:
        """Makes another blob's diff this one's too, in this one's shape; the counts are equal."""
        _ = other.diff  # makes it, where there is none yet
        self._diff_memory = other._diff_memory
        assert self._diff_memory is not None
        self._diff = _shown(self._diff_memory, self._data.shape)

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
        """Gives the blob a shape; values survive unless it becomes larger than ever before.

        Raises:
            ValueError: a negative size.
        """
        if min(shape, default=0) < 0:
            raise ValueError(f"a blob cannot have shape {shape}")
        if tuple(shape) == self._data.shape:
            return
        count = math.prod(shape)
        if count > min(self._capacity, self._data_memory.size):
            self._allocate(shape, self._data.dtype)
            return
        self._data = _shown(self._data_memory, shape)
        if self._diff_memory is not None and count <= self._diff_memory.size:
            self._diff = _shown(self._diff_memory, shape)
        else:
            self._diff = self._diff_memory = None

    def retype(self, dtype: npt.DTypeLike) -> None:
        """Gives data and diff another dtype, in memory of their own; one that they have is kept."""
        if self._data.dtype == dtype:
            return
        old = self._data
        self._allocate(old.shape, dtype)
        self._data[...] = old

    def assign(self, values: torch.Tensor) -> None:
        """Takes over a layer's output, reshaping where its shape is new."""
        self.reshape(*values.shape)
        self._data[...] = values.detach().cpu().numpy()


class ParamBlob(Blob):
    """A parameter: its data is the torch parameter's own memory (a copy of it off the CPU)."""

    def __init__(self, param: torch.nn.Parameter) -> None:
        self._param = param
        self._show(param.detach().cpu().numpy())

    def _show(self, data: Floats) -> None:
        self._data, self._diff, self._diff_memory = data, None, None
        self._data_memory, self._capacity = data.reshape(-1), data.size

    def holds(self, param: torch.nn.Parameter) -> bool:
        """Whether this is that parameter's blob, over its present memory."""
        return self._param is param and self._data.ctypes.data == param.data_ptr()

    def share_data(self, other: Blob) -> None:
        """Makes another blob's data this parameter's too."""
        super().share_data(other)
        self._param.data = torch.from_numpy(self._data)

    def reshape(self, *shape: int) -> None:
        """Gives the parameter another shape, for scripts that write changed weights.

        Its layer runs on only where the count is the same.
        """
        super().reshape(*shape)
        self._param.data = torch.from_numpy(self._data)
