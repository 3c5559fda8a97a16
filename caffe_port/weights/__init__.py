"""Weight files: their format is recognised by content for reading, by suffix for writing.

The formats are imported when they are used, so that looking at a caffemodel needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caffe_port import import_name
from caffe_port.errors import UsageError
from caffe_port.files import (
    HDF5_SIGNATURE,
    TORCH_SIGNATURE,
    ZIP_SIGNATURE,
    AnyFile,
    OpenFile,
    is_safetensors,
    name_of,
    open_file,
)
from caffe_port.stalls import Waiting
from caffe_port.weights.stored import (
    Array,
    StateDict,
    StoredBlob,
    StoredLayer,
    WeightFile,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from caffe_port.weights.named import named_state
    from caffe_port.weights.named_loading import load_named_state
    from caffe_port.weights.naming import NameMap, known_name_maps, name_map

__all__ = [
    "SUFFIXES",
    "NameMap",
    "StoredBlob",
    "StoredLayer",
    "WeightFile",
    "format_of",
    "known_name_maps",
    "load_named_state",
    "name_map",
    "named_state",
    "read_mean",
    "read_weights",
    "write_mean",
    "write_weights",
]

SUFFIXES = {
    ".caffemodel": "caffemodel",
    ".caffemodel.h5": "caffemodel.h5",
    ".h5": "caffemodel.h5",
    ".pt": "pt",
    ".safetensors": "safetensors",
}
"""The suffixes of weight files that can be written, and their formats."""
STATE_SUFFIXES = (".pth", ".pt", ".safetensors")  # of plain state dicts
_MODULES = {
    "NameMap": "naming",
    "known_name_maps": "naming",
    "load_named_state": "named_loading",
    "name_map": "naming",
    "named_state": "named",
}


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)


def read_weights(file: AnyFile) -> WeightFile:
    """Reads a weight file of any format, recognised by its content and not by its name.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is none of the formats, or a broken one.
        OSError: it cannot be opened.
    Examples:
        >>> import caffe_port as cp
        >>> path = "examples/shapes_voc/caffe_run/model/train_iter_2400.caffemodel"
        >>> weights = cp.read_weights(path)
        >>> conv = next(layer for layer in weights.layers if layer.type == "Convolution")
        >>> weights.format, conv.name, conv.blobs[0].data.shape
        ('caffemodel', 'conv1_1', (8, 3, 3, 3))
    """
    with Waiting(name_of(file)):
        return _reader(opened := open_file(file))(opened)


def _reader(file: OpenFile) -> Callable[[OpenFile], WeightFile]:
    if file.head.startswith(HDF5_SIGNATURE):
        from caffe_port.weights.hdf5 import read_hdf5

        return read_hdf5
    if file.head.startswith(ZIP_SIGNATURE):
        from caffe_port.weights.torch_file import read_torch

        return read_torch
    if is_safetensors(file.head, file.size):
        from caffe_port.weights.state_dict import read_safetensors

        return read_safetensors
    from caffe_port.weights.caffemodel import read_caffemodel

    return read_caffemodel


def read_any_weights(file: AnyFile) -> WeightFile | StateDict:
    """Reads what ``read_weights`` reads, or the plain state dict of another program.

    Args:
        file: a name, or an open file.
    Raises:
        FormatError: it is none of the formats, or a broken one.
        OSError: it cannot be opened.
    """
    opened = open_file(file)
    with Waiting(name_of(file)):
        if opened.head.startswith((ZIP_SIGNATURE, TORCH_SIGNATURE)):
            from caffe_port.weights.torch_file import read_torch_state

            return read_torch_state(opened)
        if is_safetensors(opened.head, opened.size):
            from caffe_port.weights.state_dict import read_safetensors_state

            return read_safetensors_state(opened)
        return read_weights(opened)


def write_state_dict(path: str | os.PathLike[str], state: StateDict) -> None:
    """Writes a plain state dict, all of it or nothing.

    Args:
        path: the file to make: .pth, .pt or .safetensors.
        state: the tensors.
    Raises:
        UsageError: another suffix.
        OSError: the file cannot be written.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in STATE_SUFFIXES:
        raise UsageError(f"{path}: a state dict is written as {', '.join(STATE_SUFFIXES)}")
    if suffix == ".safetensors":
        from caffe_port.weights.state_dict import write_safetensors_state

        write_safetensors_state(path, state)
    else:
        from caffe_port.weights.torch_file import write_torch_state

        write_torch_state(path, state)


def write_weights(
    path: str | os.PathLike[str],
    layers: Sequence[StoredLayer],
    *,
    name: str = "",
    prototxt: str | None = None,
    metadata: Mapping[str, str] | None = None,
    net_message: Message | None = None,
    format: str | None = None,
) -> None:
    """Writes a weight file, all of it or nothing.

    Args:
        path: the file to make; its suffix chooses the format unless ``format`` does.
        layers: the weights.
        name: the net's name (not in HDF5).
        prototxt: the net's text; stored in .pt and .safetensors.
        metadata: further strings to store; likewise.
        net_message: a V2 NetParameter without blobs, embedded in a .caffemodel.
        format: "caffemodel", "caffemodel.h5", "pt" or "safetensors".
    Raises:
        UsageError: the suffix or format is unknown, or the format cannot hold these weights.
        OSError: the file cannot be written.
    Examples:
        >>> import caffe_port as cp
        >>> path = "examples/shapes_voc/caffe_run/model/train_iter_2400.caffemodel"
        >>> cp.write_weights("net.safetensors", cp.read_weights(path).layers)
        >>> cp.read_weights("net.safetensors").format
        'safetensors'
    """
    format = format_of(path) if format is None else format
    if format == "caffemodel":
        from caffe_port.weights.caffemodel import write_caffemodel

        write_caffemodel(path, layers, name=name, net_message=net_message)
    elif format == "caffemodel.h5":
        from caffe_port.weights.hdf5 import write_hdf5

        write_hdf5(path, layers)
    elif format in ("pt", "safetensors"):
        write = _state_dict_writer(format)
        write(path, layers, name=name, prototxt=prototxt, metadata=metadata)
    else:
        known = ", ".join(dict.fromkeys(SUFFIXES.values()))
        raise UsageError(f"unknown weight format '{format}': expected one of {known}")


def _state_dict_writer(format: str) -> Callable[..., None]:
    if format == "pt":
        from caffe_port.weights.torch_file import write_torch

        return write_torch
    from caffe_port.weights.state_dict import write_safetensors

    return write_safetensors


def read_mean(file: AnyFile) -> Array:
    """Reads a mean image (.binaryproto).

    Returns:
        (C, H, W) float32, channels in Caffe's order (BGR).
    Raises:
        FormatError: the file is not one BlobProto of such a shape.
        OSError: it cannot be opened.
    Examples:
        >>> from caffe_port.weights import read_mean
        >>> read_mean("examples/shapes_voc/caffe_run/lmdb/mean.binaryproto").shape
        (3, 32, 40)
    """
    from caffe_port.weights import caffemodel

    return caffemodel.read_mean(file)


def write_mean(path: str | os.PathLike[str], mean: Array) -> None:
    """Writes a mean image (.binaryproto) as Caffe's compute_image_mean does.

    Args:
        path: the file to make.
        mean: (C, H, W) floats, channels in Caffe's order (BGR).
    Raises:
        UsageError: another shape or type.
        OSError: the file cannot be written.
    Examples:
        >>> import numpy as np
        >>> from caffe_port.weights import read_mean, write_mean
        >>> write_mean("mean.binaryproto", np.full((3, 2, 2), 104, np.float32))
        >>> float(read_mean("mean.binaryproto").max())
        104.0
    """
    from caffe_port.weights import caffemodel

    caffemodel.write_mean(path, mean)


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of a path, by its suffix.

    Raises:
        UsageError: no format has this suffix.
    Examples:
        >>> from caffe_port.weights import format_of
        >>> format_of("net.caffemodel.h5")
        'caffemodel.h5'
    """
    name = os.fspath(path)
    for suffix, format in SUFFIXES.items():
        if name.endswith(suffix):
            return format
    raise UsageError(f"{name}: unknown suffix: expected one of {', '.join(SUFFIXES)}")
