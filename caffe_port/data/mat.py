"""DeepLab's MATLAB files: one blob each, as MatWrite writes and MatRead reads them.

MAT version 5, variable ``data``, axes reversed: (W, H, C, N).
Source: DeepLab v2 matio_io.cpp, mat_write_layer.cpp.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe_port.errors import DataError, FormatError
from caffe_port.files import atomic_path

# zlib cannot pack tighter than about 1 : 1032, so a file that claims more lies
_MOST_PACKED = 1100


def listed_names(source: str, strip: int) -> list[str]:
    """The first word of every line of a list, less its last ``strip`` characters.

    Raises:
        ValueError: the list cannot be read, or a line leaves no name.
    """
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"source '{source}' cannot be read: {error}") from error
    names = []
    for number, line in enumerate(lines, 1):
        name = line.split()[0] if line.split() else ""
        if len(name) <= strip:
            raise ValueError(f"source '{source}', line {number}: strip {strip} leaves no name")
        names.append(name[: len(name) - strip])
    return names


def mat_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The shape (N, C, H, W) of a file's blob, without reading its values.

    Raises:
        DataError: the file cannot be opened.
        FormatError: no MAT file of version 5, or no numeric variable ``data`` of up to 4 axes.
    """
    from scipy.io import whosmat

    try:
        size = os.stat(path).st_size
        found = whosmat(path, appendmat=False)
    except OSError as error:
        raise DataError(f"MAT file '{os.fspath(path)}' cannot be read: {error}") from error
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise FormatError(f"not a MAT file of version 5: {error}", path=path) from error
    for name, shape, kind in found:
        if name != "data":
            continue
        if kind not in ("single", "double") or len(shape) > 4:
            message = f"variable 'data' is {kind} {shape}; expected single with up to 4 axes"
            raise FormatError(message, path=path)
        if 4 * math.prod(shape) > _MOST_PACKED * size:
            message = f"variable 'data' claims shape {shape} in a file of {size} bytes"
            raise FormatError(message, path=path)
        return (1,) * (4 - len(shape)) + tuple(int(d) for d in reversed(shape))
    raise FormatError("no variable 'data'", path=path)


def read_mat(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Reads the blob of a file: float32 (N, C, H, W), of its own memory.

    DeepLab refuses doubles, MATLAB's default; here they are rounded to float32.

    Raises:
        DataError: the file cannot be opened.
        FormatError: as ``mat_shape``, or broken values.
    """
    from scipy.io import loadmat

    shape = mat_shape(path)
    try:
        values = loadmat(path, appendmat=False, variable_names=["data"])["data"]
        return np.array(values.T, np.float32, order="C").reshape(shape)
    except Exception as error:  # as above
        raise FormatError(f"variable 'data' is broken: {error}", path=path) from error


def write_mat(path: str | os.PathLike[str], blob: npt.NDArray[np.float32]) -> None:
    """Writes a blob (N, C, H, W) so that a reader never sees half a file.

    Missing axes are taken as 1, as Caffe's old accessors do.
    """
    from scipy.io import savemat

    blob = blob.reshape(blob.shape + (1,) * (4 - blob.ndim))
    with atomic_path(path) as temporary:
        savemat(temporary, {"data": blob.T}, appendmat=False)
