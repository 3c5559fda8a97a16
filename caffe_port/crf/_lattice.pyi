import numpy as np
from numpy.typing import NDArray

class Kernel:
    def __init__(self, features: NDArray[np.float32], weight: float, symmetric: bool) -> None: ...
    @property
    def pixels(self) -> int: ...
    @property
    def vertices(self) -> int: ...

def mean_field(
    unary: NDArray[np.float32],
    kernels: tuple[Kernel, ...],
    iterations: int,
    q: NDArray[np.float32],
) -> None: ...
