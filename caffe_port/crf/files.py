"""Files of scores and label maps: those of DeepLab's CRF programs, and .npy, .npz, .h5."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caffe_port.errors import DataError, FormatError
from caffe_port.files import atomic_path, open_regular, read_bytes, reading, write_bytes

# The files of DeepLab's separate CRF programs: probabilities, scores and label maps.
#
# A .bin file starts with int32 rows, columns and channels, all little-endian. Probabilities follow
# as float32, (channel, column, row) from the slowest to the fastest index; labels as int16
# (column, row), with one channel. Source: DeepLab's densecrf programs, util.h and refine_pascal.

PathLike = str | os.PathLike[str]
MAT_SUFFIX = "_blob_0.mat"
_HEADER = 12  # bytes


def read_bin(path: PathLike) -> NDArray[np.float32] | NDArray[np.int16]:
    """Probabilities (C, H, W) float32 or labels (H, W) int16, whichever the file's length fits.

    Raises:
        ReadError: the file cannot be read.
        FormatError: its length fits neither.
    """
    with reading(path), open_regular(path) as stream:
        return _read_bin(path, stream)


def _read_bin(path: PathLike, stream: BinaryIO) -> NDArray[np.float32] | NDArray[np.int16]:
    size, content = os.fstat(stream.fileno()).st_size, stream.read(_HEADER)
    if size < _HEADER:
        raise FormatError(f"{size} bytes; a .bin file has a header of 12", path=path)
    rows, columns, channels = (int(n) for n in np.frombuffer(content, "<i4", 3))
    if min(rows, columns, channels) < 1:
        message = f"the header says {rows} rows, {columns} columns, {channels} channels"
        raise FormatError(message, path=path, offset=0)
    number, body = math.prod((rows, columns, channels)), size - _HEADER
    if body == 4 * number:
        planes = np.frombuffer(stream.read(), "<f4").reshape(channels, columns, rows)
        return np.ascontiguousarray(planes.transpose(0, 2, 1), dtype=np.float32)
    if channels == 1 and body == 2 * number:
        labels = np.frombuffer(stream.read(), "<i2").reshape(columns, rows)
        return np.ascontiguousarray(labels.T, dtype=np.int16)
    message = f"{body} bytes follow a header that says {rows} x {columns} x {channels}; expected "
    message += f"{4 * number} (float32)" + (f" or {2 * number} (int16)" if channels == 1 else "")
    raise FormatError(message, path=path, offset=_HEADER)


def write_bin(path: PathLike, values: NDArray[np.float32] | NDArray[np.integer]) -> None:
    """Writes probabilities (C, H, W) as float32, or labels (H, W) as int16, whole or not at all.

    Raises:
        DataError: a label does not fit int16.
    """
    labels = values.ndim == 2
    if labels and not -(2**15) <= values.min() <= values.max() < 2**15:
        raise DataError(
            f"{os.fspath(path)}: labels {values.min()} to {values.max()}; a .bin file holds at "
            "most 32767"
        )
    planes = values[None] if labels else values
    header = np.array([*planes.shape[1:], planes.shape[0]], "<i4")
    body = planes.transpose(0, 2, 1).astype("<i2" if labels else "<f4")
    write_bytes(path, header.tobytes() + body.tobytes())


def read_scores(path: PathLike) -> NDArray[np.float32]:
    """Scores (C, H, W) of a .mat file, as Caffe's MatWrite layer writes them.

    Raises:
        ReadError, FormatError: as ``caffe_port.data.mat.read_mat``, or it has more than one image.
    """
    from caffe_port.data.mat import read_mat

    blob = read_mat(path)
    if len(blob) != 1:
        raise FormatError(f"scores of {len(blob)} images; expected one", path=path)
    scores: NDArray[np.float32] = blob[0]
    return scores


def write_scores(path: PathLike, scores: NDArray[np.float32]) -> None:
    """Writes scores (C, H, W) as Caffe's MatWrite layer does."""
    from caffe_port.data.mat import write_mat

    write_mat(path, scores[None])


# Scores and label maps in .npy, .npz and .h5 files, as IRN, SEAM and others exchange them.
#
# An array is (C, H, W), (1, C, H, W) or, of labels, (H, W) whole numbers. An .npy may also hold
# the dictionary that IRN ({"keys": ..., "high_res": ...}) and SEAM ({class: ...}) write:
# activation maps of some foreground classes, numbered from 0 without the background.

SUFFIXES = {"npy": ".npy", "npz": ".npz", "h5": ".h5"}
_LARGEST = 2**31  # bytes of a file
_NAME = "scores"  # of the array in an .npz or .h5
_BROKEN = (OSError, ValueError, EOFError, KeyError, RuntimeError, TypeError, IndexError,
           AttributeError, zipfile.BadZipFile, pickle.UnpicklingError)  # fmt: skip
# all that the pickle of a dictionary of arrays needs
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    *((module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
}  # fmt: skip


def read_array(
    path: PathLike, background: float | None = None
) -> NDArray[np.float32] | NDArray[np.int64]:
    """The scores or labels of a file.

    Args:
        path: .npy, .npz with one array or one named "scores" or "probabilities", or such an .h5.
        background: the score of class 0, for dictionaries of activation maps.
    Returns:
        (C, H, W) float32, or (H, W) int64 labels.
    Raises:
        ReadError: the file cannot be read.
        FormatError: it is broken, or holds something else.
        DataError: it holds activation maps, and ``background`` is None.
    """
    try:
        with reading(path):
            values = _READERS[Path(path).suffix.lower()](os.fspath(path))
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"not an array that can be read: {error}", path=path) from error
    if isinstance(values, dict):
        return _of_activations(path, values, background)
    return _checked(path, np.asarray(values))


def _checked(path: PathLike, values: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.int64]:
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2 and values.dtype.kind in "iu" and values.size:
        return values.astype(np.int64)
    if values.ndim != 3 or values.dtype.kind not in "iuf" or not values.size:
        raise FormatError(
            f"an array {values.shape} of {values.dtype}; expected scores (C, H, W) or labels",
            path=path,
        )
    found = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise FormatError("a score is not finite", path=path)
    return found


def is_probabilities(values: NDArray[np.float32]) -> bool:
    """Whether (C, H, W) values are 0 to 1 and sum to 1 at each pixel, up to float16's rounding."""
    within = values.min() >= 0 and values.max() <= 1
    return bool(within and np.abs(values.sum(axis=0) - 1).max() < 0.01)


def write_array(
    path: PathLike, values: NDArray[Any], name: str = _NAME, *, compressed: bool = False
) -> None:
    """Writes scores (C, H, W) or labels (H, W), whole or not at all.

    Args:
        path: its suffix says the form: .npy, .npz or .h5.
        values: any real type, kept.
        name: of the array in an .npz or .h5.
        compressed: whether an .npz or .h5 is.
    """
    suffix = Path(path).suffix.lower()
    with atomic_path(path) as temporary:
        if suffix == ".h5":
            import h5py

            with h5py.File(temporary, "w") as file:
                file.create_dataset(name, data=values, compression="gzip" if compressed else None)
            return
        with open(temporary, "wb") as stream:
            if suffix == ".npz":
                save = np.savez_compressed if compressed else np.savez
                arrays: dict[str, Any] = {name: values}
                save(stream, **arrays)
            else:
                np.save(stream, values)


def _read_npy(path: str) -> Any:
    content = read_bytes(path, _LARGEST)
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        if read is None or not read(stream)[2].hasobject:
            raise
        found = _Arrays(stream).load()
        return found.item() if isinstance(found, np.ndarray) and found.ndim == 0 else found


def _read_npz(path: str) -> Any:
    with np.load(io.BytesIO(read_bytes(path, _LARGEST)), allow_pickle=False) as file:
        return file[_only(path, list(file.files))]


def _read_h5(path: str) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        names = [name for name, part in file.items() if isinstance(part, h5py.Dataset)]
        return file[_only(path, names)][()]


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_h5}


def _only(path: str, names: list[str]) -> str:
    """The name of the one array, or of the scores among several."""
    known = [name for name in (_NAME, "probabilities") if name in names]
    if len(names) == 1 or len(known) == 1:
        return (known or names)[0]
    message = f"arrays {', '.join(names) or 'none'}; expected one, or one named {_NAME}"
    raise FormatError(message, path=path)


class _Arrays(pickle.Unpickler):
    """Reads a pickle of arrays and plain values; refuses everything else, which could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            from torch._utils import _rebuild_tensor_v2

            return _rebuild_tensor_v2
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage
        if (module, name) == ("collections", "OrderedDict") or (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a pickle that uses {module}.{name}; expected arrays alone")


def _storage(content: bytes) -> Any:
    """A tensor's values inside a pickle, without the code that it could name."""
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


def _of_activations(
    path: PathLike, values: Mapping[Any, Any], background: float | None
) -> NDArray[np.float32]:
    """Activation maps as scores of all classes; those without a map get the lowest score."""
    if background is None:
        raise DataError(
            f"{path}: activation maps of {len(values)} entries, without a background; "
            "'caffe-port score' takes the background's score (--background T, such as 0.15)"
        )
    try:
        keys, maps = list(values), list(values.values())
        if "keys" in values:
            keys, maps = np.asarray(values["keys"]).ravel().tolist(), list(values["high_res"])
        numbers = [int(key) for key in keys]
        arrays = [np.asarray(part, np.float32) for part in maps]
        scores = np.full((max(numbers) + 2, *arrays[0].shape), -np.inf, np.float32)
        scores[0] = background
        for key, part in zip(numbers, arrays, strict=True):
            scores[key + 1] = part
    except _BROKEN as error:
        message = f"a dictionary that is not {{class: map}} or of keys and high_res ({error})"
        raise FormatError(message, path=path) from error
    if scores.ndim != 3 or min(numbers) < 0 or np.isnan(scores).any():
        raise FormatError("activation maps that are not (H, W) numbers of classes", path=path)
    return scores
