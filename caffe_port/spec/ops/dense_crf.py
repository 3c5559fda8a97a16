"""DenseCRF as a layer (DeepLab v2; v1 differs by a constant per pixel)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op


@register_op
@dataclass(frozen=True)
class DenseCRF(Op):
    """Options of DenseCRF. Source: DeepLab v2 densecrf_layer.cpp.

    Attributes:
        max_iter: mean field iterations.
        pos_w, pos_xy_std: weights and widths of the Gaussian kernels.
        bi_w, bi_xy_std, bi_rgb_std: weights and widths of the bilateral kernels.
        output_probability: probabilities, or their logarithm.
    """

    type = "DenseCRF"
    option_ranges = {
        "max_iter": (0, 3),
        "pos_xy_std": (1, 20),
        "bi_xy_std": (1, 20),
        "bi_rgb_std": (1, 20),
        "pos_w": (0, 5),
        "bi_w": (0, 5),
    }
    remark = "Each item of a batch has its own colours; upstream takes the first item's."
    bottoms = (2, 3)
    fixed_bottoms = frozenset({0, 1, 2})

    max_iter: int
    pos_w: tuple[float, ...]
    pos_xy_std: tuple[float, ...]
    bi_w: tuple[float, ...]
    bi_xy_std: tuple[float, ...]
    bi_rgb_std: tuple[float, ...]
    output_probability: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DenseCRF:
        o = layer.dense_crf_param
        position, bilateral = len(o.pos_w), len(o.bi_w)
        expect(len(o.pos_xy_std) == position, f"{len(o.pos_xy_std)} pos_xy_std, {position} pos_w")
        expect(
            len(o.bi_xy_std) == bilateral == len(o.bi_rgb_std),
            f"{len(o.bi_xy_std)} bi_xy_std, {len(o.bi_rgb_std)} bi_rgb_std, {bilateral} bi_w; "
            "expected one of each per kernel",
        )
        return cls(
            o.max_iter, tuple(o.pos_w), tuple(o.pos_xy_std), tuple(o.bi_w), tuple(o.bi_xy_std),
            tuple(o.bi_rgb_std), o.output_probability,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores = bottoms[0]
        expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
        sizes = bottoms[1]
        expect(sizes == (scores[0], 1, 1, 2), f"data_dim of shape {sizes}; expected (N, 1, 1, 2)")
        if len(bottoms) == 3:
            data, wanted = bottoms[2], (scores[0], 3, *scores[2:])
            grey = "; of a grey image, repeat the channel" if data[1:2] == (1,) else ""
            expect(data == wanted, f"data of shape {data}; expected {wanted}{grey}")
        expect(
            not self.bi_w or len(bottoms) == 3, "bilateral kernels need the data as third bottom"
        )
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = bottoms[0][2:]
        return Values(1, min(height, width), whole=True) if index == 1 else Values()
