"""Blob, a pair of numpy arrays with data and diff, and BlobVec, the parameters of a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import Parameter

from caffe_port.errors import UsageError

if TYPE_CHECKING:
    from caffe_port.layers import Layer

Floats: TypeAlias = npt.NDArray[np.float32]


def _view(memory: Floats, shape: Sequence[int]) -> Floats:
    """A view of the first elements of a flat array, in a shape."""
    return memory[: math.prod(shape)].reshape(tuple(shape))


class Blob:
    """Data and diff of equal shape, both writable in place.

    Blobs may share memory, as the tops of Split share that of its bottom: what is written into one
    is then in the other too. A blob that shrinks keeps its memory.

    Args:
        shape: sizes of the axes.
        dtype: float32 by default, the only dtype of pycaffe.
    Source: BVLC/caffe blob.cpp; _caffe.cpp for the interface.
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
            self._diff = _view(self._diff_memory, self._data.shape)
        return self._diff

    @property
    def has_diff(self) -> bool:
        """Whether the diff was used since the blob's memory was allocated."""
        return self._diff is not None

    def drop_diff(self) -> None:
        """Sets the diff to 0; arrays that were taken from it before do not change."""
        self._diff = self._diff_memory = None

    def take_data(self, values: Floats) -> None:
        """Uses an array as the data; the blob gets its shape."""
        self.reshape(*values.shape)
        self._data, self._data_memory = values, values.reshape(-1)

    def take_diff(self, values: torch.Tensor) -> None:
        """Uses a tensor's memory as the diff."""
        self._diff = values.detach().view(self._data.shape).numpy()
        self._diff_memory = self._diff.reshape(-1)

    def share_data(self, other: Blob) -> None:
        """Shares another blob's data, in this blob's shape; the counts are equal."""
        self._data_memory = other._data_memory
        self._data = _view(self._data_memory, self._data.shape)

    def share_diff(self, other: Blob) -> None:
        """Shares another blob's diff, in this blob's shape; the counts are equal."""
        _ = other.diff  # allocates it, if there is none yet
        self._diff_memory = other._diff_memory
        assert self._diff_memory is not None
        self._diff = _view(self._diff_memory, self._data.shape)

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
        """Changes the shape; values are kept unless the blob becomes larger than ever before.

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
        self._data = _view(self._data_memory, shape)
        if self._diff_memory is not None and count <= self._diff_memory.size:
            self._diff = _view(self._diff_memory, shape)
        else:
            self._diff = self._diff_memory = None

    def retype(self, dtype: npt.DTypeLike) -> None:
        """Changes the dtype of data and diff, in new memory."""
        if self._data.dtype == dtype:
            return
        old = self._data
        self._allocate(old.shape, dtype)
        self._data[...] = old

    def assign(self, values: torch.Tensor) -> None:
        """Copies a layer's output, with its shape."""
        self.reshape(*values.shape)
        self._data[...] = values.detach().cpu().numpy()


class ParamBlob(Blob):
    """A parameter: its data is the memory of the torch parameter (on a GPU, a copy of it)."""

    def __init__(self, param: Parameter) -> None:
        self._param = param
        self._show(param.detach().cpu().numpy())

    def _show(self, data: Floats) -> None:
        self._data, self._diff, self._diff_memory = data, None, None
        self._data_memory, self._capacity = data.reshape(-1), data.size

    def holds(self, param: Parameter) -> bool:
        """Whether this is the blob of that parameter, in its present memory."""
        return self._param is param and self._data.ctypes.data == param.data_ptr()

    def share_data(self, other: Blob) -> None:
        """Shares another blob's data with this parameter."""
        super().share_data(other)
        self._param.data = torch.from_numpy(self._data)

    def reshape(self, *shape: int) -> None:
        """Changes the shape, for scripts that write changed weights.

        The layer can run again only if the count is the same.
        """
        super().reshape(*shape)
        self._param.data = torch.from_numpy(self._data)


class BlobVec(MutableSequence[Blob]):
    """The parameters of a layer, as ``net.params[name]`` and ``layer.blobs`` show them.

    As in Caffe, a layer computes with a blob that is put into its list, in that blob's memory, and
    a solver still updates the blobs that its net was made with.

        net.params["fc8"][0] = other.params["fc8"][0]

    Args:
        blobs: at the start.
    Source: BVLC/caffe _caffe.cpp, BlobVec.
    """

    def __init__(self, blobs: Iterable[Blob] = ()) -> None:
        self._blobs = list(blobs)
        self._layer: Layer | None = None
        self._replaced: set[int] = set()

    def belongs_to(self, layer: Layer) -> None:
        """Sets the layer whose parameters the blobs of later assignments become."""
        self._layer = layer

    @property
    def replaced(self) -> bool:
        """Whether the layer computes with a blob that was put in."""
        return bool(self._replaced)

    def add_blob(self, *shape: int) -> None:
        """Adds a blob of zeros; a Python layer's ``setup`` declares its parameters this way."""
        self.append(Blob(shape))

    def rebind(self, index: int, blob: Blob) -> None:
        """Replaces the blob of the layer's own parameter, unless another one was put in."""
        if index not in self._replaced:
            self._blobs[index] = blob

    def refresh(self) -> None:
        """Gives the layer's parameters the present memory of the blobs that were put in."""
        for index in self._replaced:
            param, data = self._param(index), self._blobs[index].data
            if param.data_ptr() != data.ctypes.data or param.shape != data.shape:
                param.data = torch.from_numpy(data)

    def _param(self, index: int) -> Parameter:
        assert self._layer is not None
        return self._layer.get_parameter(self._layer.spec.params[index].name)

    def _put(self, blobs: list[Any]) -> None:
        for blob in blobs:
            if not isinstance(blob, Blob):
                raise TypeError(
                    f"Invalid assignment: {type(blob).__name__} in place of a Blob; write values "
                    "into the blob's data: net.params[name][i].data[...] = values"
                )
        wanted = [] if self._layer is None else self._layer.spec.params
        if len(blobs) < len(wanted):
            assert self._layer is not None
            spec = self._layer.spec
            raise UsageError(
                f"layer '{spec.name}' ({spec.type}) has {len(wanted)} parameters; {len(blobs)} "
                "would be left, and Caffe's layer would read beyond them"
            )
        old, self._blobs = self._blobs, blobs
        for index, param in enumerate(wanted):
            if blobs[index] is not old[index]:
                self._replaced.add(index)
                assert self._layer is not None
                learns = self._param(index).requires_grad
                values = torch.from_numpy(blobs[index].data)
                self._layer.register_parameter(param.name, Parameter(values, learns))

    def __len__(self) -> int:
        return len(self._blobs)

    @overload
    def __getitem__(self, index: int) -> Blob: ...
    @overload
    def __getitem__(self, index: slice) -> BlobVec: ...
    def __getitem__(self, index: int | slice) -> Blob | BlobVec:
        if isinstance(index, slice):
            return BlobVec(self._blobs[index])
        return self._blobs[index]

    def __setitem__(self, index: int | slice, value: Any) -> None:
        blobs: list[Any] = list(self._blobs)
        blobs[index] = list(value) if isinstance(index, slice) else value
        self._put(blobs)

    def __delitem__(self, index: int | slice) -> None:
        blobs = list(self._blobs)
        del blobs[index]
        self._put(blobs)

    def insert(self, index: int, value: Any) -> None:
        """Inserts a blob before another one; ``append`` and ``extend`` add at the end."""
        blobs = list(self._blobs)
        blobs.insert(index, value)
        self._put(blobs)
