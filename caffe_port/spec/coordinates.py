"""How places in a layer's top relate to places in its bottom, and the Crop that follows from it.

A map is (scale, shift) per spatial axis, for the centres of windows:
``place in the bottom = scale * place in the top + shift``.

Source: the affine maps of BVLC/caffe python/caffe/coord_map.py; longjon/caffe (branch future)
crop_layer.cpp, LayerSetUp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import Op, Shape
from caffe_port.spec.ops._base import expect
from caffe_port.spec.ops.filters import Windowed
from caffe_port.spec.ops.pooling import Pooling
from caffe_port.spec.ops.resampling import Crop

AxisMap: TypeAlias = tuple[Fraction, Fraction]
_IDENTITY: AxisMap = (Fraction(1), Fraction(0))
_SPATIAL = (0, 1)
# layers whose tops lie over their bottoms, place by place
_KEEP_PLACES = {
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Concat", "Dropout", "Eltwise", "ELU", "Exp",
    "Log", "LRN", "MVN", "Normalize", "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "Slice",
    "Softmax", "Split", "Swish", "TanH", "Threshold",
}  # fmt: skip


def axis_map(op: Op, bottom: Shape, i: int) -> AxisMap | None:
    """The map of a layer that moves or scales places, along spatial axis i (0 height, 1 width).

    Args:
        op: its options.
        bottom: (N, C, H, W), the shape of its first bottom.
        i: 0 or 1.
    Returns:
        None for any other layer.
    """
    if isinstance(op, Windowed):
        window = op.window(bottom)
        middle = Fraction(window.extent(i) - 1, 2) - window.pad[i]
        if op.type == "Deconvolution":
            return Fraction(1, window.stride[i]), -middle / window.stride[i]
        return Fraction(window.stride[i]), middle
    if isinstance(op, Pooling):
        return Fraction(op.stride[i]), Fraction(op.window(bottom)[i] - 1, 2) - op.pad[i]
    if isinstance(op, Crop):
        return Fraction(1), Fraction(op.ranges(bottom, (0,) * len(bottom))[2 + i][0])
    return None


def _moves(op: Op, bottom: Shape) -> bool:
    """Whether a layer moves or scales places in height and width."""
    if isinstance(op, Windowed):
        return op.channel_axis(bottom) == 1  # behind another axis only the width is spatial
    return isinstance(op, (Pooling, Crop))


class Alignment:
    """Follows a net layer by layer and finds the offset of a Crop that has no options.

    BVLC's Caffe crops such a layer from 0 on. The forks before its Crop layer (longjon/caffe, and
    after it HED, DSS, CRF-RNN, U-Net) crop where places of both bottoms coincide.

    Attributes:
        doubtful: (layer, offset) of each Crop that BVLC's Caffe and the forks cut differently.
    """

    def __init__(self, dialect: str) -> None:
        self._derives = dialect == "longjon"
        # top -> the first bottom of the layer that made it, and the map of each axis
        self._below: dict[str, tuple[str, tuple[AxisMap, ...]]] = {}
        self.doubtful: list[tuple[str, tuple[int, ...]]] = []

    def settled(
        self, message: caffe_pb2.LayerParameter, op: Op, bottoms: Sequence[tuple[str, Shape]]
    ) -> Op:
        """The options of a layer, with the offset that the dialect gives a Crop.

        Args:
            message: the layer.
            op: its options.
            bottoms: names and shapes.
        Raises:
            ValueError: in the dialect 'longjon', a Crop whose offset cannot be derived.
        """
        if not isinstance(op, Crop) or message.HasField("crop_param"):
            return op
        try:
            offset = self._offset(*bottoms)
        except ValueError:
            if self._derives:
                raise
            return op  # not a net of those forks, which stop here
        if self._derives:
            return replace(op, axis=2, offset=offset)
        if any(offset):
            self.doubtful.append((message.name, offset))
        return op

    def add(self, op: Op, bottoms: Sequence[tuple[str, Shape]], tops: Sequence[str]) -> None:
        """Follows a layer from now on."""
        if not bottoms:
            return
        name, shape = bottoms[0]
        if len(shape) == 4 and _moves(op, shape):
            steps = tuple(axis_map(op, shape, i) or _IDENTITY for i in _SPATIAL)
        elif op.type in _KEEP_PLACES:
            steps = (_IDENTITY,) * len(_SPATIAL)
        else:
            steps = ()
        for top in tops:
            self._below.setdefault(top, (name, steps))  # in place: the first writer counts

    def _offset(self, source: tuple[str, Shape], wanted: tuple[str, Shape]) -> tuple[int, ...]:
        """How far inside of ``source`` the first place of ``wanted`` is, per spatial axis."""
        path = [source[0]]
        while path[-1] in self._below:
            path.append(self._below[path[-1]][0])
        meeting = wanted[0]
        while meeting not in path:
            expect(
                meeting in self._below,
                f"no crop_param, and bottoms that come from different layers ('{source[0]}' and "
                f"'{wanted[0]}'); write crop_param with an offset",
            )
            meeting = self._below[meeting][0]
        return tuple(self._axis_offset(source[0], wanted[0], meeting, i) for i in _SPATIAL)

    def _axis_offset(self, source: str, wanted: str, meeting: str, i: int) -> int:
        scale, shift = self._map_to(meeting, source, i)
        other_scale, other_shift = self._map_to(meeting, wanted, i)
        expect(
            scale == other_scale,
            f"no crop_param, and bottoms of different scale: a step is {float(scale):g} in "
            f"'{source}' and {float(other_scale):g} in '{wanted}'; write crop_param with an offset",
        )
        offset = (other_shift - shift) / scale
        expect(
            offset >= 0 and offset.denominator == 1,
            f"no crop_param, and the layers before give the offset {float(offset):g}; expected a "
            "whole number, 0 or more: write crop_param with an offset",
        )
        return int(offset)

    def _map_to(self, meeting: str, blob: str, i: int) -> AxisMap:
        """The map from a blob to one that it is made of."""
        scale, shift = _IDENTITY
        while blob != meeting:
            below, steps = self._below[blob]
            expect(
                bool(steps),
                f"no crop_param, and '{blob}' is made by a layer that does not map places; write "
                "crop_param with an offset",
            )
            # the place so far, seen from the bottom of this layer
            scale, shift = steps[i][0] * scale, steps[i][0] * shift + steps[i][1]
            blob = below
        return scale, shift
