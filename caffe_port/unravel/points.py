"""Sets of points of a blob, and the position of a blob's elements in the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops.resampling import Interp
from caffe_port.unravel.rules.shapes import coordinates

Points = npt.NDArray[np.int32]

_MIN_AXES = 3  # channel, y, x


@dataclass(frozen=True)
class PointSet:
    """Elements of a blob, each once, and the labels that they belong to.

    Attributes:
        flat: (P,) int64, increasing flat indices.
        members: (P, labels) bool; every row has a True.
    """

    flat: Tensor
    members: Tensor

    @classmethod
    def merge(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> PointSet:
        """One set of several (flat, members), where elements may be repeated."""
        places = torch.cat([flat for flat, _ in parts])
        flat, inverse = torch.unique(places, return_inverse=True)
        belongs = torch.cat([members for _, members in parts])
        row, label = belongs.nonzero(as_tuple=True)
        members = belongs.new_zeros(len(flat), belongs.shape[1])
        members[inverse[row], label] = True
        return cls(flat, members)

    def rows(self, shape: Sequence[int]) -> list[Points]:
        """The points of each label as sorted coordinates, (P, 3) int32: channel, y, x.

        A blob of fewer axes has zeros for the missing ones, one of more axes more columns. A batch
        axis of size 1 is left out.
        """
        axes = list(coordinates(self.flat, shape))
        if len(shape) > 1 and shape[0] == 1:
            axes = axes[1:]
        axes += [torch.zeros_like(self.flat)] * (_MIN_AXES - len(axes))
        table = torch.stack(axes, 1).to(torch.int32).cpu().numpy()
        members = self.members.cpu().numpy()
        return [table[members[:, label]] for label in range(members.shape[1])]


Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Placement:
    """The affine map from a blob's places, the centres of their windows, to the input's.

        place in the input = scale * place in the blob + shift

    Both factors are (y, x).

    Source: BVLC/caffe python/caffe/coord_map.py; Interp is added.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def then(self, scale: tuple[float, float], shift: tuple[float, float]) -> Placement:
        """The map of a blob whose place p is at scale * p + shift in this one."""
        return Placement(
            (self.scale[0] * scale[0], self.scale[1] * scale[1]),
            (
                self.scale[0] * shift[0] + self.shift[0],
                self.scale[1] * shift[1] + self.shift[1],
            ),
        )

    def of(self, points: Points) -> npt.NDArray[np.float64]:
        """(P, 2) y, x in the input of (P, 3) channel, y, x."""
        placed: npt.NDArray[np.float64] = points[:, 1:3] * np.array(self.scale) + self.shift
        return placed


def placements(spec: NetSpec, shapes: Shapes) -> dict[str, Placement]:
    """The placement of every blob that has the height and width of an image.

    Args:
        spec: the net.
        shapes: of its blobs in the forward pass; the spec's own where absent.
    Returns:
        Blob -> placement; blobs without height and width have none.
    """
    sizes = {**spec.shapes, **shapes}
    found = {name: Placement() for name in spec.sources if len(sizes[name]) == 4}
    for layer in spec.layers:
        base = next((found[blob] for blob in layer.bottoms if blob in found), None)
        if base is None or layer.op.kind == "source":
            continue
        bottom = sizes[layer.bottoms[0]]
        for top in layer.tops:
            if len(sizes[top]) == 4 and len(bottom) == 4:
                found[top] = base.then(*_step(layer, bottom, sizes[top]))
    return found


def _step(
    layer: LayerSpec, bottom: tuple[int, ...], top: tuple[int, ...]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and shift from a top to its bottom."""
    pairs = [_axis(layer, bottom, top, i) for i in (0, 1)]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _axis(
    layer: LayerSpec, bottom: tuple[int, ...], top: tuple[int, ...], i: int
) -> tuple[float, float]:
    op = layer.op
    if (found := op.axis_map(bottom, i)) is not None:
        return float(found[0]), float(found[1])
    if isinstance(op, Interp):
        cropped = bottom[2 + i] + op.pad_beg + op.pad_end
        return (cropped - 1) / max(1, top[2 + i] - 1), float(-op.pad_beg)
    return 1.0, 0.0
