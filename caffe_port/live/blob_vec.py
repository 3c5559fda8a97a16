"""BlobVec: the parameters of a layer, which scripts may replace by blobs of another net."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, overload

import torch
from torch.nn import Parameter

from caffe_port.errors import UsageError
from caffe_port.live.blob import Blob

if TYPE_CHECKING:
    from caffe_port.layers import Layer


class BlobVec(MutableSequence[Blob]):
    """The parameters of a layer, as ``net.params[name]`` and ``layer.blobs`` show them.

    It is the layer's own: a blob put into it is what the layer computes with from then on, in the
    memory that the blob has, as in Caffe. A solver goes on updating the blobs that its net was made
    with, as there.

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
        """From now on a blob that is put in becomes that layer's parameter."""
        self._layer = layer

    @property
    def replaced(self) -> bool:
        """Whether the layer computes with a blob that was put in."""
        return bool(self._replaced)

    def add_blob(self, *shape: int) -> None:
        """Adds a blob of zeros; a Python layer's ``setup`` declares its parameters this way."""
        self.append(Blob(shape))

    def rebind(self, index: int, blob: Blob) -> None:
        """Shows the layer's own parameter by another blob, unless one was put in for it."""
        if index not in self._replaced:
            self._blobs[index] = blob

    def refresh(self) -> None:
        """Lets the layer's parameters have the memory that the blobs put in have now."""
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
                "would be left, and Caffe's layer would read behind them"
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
        """Adds a blob before another; ``append`` and ``extend`` do it at the end."""
        blobs = list(self._blobs)
        blobs.insert(index, value)
        self._put(blobs)
