"""What layers that read labels share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.spec import LayerSpec


@contextlib.contextmanager
def named(spec: LayerSpec) -> Iterator[None]:
    """Turns a ValueError about a layer's bottoms into a LayerError that names the layer."""
    try:
        yield
    except ValueError as error:
        raise LayerError(spec.name, spec.type, str(error)) from error


def by_class(scores: Tensor, axis: int) -> Tensor:
    """Scores as (outer, C, inner): what lies before the class axis, the classes, what follows."""
    axis %= scores.dim()
    outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
    return scores.reshape(outer, scores.shape[axis], inner)
