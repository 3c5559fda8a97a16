"""The offset of a Crop without options, from how places in tops relate to places in bottoms.

Source: the affine maps of BVLC/caffe python/caffe/coord_map.py; longjon/caffe (branch future)
crop_layer.cpp, LayerSetUp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caffe_port.proto import caffe_pb2
from caffe_port.proto.dialects import DERIVING
from caffe_port.spec.ops import Op, Shape
from caffe_port.spec.ops._base import IDENTITY, AxisMap, expect
from caffe_port.spec.ops.resampling import AutoCrop, Crop

_SPATIAL = (0, 1)


class Alignment:
    """Finds the offsets of Crop layers without options, while a net is connected.

    BVLC's Caffe crops such a layer from 0 on. The forks before its Crop layer (longjon/caffe, and
    after it HED, DSS, CRF-RNN, U-Net) crop where places of both bottoms coincide.

    Attributes:
        doubtful: (layer, offset) of each Crop that BVLC's Caffe and the forks cut differently.
    """

    def __init__(self, dialect: str) -> None:
        self._derives = dialect in DERIVING
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
            ValueError: in the dialects of DERIVING, a Crop whose offset cannot be derived.
        """
        if not isinstance(op, Crop):
            return op
        derives = self._derives or isinstance(op, AutoCrop)
        if message.HasField("crop_param") and not isinstance(op, AutoCrop):
            return op
        try:
            offset = self._offset(*bottoms)
        except ValueError as error:
            if isinstance(op, AutoCrop):  # it has no options
                advice = "write a Crop layer with crop_param { axis: 2 offset: N } instead"
                raise ValueError(f"{error}: {advice}") from None
            if derives:
                lacking = f"no crop_param, and {error}: write crop_param with an offset"
                raise ValueError(lacking) from None
            return op  # not a net of those forks, which refuse it
        if derives:
            return replace(op, axis=2, offset=offset)
        if any(offset):
            self.doubtful.append((message.name, offset))
        return op

    def add(self, op: Op, bottoms: Sequence[tuple[str, Shape]], tops: Sequence[str]) -> None:
        """Records a layer."""
        if not bottoms:
            return
        name, shape = bottoms[0]
        steps: tuple[AxisMap, ...] = ()
        if len(shape) == 4 or op.keeps_places:
            maps = [op.axis_map(shape, i) for i in _SPATIAL]
            known = tuple(step for step in maps if step is not None)
            steps = known if len(known) == len(maps) else ()
        for top in tops:
            self._below.setdefault(top, (name, steps))  # of layers in place the first counts

    def _offset(self, source: tuple[str, Shape], wanted: tuple[str, Shape]) -> tuple[int, ...]:
        """The place in ``source`` of the first place of ``wanted``, per spatial axis."""
        path = [source[0]]
        while path[-1] in self._below:
            path.append(self._below[path[-1]][0])
        meeting = wanted[0]
        while meeting not in path:
            expect(
                meeting in self._below,
                f"bottoms that come from different layers ('{source[0]}' and '{wanted[0]}')",
            )
            meeting = self._below[meeting][0]
        return tuple(self._axis_offset(source[0], wanted[0], meeting, i) for i in _SPATIAL)

    def _axis_offset(self, source: str, wanted: str, meeting: str, i: int) -> int:
        scale, shift = self._map_to(meeting, source, i)
        other_scale, other_shift = self._map_to(meeting, wanted, i)
        expect(
            scale == other_scale,
            f"bottoms of different scale: a step is {float(scale):g} in '{source}' and "
            f"{float(other_scale):g} in '{wanted}'",
        )
        offset = (other_shift - shift) / scale
        expect(
            offset >= 0 and offset.denominator == 1,
            f"the layers before give the offset {float(offset):g}; expected a whole number, 0 or "
            "more",
        )
        return int(offset)

    def _map_to(self, meeting: str, blob: str, i: int) -> AxisMap:
        """The map from a blob to one that it is made of."""
        scale, shift = IDENTITY
        while blob != meeting:
            below, steps = self._below[blob]
            expect(
                bool(steps),
                f"'{blob}' is made by a layer that does not map places",
            )
            # the place so far, seen from the bottom of this layer
            scale, shift = steps[i][0] * scale, steps[i][0] * shift + steps[i][1]
            blob = below
        return scale, shift
