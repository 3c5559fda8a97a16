"""Kernels are built here; those over positions, which depend only on the size, are cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffe_port.crf._lattice import Kernel
from caffe_port.errors import UsageError

Normalization = Literal["none", "before", "after", "symmetric"]

# A lattice over positions takes some 36 bytes a pixel, 6 MB for 500 x 375. VOC's images come in
# some dozens of sizes, most of them in three or four.
KEPT = 8
MOST_KEPT = 2**23  # pixels of all cached kernels, some 300 MB

_Positions = tuple[int, int, tuple[float, ...], Normalization, bool]
_kept: OrderedDict[_Positions, Kernel] = OrderedDict()  # the latest last
_keeping = threading.Lock()


def position_kernel(
    height: int,
    width: int,
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
) -> Kernel:
    """A kernel over positions; the last few are cached.

    Raises:
        UsageError: the widths are too small for the size.
    """
    key = (height, width, widths, normalization, exact)
    with _keeping:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    sizes = np.array(widths, np.float32)
    kernel = _built(lambda: Kernel.of_image(height, width, sizes, None, None, normalization, exact))
    if height * width <= MOST_KEPT:
        with _keeping:
            _kept[key] = kernel
            while len(_kept) > KEPT or sum(k.height * k.width for k in _kept.values()) > MOST_KEPT:
                _kept.popitem(last=False)
    return kernel


def image_kernel(
    image: NDArray[Any],
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
    threads: int,
) -> Kernel:
    """A kernel over positions and the colours of an image (H, W, 3), uint8 or float32.

    Raises:
        UsageError: the widths are too small for the image.
    """
    sizes = np.array(widths, np.float32)
    height, width = image.shape[:2]
    as_bytes = image if image.dtype == np.uint8 else None
    as_floats = None if image.dtype == np.uint8 else image
    return _built(
        lambda: Kernel.of_image(
            height, width, sizes, as_bytes, as_floats, normalization, exact, threads
        )
    )


def feature_kernel(
    rows: NDArray[np.float32], normalization: Normalization, exact: bool, threads: int
) -> Kernel:
    """A kernel over features (H, W, D).

    Raises:
        UsageError: features are too large.
    """
    return _built(lambda: Kernel.of_features(rows, normalization, exact, threads))


def _built(build: Callable[[], Kernel]) -> Kernel:
    try:
        return build()
    except ArithmeticError as error:
        raise UsageError(f"the widths are too small for this image: {error}") from error
    except ValueError as error:
        raise UsageError(f"no lattice can be built for this image: {error}") from error
    except RuntimeError as error:
        raise no_threads(error) from error


def no_threads(error: RuntimeError) -> UsageError:
    """The error when the system gives fewer threads than a call asked for."""
    return UsageError(f"no more threads can be started ({error}): ask for fewer")
