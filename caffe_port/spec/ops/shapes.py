"""Options and shapes: layers that move values without computing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    Reads,
    Shape,
    Values,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)


@register_op
@dataclass(frozen=True)
class Concat(Op):
    """Concat along one axis. Source: BVLC/caffe concat_layer.cpp."""

    type = "Concat"
    backward_bottoms = Reads.NOTHING
    shared_memory = "data and diff"
    is_itemwise = off_first_axis
    keeps_places = True
    bottoms = (1, None)

    axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Concat:
        options = layer.concat_param
        old = options.HasField("concat_dim")
        expect(not (old and options.HasField("axis")), "axis and concat_dim exclude one another")
        return cls(options.concat_dim if old else options.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        first = bottoms[0]
        axis = axis_index(self.axis, len(first))
        for i, shape in enumerate(bottoms):
            expect(
                len(shape) == len(first)
                and shape[:axis] + shape[axis + 1 :] == first[:axis] + first[axis + 1 :],
                f"bottom {i} has shape {shape}, bottom 0 {first}; expected them equal but for "
                f"axis {axis}",
            )
        total = sum(shape[axis] for shape in bottoms)
        return [(*first[:axis], total, *first[axis + 1 :])]


@register_op
@dataclass(frozen=True)
class Slice(Op):
    """Slice: a blob cut along one axis. Source: BVLC/caffe slice_layer.cpp.

    Attributes:
        axis: the axis that is cut.
        points: where each top but the first starts; none cuts into equal parts.
        count: number of tops.
    """

    type = "Slice"
    backward_bottoms = Reads.NOTHING
    shared_memory = "data and diff"
    is_itemwise = off_first_axis
    keeps_places = True
    tops = (1, None)

    axis: int
    points: tuple[int, ...]
    count: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Slice:
        options = layer.slice_param
        old = options.HasField("slice_dim")
        expect(not (old and options.HasField("axis")), "axis and slice_dim exclude one another")
        points, count = tuple(options.slice_point), len(layer.top)
        expect(
            len(points) in (0, count - 1),
            f"{len(points)} slice_point for {count} tops; expected {count - 1} or none",
        )
        expect(
            all(a < b for a, b in pairwise((0, *points))),
            f"slice_point {points}; expected them above 0 and rising",
        )
        return cls(options.slice_dim if old else options.axis, points, count)

    def sizes(self, size: int) -> list[int]:
        """Lengths of the parts of an axis."""
        if self.points or self.count == 1:
            expect(
                max(self.points, default=0) <= size,
                f"slice_point {self.points} reach beyond an axis of {size}",
            )
            return [b - a for a, b in pairwise((0, *self.points, size))]
        expect(size % self.count == 0, f"an axis of {size} cannot be cut into {self.count} equal")
        return [size // self.count] * self.count

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        axis = axis_index(self.axis, len(shape))
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes(shape[axis])]


@register_op
@dataclass(frozen=True)
class Reshape(Op):
    """Reshape: the same values under other axes. Source: BVLC/caffe reshape_layer.cpp.

    Attributes:
        dims: the new axes; 0 copies the bottom's axis at the same place, -1 is what is left.
        axis: the first axis replaced; -1 appends behind the last.
        num_axes: how many axes are replaced; -1 is all from ``axis`` on.
    """

    type = "Reshape"
    backward_bottoms = Reads.NOTHING
    shared_memory = "data and diff"
    itemwise = True
    keeps_index = True

    dims: tuple[int, ...]
    axis: int
    num_axes: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Reshape:
        expect(layer.bottom[0] != layer.top[0], "Reshape cannot work in place; rename its top")
        options = layer.reshape_param
        dims = tuple(int(d) for d in options.shape.dim)
        expect(dims.count(-1) <= 1, f"shape {dims} has several -1; expected at most one")
        expect(min(dims, default=0) >= -1, f"shape {dims}; expected -1, 0 or sizes")
        expect(options.num_axes >= -1, f"num_axes is {options.num_axes}; expected -1 (all) or more")
        return cls(dims, options.axis, options.num_axes)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start = self.axis if self.axis >= 0 else len(shape) + self.axis + 1
        expect(
            0 <= start <= len(shape), f"axis {self.axis} is outside of a blob of {len(shape)} axes"
        )
        end = len(shape) if self.num_axes == -1 else start + self.num_axes
        expect(
            end <= len(shape),
            f"axis {self.axis} and num_axes {self.num_axes} reach beyond the {len(shape)} axes",
        )
        new = []
        for i, dim in enumerate(self.dims):
            expect(
                dim != 0 or start + i < len(shape),
                f"shape {self.dims} has a 0 at {i}, but the bottom {shape} no axis {start + i}",
            )
            new.append(shape[start + i] if dim == 0 else dim)
        count, head, tail = math.prod(shape), shape[:start], shape[end:]
        if -1 in new:
            rest = math.prod(head) * math.prod(tail) * math.prod([d for d in new if d != -1])
            expect(
                rest > 0 and count % rest == 0,
                f"{count} values of bottom {shape} cannot be divided into {(*head, *new, *tail)}",
            )
            new[new.index(-1)] = count // rest
        top = (*head, *new, *tail)
        expect(math.prod(top) == count, f"shape {top} for the {count} values of a bottom {shape}")
        return [top]


@register_op
@dataclass(frozen=True)
class Flatten(Op):
    """Options of Flatten: first and last axis. Source: BVLC/caffe flatten_layer.cpp."""

    type = "Flatten"
    backward_bottoms = Reads.NOTHING
    shared_memory = "data"
    itemwise = True
    keeps_index = True

    axis: int
    end_axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Flatten:
        expect(layer.bottom[0] != layer.top[0], "Flatten cannot work in place; rename its top")
        return cls(layer.flatten_param.axis, layer.flatten_param.end_axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start = axis_index(self.axis, len(shape))
        end = axis_index(self.end_axis, len(shape))
        # one before the start is legal: nothing is joined and an axis of size 1 comes in
        expect(end >= start - 1, f"end_axis {self.end_axis} is before axis {self.axis}")
        return [(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])]


@register_op
@dataclass(frozen=True)
class Permute(Op):
    """Permute of SSD: puts the axes into another order.

    Source: weiliu89/caffe permute_layer.cpp, LayerSetUp.

    Attributes:
        order: axes of the bottom that come first; the others follow in their own order.
    """

    type = "Permute"
    backward_bottoms = Reads.NOTHING

    order: tuple[int, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Permute:
        order = tuple(layer.permute_param.order)
        expect(len(set(order)) == len(order), f"order is {order}; expected each axis once")
        return cls(order)

    def is_itemwise(self, bottoms: Sequence[Shape]) -> bool:
        return not self.order or self.order[0] == 0

    def full_order(self, dims: int) -> tuple[int, ...]:
        """All axes of the bottom, in the top's order."""
        expect(
            max(self.order, default=0) < max(dims, 1),
            f"order is {self.order} for a bottom with {dims} axes",
        )
        return self.order + tuple(axis for axis in range(dims) if axis not in self.order)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        return [tuple(shape[axis] for axis in self.full_order(len(shape)))]


@register_op
@dataclass(frozen=True)
class Split(Op):
    """Split: one blob for several readers, each with its own diff.

    Source: BVLC/caffe split_layer.cpp.
    """

    type = "Split"
    backward_bottoms = Reads.NOTHING
    shared_memory = "data"
    itemwise = True
    keeps_index = True
    keeps_places = True
    tops = (1, None)

    count: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Split:
        return cls(len(layer.top))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * self.count


@register_op
@dataclass(frozen=True)
class Tile(Op):
    """Tile: a blob repeated along one axis. Source: BVLC/caffe tile_layer.cpp."""

    type = "Tile"
    backward_bottoms = Reads.NOTHING
    is_itemwise = off_first_axis

    axis: int
    tiles: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Tile:
        options = layer.tile_param
        expect(options.tiles > 0, f"tiles is {options.tiles} or missing; expected 1 or more")
        return cls(options.axis, options.tiles)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = list(bottoms[0])
        shape[axis_index(self.axis, len(shape))] *= self.tiles
        return [tuple(shape)]


@register_op
@dataclass(frozen=True)
class ShuffleChannel(Op):
    """ShuffleChannel of ShuffleNet: interleaves groups of channels.

    Source: farmingyard/ShuffleNet shuffle_channel_layer.cpp.

    Attributes:
        group: groups that the bottom's channels are made of.
    """

    type = "ShuffleChannel"
    backward_bottoms = Reads.NOTHING
    itemwise = True

    group: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ShuffleChannel:
        group = layer.shuffle_channel_param.group
        expect(group > 0, "group is 0; expected 1 or more")
        return cls(group)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) >= 2, f"a bottom of shape {shape}; expected (N, C, ...)")
        expect(
            shape[1] % self.group == 0,
            f"{shape[1]} channels; expected a multiple of group {self.group}",
        )
        return [shape]


@register_op
@dataclass(frozen=True)
class Filter(Op):
    """Options of Filter: none. The last bottom is the selector.

    Source: BVLC/caffe filter_layer.cpp.
    """

    type = "Filter"
    backward_bottoms = Reads.NOTHING
    bottoms = (2, None)
    tops = (1, None)

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Filter:
        bottoms, tops = len(layer.bottom), len(layer.top)
        expect(
            tops == bottoms - 1,
            f"{tops} tops for {bottoms} bottoms; expected one per bottom but the selector",
        )
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes if every item is selected; the actual number depends on the data."""
        *data, selector = bottoms
        expect(
            len(selector) > 0 and math.prod(selector[1:]) == 1,
            f"a selector of shape {selector}; expected one value per item",
        )
        for i, shape in enumerate(data):
            expect(
                len(shape) > 0 and shape[0] == selector[0],
                f"bottom {i} has shape {shape}; expected {selector[0]} items, as the selector has",
            )
        return list(data)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 1, whole=True) if index == len(bottoms) - 1 else Values()


@register_op
@dataclass(frozen=True)
class BatchReindex(Op):
    """Options of BatchReindex: none. Source: BVLC/caffe batch_reindex_layer.cpp."""

    type = "BatchReindex"
    kept_bottoms = frozenset({0})
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        data, index = bottoms
        expect(len(data) > 0, "bottom 0 is a scalar; expected a batch")
        expect(len(index) == 1, f"an index of shape {index}; expected one axis")
        return [(index[0], *data[1:])]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, bottoms[0][0] - 1, whole=True) if index else Values()
