"""What Scale and Bias have in common: a blob laid over some axes of the first bottom.

Source: BVLC/caffe scale_layer.cpp and bias_layer.cpp, LayerSetUp and Reshape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, axis_index, expect


@dataclass(frozen=True)
class Overlaid(Op):
    """Where the blob lies.

    Attributes:
        axis: the first bottom's axis that the blob starts at.
        num_axes: how many axes a learned blob covers; -1 is all from ``axis`` on. A second bottom
            covers as many as it has.
    """

    bottoms = (1, 2)

    axis: int
    num_axes: int

    def covered(self, bottom: Shape) -> Shape:
        """Shape of a learned blob for this bottom."""
        start = axis_index(self.axis, len(bottom))
        expect(self.num_axes >= -1, f"num_axes is {self.num_axes}; expected -1 or more")
        if self.num_axes == -1:
            return bottom[start:]
        expect(
            start + self.num_axes <= len(bottom),
            f"{self.num_axes} axes from axis {start} on; a bottom of shape {bottom} has fewer",
        )
        return bottom[start : start + self.num_axes]

    def spread(self, bottom: Shape, blob: Shape) -> Shape:
        """The blob's shape, padded with 1s on the right so that it broadcasts over the bottom."""
        start = axis_index(self.axis, len(bottom)) if blob else 0
        expect(
            bottom[start : start + len(blob)] == blob,
            f"a blob of shape {blob} does not lie over a bottom of shape {bottom} from axis "
            f"{start} on",
        )
        return blob + (1,) * (len(bottom) - start - len(blob))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.spread(bottoms[0], bottoms[1] if len(bottoms) > 1 else self.covered(bottoms[0]))
        return [bottoms[0]]
