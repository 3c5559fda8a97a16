"""pydensecrf.eigen's names; here matrices are numpy arrays, so nothing is converted.

q = crf.inference(5)
assert isinstance(q, eigen.MatrixXf)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_port.crf import _kernels as checks

MatrixXf = VectorXf = np.ndarray


def matrixXf(arr: ArrayLike) -> NDArray[np.float32]:  # noqa: N802  (pydensecrf's name)
    """A copy of a (rows, columns) array.

    Raises:
        UsageError: it is not float32 or float64 of two axes, or it is empty.
    """
    return checks.floats("arr", arr, ("rows", "columns")).copy()


def vectorXf(arr: ArrayLike) -> NDArray[np.float32]:  # noqa: N802
    """A copy of an (N,) array.

    Raises:
        UsageError: it is not float32 or float64 of one axis, or it is empty.
    """
    return checks.floats("arr", arr, ("N",)).copy()
