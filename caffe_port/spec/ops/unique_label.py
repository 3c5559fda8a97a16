"""UniqueLabel: which labels a label map holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops._labels import class_indices


@register_op
@dataclass(frozen=True)
class UniqueLabel(Op):
    """Options of UniqueLabel. Source: DeepLab v2 unique_label_layer.cpp.

    Attributes:
        max_labels: room for so many; the rest is -1.
        ignore_labels: labels left out.
        force_labels: labels listed whether present or not.
    """

    type = "UniqueLabel"
    discrete = True
    fixed_bottoms = frozenset({0})

    max_labels: int
    ignore_labels: tuple[int, ...]
    force_labels: tuple[float, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> UniqueLabel:
        o = layer.unique_label_param
        forced = tuple(sorted(set(o.force_label)))
        expect(
            o.max_labels > len(forced),
            f"max_labels is {o.max_labels}; expected more than the {len(forced)} forced labels",
        )
        return cls(o.max_labels, tuple(sorted(set(o.ignore_label))), forced)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        labels = bottoms[0]
        expect(
            len(labels) == 4 and labels[1] == 1,
            f"labels of shape {labels}; expected (N, 1, H, W)",
        )
        return [(labels[0], self.max_labels, 1, 1)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(self.max_labels, self.ignore_labels)
