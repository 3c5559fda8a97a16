"""Building kernels, and keeping those over positions, which depend on the size alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffe_port.crf._lattice import Kernel
from caffe_port.errors import UsageError

Normalization = Literal["none", "before", "after", "symmetric"]

# A lattice over the positions of 500 x 375 pixels takes 6 MB. VOC's images come in some dozens of
# sizes, most of them in three or four.
KEPT = 8


def position_kernel(
    height: int,
    width: int,
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
) -> Kernel:
    """A kernel over positions; the last few are kept.

    Raises:
        UsageError: the widths are too small for the size.
    """
    return _built(lambda: _positions(height, width, widths, normalization, exact))


@lru_cache(maxsize=KEPT)
def _positions(
    height: int,
    width: int,
    widths: tuple[float, ...],
    normalization: Normalization,
    exact: bool,
) -> Kernel:
    sizes = np.array(widths, np.float32)
    return Kernel.of_image(height, width, sizes, None, None, normalization, exact)


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
        raise UsageError(f"this image makes no lattice: {error}") from error
    except RuntimeError as error:
        raise no_threads(error) from error


def no_threads(error: RuntimeError) -> UsageError:
    """What to say when the system gives fewer threads than a call asked for."""
    return UsageError(f"no more threads can be started ({error}): ask for fewer")
