"""DeepLab's MATLAB files: one blob each, as MatWrite writes and MatRead reads them.

MAT version 5, variable ``data``, axes reversed: (W, H, C, N).
Source: DeepLab v2 matio_io.cpp, mat_write_layer.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from caffe_port.data.mat5 import Variable, find_variable
from caffe_port.errors import FormatError
from caffe_port.files import atomic_path, read_text, reading


def listed_names(source: str, strip: int) -> list[str]:
    """The first word of every line of a list, less its last ``strip`` characters.

    Raises:
        ValueError: the list cannot be read, or a line leaves no name.
    """
    try:
        lines = read_text(source).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"source '{source}' cannot be read: {error}") from error
    names = []
    for number, line in enumerate(lines, 1):
        name = line.split()[0] if line.split() else ""
        if len(name) <= strip:
            raise ValueError(f"source '{source}', line {number}: strip {strip} leaves no name")
        names.append(name[: len(name) - strip])
    return names


def expect_inside(prefix: str, names: Sequence[str]) -> None:
    """Refuses names of files to write that lead out of the folder of their prefix.

    Args:
        prefix: start of the files' names, in any folder.
        names: the rest of the names, from a list that may be untrusted.
    Raises:
        ValueError: a name holds a zero byte, or leads elsewhere by `..` or from the root.
    """
    folder = os.path.abspath(os.path.dirname(prefix))
    for name in names:
        if "\0" in name:
            raise ValueError(f"the list's name {name[:200]!r} holds a zero byte")
        path = os.path.abspath(prefix + name)
        if os.path.commonpath((folder, path)) != folder:
            raise ValueError(
                f"the list's name '{name}' leads out of the folder of prefix '{prefix}'; "
                "write the folder into the prefix"
            )


def _data(path: str | os.PathLike[str]) -> Variable:
    with reading(path, "the MAT file"):
        found = find_variable(path, "data")
    if found is None:
        raise FormatError("no variable 'data'", path=path)
    if not found.real or len(found.shape) > 4:
        message = f"variable 'data' of shape {found.shape}; expected single with up to 4 axes"
        raise FormatError(message, path=path)
    return found


def _caffes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (4 - len(shape)) + tuple(reversed(shape))


def mat_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The shape (N, C, H, W) of a file's blob, without reading its values.

    Raises:
        ReadError: the file cannot be opened.
        FormatError: not a MAT file of version 5, or no real variable ``data`` of up to 4 axes.
    """
    return _caffes(_data(path).shape)


def read_mat(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Reads the blob of a file: float32 (N, C, H, W), a copy.

    DeepLab refuses doubles, MATLAB's default; here they are rounded to float32.

    Raises:
        ReadError: the file cannot be opened.
        FormatError: as ``mat_shape``, or values that are not all there.
    """
    found = _data(path)
    return np.array(found.read().T, np.float32, order="C").reshape(_caffes(found.shape))


def write_mat(path: str | os.PathLike[str], blob: npt.NDArray[np.float32]) -> None:
    """Writes a blob (N, C, H, W); the file appears whole or not at all.

    Missing axes are taken as 1, as Caffe's old accessors do.
    """
    from scipy.io import savemat

    blob = blob.reshape(blob.shape + (1,) * (4 - blob.ndim))
    with atomic_path(path) as temporary:
        savemat(temporary, {"data": blob.T}, appendmat=False)
