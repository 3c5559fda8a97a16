"""BatchNorm: normalization by the batch's or by stored statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class BatchNorm(Op):
    """Options of BatchNorm. Source: BVLC/caffe batch_norm_layer.cpp, LayerSetUp.

    Its three parameters are statistics, never learned. As in Caffe, a `param` that gives one a rate
    is an error, except where all three are there: the upgrade of old files sets those to 0.

    Attributes:
        use_global_stats: whether the stored statistics normalize; None leaves it to the phase.
        fraction: what is kept of the stored statistics at each update.
        eps: added to the variance.
        update_global_stats: DeepLab v2: whether stored statistics that normalize are updated too.
    """

    type = "BatchNorm"
    in_place = True
    option_ranges = {"eps": (1e-05, 0.1), "moving_average_fraction": (0, 1)}
    frozen_params = True

    use_global_stats: bool | None
    fraction: float
    eps: float
    update_global_stats: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BatchNorm:
        o = layer.batch_norm_param
        rates = [param.lr_mult for param in layer.param]
        expect(
            len(rates) == 3 or not any(rates),
            f"param with lr_mult {', '.join(f'{rate:g}' for rate in rates)}; the statistics are "
            "not learned: expected lr_mult 0",
        )
        given = o.use_global_stats if o.HasField("use_global_stats") else None
        return cls(given, o.moving_average_fraction, o.eps, o.update_global_stats)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][1:2]
        return [
            ParamShape("mean", channels),
            ParamShape("variance", channels, values=Values(0.05, 4)),
            ParamShape("factor", (1,), values=Values(0.5, 2, also=(0,))),
        ]  # fmt: skip

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) // max(bottoms[0][1], 1)
