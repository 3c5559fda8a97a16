"""Points of one blob, for all labels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_port.unravel.rules._axes import coordinates

Points = npt.NDArray[np.int32]

_FEWEST_AXES = 3  # channel, y, x


@dataclass(frozen=True)
class PointSet:
    """Places in a blob, each once, and which labels they belong to.

    Attributes:
        flat: (P,) int64, rising flat indices.
        members: (P, labels) bool; every row has a True.
    """

    flat: Tensor
    members: Tensor

    @classmethod
    def merge(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> PointSet:
        """One set of several (flat, members), where places may come more than once."""
        places = torch.cat([flat for flat, _ in parts])
        flat, inverse = torch.unique(places, return_inverse=True)
        belongs = torch.cat([members for _, members in parts])
        row, label = belongs.nonzero(as_tuple=True)
        members = belongs.new_zeros(len(flat), belongs.shape[1])
        members[inverse[row], label] = True
        return cls(flat, members)

    def rows(self, shape: Sequence[int]) -> list[Points]:
        """Per label its points as sorted coordinates, (P, 3) int32: channel, y, x.

        A blob of fewer axes has zeros for the missing ones, one of more a column for each. The
        batch axis is left out, unless its size is not 1.
        """
        axes = list(coordinates(self.flat, shape))
        if len(shape) > 1 and shape[0] == 1:
            axes = axes[1:]
        axes += [torch.zeros_like(self.flat)] * (_FEWEST_AXES - len(axes))
        table = torch.stack(axes, 1).to(torch.int32).cpu().numpy()
        members = self.members.cpu().numpy()
        return [table[members[:, label]] for label in range(members.shape[1])]
