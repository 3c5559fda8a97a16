"""A data layer that cannot be run here: the caller gives shapes and data of its tops."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.spec.ops._base import Op


@dataclass(frozen=True)
class FedData(Op):
    """Stands for a layer without bottoms whose code is not here, when the caller gives its shapes.

    Such as another fork's AnnotatedData, or a Python layer that is not allowed to run. It is not
    registered: no prototxt can ask for it by a type of its own.
    """

    bottoms = (0, 0)
    tops = (1, None)
    kind = "source"
