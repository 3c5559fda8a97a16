from typing import Literal

import numpy as np
from numpy.typing import NDArray

MOST_THREADS: int
NORMALIZATIONS: tuple[str, ...]
EXPONENTIALS: tuple[str, ...]

class Kernel:
    @staticmethod
    def of_features(
        rows: NDArray[np.float32], normalization: str, exact: bool = ..., threads: int = ...
    ) -> Kernel: ...
    @staticmethod
    def of_image(
        height: int,
        width: int,
        widths: NDArray[np.float32],
        bytes: NDArray[np.uint8] | None,
        floats: NDArray[np.float32] | None,
        normalization: str,
        exact: bool = ...,
        threads: int = ...,
    ) -> Kernel: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    @property
    def vertices(self) -> int: ...

def mean_field(
    unary: NDArray[np.float32],
    kernels: tuple[Kernel, ...],
    weights: tuple[float | NDArray[np.float32], ...],
    iterations: int,
    *,
    start: NDArray[np.float32] | None = None,
    q: NDArray[np.float32] | None = None,
    best: NDArray[np.int32] | None = None,
    exponential: Literal["exact", "cut off", "clamped"] = ...,
    normalise: bool = ...,
    adjoint: bool = ...,
    exact: bool = ...,
    threads: int = ...,
) -> None: ...
def exponential(x: NDArray[np.float32], y: NDArray[np.float32], kind: str) -> None: ...
def instructions(choice: str | None = ...) -> str: ...
