"""Tracing rules of layers whose points keep their position."""

from __future__ import annotations

from torch import Tensor

from caffe_port.unravel.rules._registry import BUILTIN, Link, Passage, register_rule
from caffe_port.unravel.rules.shapes import every


@register_rule(*(type for type, home in BUILTIN.items() if home == "same_point"))
def same_point(passage: Passage, points: Tensor) -> list[Link]:
    """The same flat index in the first bottom.

    Neurons, BatchNorm, Scale and Dropout act on each value alone. LRN, MVN, Normalize and Softmax
    divide by what is around, but a value's own channel and place is what made it. Flatten and
    Reshape keep the order of the values, so the flat index holds.

    Source: Seg-Unravel for ReLU, BatchNorm, Scale, Dropout and LRN; the others are ours.
    """
    return [Link(0, every(points), points)]
