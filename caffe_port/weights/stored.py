"""The layers and blobs of a weight file, before a net is known.

Every reader returns these and every writer takes them, so that formats are converted without a net.
The arrays may be read-only views of a mapped file; ``StoredBlob.aligned`` copies one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from caffe_port.errors import FormatError, UsageError, escaped
from caffe_port.files import AnyFile, open_file
from caffe_port.proto import wire
from caffe_port.stalls import Waiting

Array: TypeAlias = npt.NDArray[Any]
Identity: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...], str]

_LETTERS = 60  # of a name that is shown
_NAMES = ("weight", "bias")
_NAMES_BY_TYPE = {"BatchNorm": ("mean", "variance", "factor", "scale", "shift")}


@dataclass(frozen=True, eq=False)
class StoredBlob:
    """One parameter of a layer.

    Attributes:
        data: float32 or float64, in the shape stored. Often a read-only view of a mapped file,
            at an address that torch and most C code cannot use; compute with ``aligned()``.
        legacy: the shape is the old num, channels, height, width, left-padded with 1s.
        diff: the gradient stored with it, in the same shape, if there is one.
        name: the parameter's name in a state dict; "" is Caffe's usual one.
        load: reads ``data`` from its file again, for ``aligned``; set by readers.
        half: the file holds float16 values, which ``data`` holds as float32.
        unknown: the numbers of fields that no dialect has; they are not kept.
    """

    data: Array
    legacy: bool = False
    diff: Array | None = None
    name: str = ""
    load: Callable[[], Array] | None = field(default=None, repr=False)
    half: bool = False
    unknown: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<StoredBlob {self.data.dtype} {self.data.shape}>"

    def without_values(self) -> StoredBlob:
        """The same blob with NaN for every value, which keeps neither an array nor a file."""
        nan = np.broadcast_to(np.float32(np.nan), self.data.shape)
        return replace(self, data=nan, diff=None, load=None)

    def aligned(self) -> Array:
        """A copy of ``data``: aligned, writable, contiguous, of native byte order.

        Raises:
            FormatError: the file shrank after it was opened.
        """
        if self.load is not None:
            return self.load()
        return np.array(self.data, dtype=self.data.dtype.newbyteorder("="), order="C")


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A layer's name, type and blobs.

    Attributes:
        name: the layer's name; files may hold one name twice (a TRAIN and a TEST layer).
        type: the V2 type name; "" where the file does not say (HDF5), ``V1:<number>`` for an
            ambiguous or unknown enum value.
        blobs: the parameters stored, in Caffe's order.
        indices: the index of each blob in the layer; empty means 0, 1, 2 and so on. In an HDF5
            file a layer lacks the parameters that another layer owns.
    """

    name: str
    type: str = ""
    blobs: tuple[StoredBlob, ...] = ()
    indices: tuple[int, ...] = ()

    def __repr__(self) -> str:
        shapes = ", ".join([str(blob.data.shape) for blob in self.blobs[:8]]) or "no blobs"
        name, type = escaped(self.name[:_LETTERS]), escaped(self.type[:_LETTERS])
        return f"<StoredLayer {name!r} ({type}): {shapes}>"

    def numbered(self) -> Iterator[tuple[int, StoredBlob]]:
        """Each blob with its index in the layer."""
        return zip(self.indices or range(len(self.blobs)), self.blobs, strict=True)

    @property
    def size(self) -> int:
        """Values of all its blobs."""
        return sum(blob.data.size for blob in self.blobs)

    def parameter_names(self) -> tuple[str, ...]:
        """The state dict's name of each blob: weight, bias, mean, ..., ``blob<i>``."""
        usual = _NAMES_BY_TYPE.get(self.type, _NAMES)
        return tuple(
            blob.name or (usual[index] if index < len(usual) else f"blob{index}")
            for index, blob in self.numbered()
        )


@dataclass(frozen=True, eq=False)
class WeightFile:
    """The content of a weight file.

    Attributes:
        layers: in file order (HDF5: by name).
        format: "caffemodel", "caffemodel.h5", "pt" or "safetensors".
        name: the net's name, where the file has one.
        generation: "V0", "V1" or "V2" for a caffemodel, else "".
        prototxt: the net's text, which .pt and .safetensors hold.
        metadata: further strings of the writer.
    """

    layers: tuple[StoredLayer, ...]
    format: str
    name: str = ""
    generation: str = ""
    prototxt: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<WeightFile {self._summary()}>"

    def _repr_html_(self) -> str:
        from caffe_port.reports.html import folded

        return folded(
            f"WeightFile {self._summary()}",
            ("layer", "type", "shapes", "dtype", "values"),
            self.layers,
            lambda x: (
                x.name, x.type, ", ".join([str(blob.data.shape) for blob in x.blobs]),
                ", ".join(sorted({str(blob.data.dtype) for blob in x.blobs})), x.size,
            ),
        )  # fmt: skip

    def _summary(self) -> str:
        kind = ", ".join(filter(None, (self.format, self.generation)))
        count = sum(layer.size for layer in self.layers)
        name, layers = escaped(self.name[:_LETTERS]), len(self.layers)
        return f"{name!r} ({kind}): {layers:,} layers, {count:,} values"


@dataclass(frozen=True, eq=False)
class StateDict:
    """The tensors of a plain state dict, which does not say which layers they belong to.

    Attributes:
        tensors: key -> values; float16 and bfloat16 are widened to float32, integers are kept.
        format: "pt" or "safetensors"; "" for one that was not read from a file.
        metadata: further strings of the writer.
    """

    tensors: dict[str, StoredBlob]
    format: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def identity(array: Array) -> Identity | None:
    """Equal for two arrays over the same memory; None for an array without elements."""
    if array.size == 0:
        return None
    address = int(array.__array_interface__["data"][0])
    return address, array.shape, array.strides, array.dtype.str


def check_writable(layers: Sequence[StoredLayer]) -> None:
    """Refuses blobs that no format can hold.

    Raises:
        UsageError: a blob is neither float32 nor float64, its diff differs from it in shape or
            type, or a legacy blob has not four axes.
    """
    for layer in layers:
        for index, blob in layer.numbered():
            where = f"layer '{layer.name}', blob {index}"
            if blob.data.dtype.kind != "f" or blob.data.dtype.itemsize not in (4, 8):
                raise UsageError(
                    f"{where} is {blob.data.dtype}; Caffe's blobs are float32 or float64: "
                    "convert it first"
                )
            if blob.legacy and blob.data.ndim != 4:
                raise UsageError(f"{where} is marked legacy but has {blob.data.ndim} axes, not 4")
            diff = blob.diff
            if diff is not None and (diff.shape, diff.dtype) != (blob.data.shape, blob.data.dtype):
                raise UsageError(
                    f"{where} is {blob.data.dtype}{blob.data.shape}, "
                    f"its diff {diff.dtype}{diff.shape}"
                )


def check_complete(layers: Sequence[StoredLayer], format: str) -> None:
    """Refuses layers that lack a shared blob that this format stores with every layer.

    Raises:
        UsageError: a layer's blobs are not 0, 1, 2 and so on.
    """
    for layer in layers:
        if layer.indices and layer.indices != tuple(range(len(layer.blobs))):
            raise UsageError(
                f"layer '{layer.name}' has only the blobs {list(layer.indices)}: another layer "
                f"owns the rest, which a {format} file must repeat; load the weights into their "
                "net and write them from there"
            )


_PART = 2**26  # bytes per read


class MappedFile:
    """A regular, non-empty file; stays open as long as a view or loader of it is alive.

    Args:
        file: its name, or the file where it is open already.
    Attributes:
        path: the file's name as given.
        size: its length in bytes.
        view: its bytes, read-only.
        budget: how many more protobuf fields are read.

    Raises:
        FormatError: it is empty, or not a regular file.
        OSError: it cannot be opened.
    """

    def __init__(self, file: AnyFile) -> None:
        self.file = open_file(file)
        self.path, self.size = self.file.path, self.file.size
        if self.size == 0:
            raise FormatError("the file is empty", path=self.path)
        try:
            with Waiting(self.path):
                mapped = mmap.mmap(self.file.handle, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError) as error:
            message = f"{self.size} bytes cannot be mapped: {error}"
            raise FormatError(message, path=self.path) from error
        self.view, self.budget = memoryview(mapped), wire.Budget()

    def expect_current(self) -> None:
        """Checks that a library which opened the file by its name read this one.

        Raises:
            FormatError: it was replaced or changed meanwhile.
        """
        if not self.file.is_current():
            raise FormatError("the file was changed while it was read", path=self.path)

    def array(self, offset: int, count: int, dtype: str, stride: int | None = None) -> Array:
        """``count`` values from ``offset`` on as a 1-D read-only view, without a copy.

        Args:
            offset: where the first value starts.
            count: how many values.
            dtype: numpy's name with the byte order, as "<f4".
            stride: bytes from one value to the next; None means without gaps.
        """
        kind = np.dtype(dtype)
        return np.ndarray((count,), kind, self.view, offset, (stride or kind.itemsize,))

    def load(self, offset: int, count: int, dtype: str) -> Array:
        """``count`` adjacent values from ``offset`` on as a new array of native byte order.

        Read from the file, not from the map, whose pages would count as this process's memory too;
        a file that shrank meanwhile gives an error, not a bus error.

        Raises:
            FormatError: the file ends early.
        """
        values = np.empty(count, np.dtype(dtype))
        target = values.view(np.uint8).data
        done = 0
        while done < len(target):
            with Waiting(self.path):
                got = os.preadv(self.file.handle, [target[done : done + _PART]], offset + done)
            if got == 0:
                raise FormatError(
                    "the file became shorter while it was read", path=self.path, offset=offset
                )
            done += got
        return values.astype(values.dtype.newbyteorder("="), copy=False)
