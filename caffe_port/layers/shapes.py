"""Modules: layers that rearrange values."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, checks, named, register_layer
from caffe_port.spec.ops import shapes as ops


@register_layer("Concat")
class Concat(Layer):
    """Joins the bottoms. Source: BVLC/caffe concat_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat(bottoms, self.spec.options(ops.Concat).axis),)


@register_layer("Slice")
class Slice(Layer):
    """Cuts the bottom along an axis. Source: BVLC/caffe slice_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Slice)
        (x,) = bottoms
        with named(self.spec):
            sizes = op.sizes(x.shape[op.axis])
        return torch.split(x, sizes, op.axis)


@register_layer("Reshape")
class Reshape(Layer):
    """Computes the new axes from the bottom's shape. Source: BVLC/caffe reshape_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        with named(self.spec):
            shape = self.spec.op.top_shapes([tuple(x.shape)])[0]
        return (x.reshape(shape),)


@register_layer("Flatten")
class Flatten(Layer):
    """Joins axes. Source: BVLC/caffe flatten_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (x.reshape(self.spec.op.top_shapes([tuple(x.shape)])[0]),)


@register_layer("Permute")
class Permute(Layer):
    """Source: weiliu89/caffe permute_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Permute)
        (x,) = bottoms
        return (x.permute(op.full_order(x.dim())).contiguous(),)


@register_layer("Split")
class Split(Layer):
    """Gives each reader a view. Source: BVLC/caffe split_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return tuple(x.view_as(x) for _ in self.spec.tops)


@register_layer("Tile")
class Tile(Layer):
    """Repeats the bottom along an axis. Source: BVLC/caffe tile_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Tile)
        (x,) = bottoms
        times = [1] * x.dim()
        times[op.axis] = op.tiles
        return (x.repeat(times),)


@register_layer("ShuffleChannel")
class ShuffleChannel(Layer):
    """Channel i of group g becomes channel g of group i. torch's reshape copies as Caffe does.

    Source: farmingyard/ShuffleNet shuffle_channel_layer.cpp; Zhang et al., ShuffleNet, 2017.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.ShuffleChannel)
        (x,) = bottoms
        groups = x.reshape(x.shape[0], op.group, x.shape[1] // op.group, *x.shape[2:])
        return (groups.transpose(1, 2).reshape(x.shape),)


@register_layer("Filter")
class Filter(Layer):
    """Keeps the items whose selector is not 0; the others get diffs of 0.

    The tops have as many items as were selected, which may be none.

    Source: BVLC/caffe filter_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *data, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        return tuple(x.index_select(0, chosen) for x in data)


@register_layer("BatchReindex")
class BatchReindex(Layer):
    """top[i] = bottom[index[i]]; an item picked twice gets both diffs.

    Source: BVLC/caffe batch_reindex_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x, index = bottoms[0], bottoms[1].detach()
        wrong = (index < 0) | (index >= x.shape[0])
        with named(self.spec):
            if checks() and bool(wrong.any()):
                found = float(index[wrong][0])
                raise ValueError(f"index {found:g}; expected 0 to {x.shape[0] - 1}")
        return (x.index_select(0, index.long()),)
