"""Options and shapes: the regions of Faster R-CNN and R-FCN, proposed and pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Reads, Shape, Values, expect, register_op
from caffe_port.spec.ops.detection import axis_size
from caffe_port.spec.ops.losses import normalization

MOST_CELLS = 2**14  # of a region; nets have 49 to 784


def _features_and_regions(bottoms: Sequence[Shape]) -> int:
    """Refuses bottoms other than (N, C, H, W) and (R, 5); returns R."""
    features, regions = bottoms
    expect(len(features) == 4, f"features of shape {features}; expected (N, C, H, W)")
    fits = len(regions) >= 2 and regions[1] == 5 and set(regions[2:]) <= {1}
    expect(fits, f"regions of shape {regions}; expected (R, 5): image, x1, y1, x2, y2")
    return regions[0]


def _scale(scale: float) -> float:
    expect(0 < scale < 2**20, f"spatial_scale is {scale:g}; expected more than 0")
    return scale


class _Pooled(Op):
    """Bottoms: features (N, C, H, W), and regions (R, 5) in their images' coordinates."""

    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, bottoms[0][0] - 1, whole=True) if index else Values()


@register_op
@dataclass(frozen=True)
class ROIPooling(_Pooled):
    """ROIPooling of Fast R-CNN: the largest value in each cell of a region's grid.

    Source: rbgirshick/caffe-fast-rcnn roi_pooling_layer.cpp, LayerSetUp.

    Attributes:
        height, width: cells of the grid.
        scale: of the features, relative to the regions' coordinates.
    """

    type = "ROIPooling"
    chooses = True
    remark = "Backward as upstream's CUDA code, to the first maximum; its CPU code has none."

    height: int
    width: int
    scale: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ROIPooling:
        o = layer.roi_pooling_param
        for name, size in (("pooled_h", o.pooled_h), ("pooled_w", o.pooled_w)):
            expect(size > 0, f"{name} is {size}; expected 1 or more")
        cells = o.pooled_h * o.pooled_w
        expect(cells <= MOST_CELLS, f"{cells} cells per region; expected at most {MOST_CELLS}")
        return cls(o.pooled_h, o.pooled_w, _scale(o.spatial_scale))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(_features_and_regions(bottoms), bottoms[0][1], self.height, self.width)]


@register_op
@dataclass(frozen=True)
class PSROIPooling(_Pooled):
    """PSROIPooling of R-FCN: the mean in each cell of a region, of that cell's own channels.

    Source: daijifeng001/caffe-rfcn psroi_pooling_layer.cpp, LayerSetUp.

    Attributes:
        outputs: channels of the top.
        group: cells per side; the bottom has outputs * group^2 channels.
        scale: of the features, relative to the regions' coordinates.
    """

    type = "PSROIPooling"
    remark = "No recording: upstream has CUDA code only; checked by hand calculation."

    outputs: int
    group: int
    scale: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> PSROIPooling:
        o = layer.psroi_pooling_param
        for name, size in (("output_dim", o.output_dim), ("group_size", o.group_size)):
            expect(size > 0, f"{name} is {size}; expected 1 or more")
        return cls(o.output_dim, o.group_size, _scale(o.spatial_scale))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        regions = _features_and_regions(bottoms)
        wanted = self.outputs * self.group**2
        expect(bottoms[0][1] == wanted, f"{bottoms[0][1]} channels; expected {wanted}")
        return [(regions, self.outputs, self.group, self.group)]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[0][2] * bottoms[0][3]


@register_op
@dataclass(frozen=True)
class Proposal(Op):
    """Proposal in C++: the best regions among shifted and resized anchors.

    Tops: regions (image, x1, y1, x2, y2), and their scores.

    Source: YuwenXiong/py-R-FCN's Caffe and happynear/caffe-windows proposal_layer.cpp.

    Attributes:
        stride: pixels per cell of the scores.
        base: the side of the anchor that ratios and scales change.
        least: the smallest width and height, in pixels of the unscaled image.
        ratios, scales: of the anchors.
        before, after: how many of the best are looked at, and kept.
        nms: regions that overlap a better one by more are dropped.
    """

    type = "Proposal"
    bottoms = (3, 3)
    tops = (1, 2)
    fixed_bottoms = frozenset({0, 1, 2})
    chooses_rows = True
    outside_torch = True
    remark = (
        "The sizes' third and fourth number are the scales; where there are three, one is both."
    )

    stride: int
    base: int
    least: int
    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    before: int
    after: int
    nms: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Proposal:
        o = layer.proposal_param
        for name, values in (("ratio", o.ratio), ("scale", o.scale)):
            expect(len(values) > 0, f"no {name}; expected one or more")
            for value in values:
                expect(0 < value < 2**20, f"{name} is {value:g}; expected more than 0")
        for name in ("base_size", "pre_nms_topn", "post_nms_topn"):
            expect(getattr(o, name) > 0, f"{name} is 0; expected 1 or more")
        expect(o.nms_thresh >= 0, f"nms_thresh is {o.nms_thresh:g}; expected 0 or more")
        return cls(
            o.feat_stride, o.base_size, o.min_size, tuple(o.ratio), tuple(o.scale),
            o.pre_nms_topn, o.post_nms_topn, o.nms_thresh,
        )  # fmt: skip

    @property
    def anchors(self) -> int:
        return len(self.ratios) * len(self.scales)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as can be; the actual number depends on the data."""
        scores, moves, sizes = bottoms
        for name, shape, per_anchor in (("scores", scores, 2), ("moves", moves, 4)):
            wanted = per_anchor * self.anchors
            fits = len(shape) == 4 and shape[1] == wanted
            expect(fits, f"{name} of shape {shape}; expected (N, {wanted}, H, W)")
        expect(scores[0] == moves[0] and scores[2:] == moves[2:], f"moves of shape {moves}")
        fits = axis_size(sizes, 0) == 1 and axis_size(sizes, 1) in (3, 4)
        expect(fits, f"sizes of shape {sizes}; expected (1, 4): height, width and their scales")
        return [(scores[0] * self.after, 5), (scores[0] * self.after,)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(50, 200) if index == 2 else Values()


@register_op
@dataclass(frozen=True)
class SmoothL1LossOHEM(Op):
    """SmoothL1LossOHEM of R-FCN: the loss, and the loss of each region.

    Source: intel/caffe smooth_L1_loss_ohem_layer.cpp, of daijifeng001/caffe-rfcn's CUDA code.

    Attributes:
        normalization: 'FULL', 'VALID' (which is FULL here), 'BATCH_SIZE', 'NONE', or a divisor.
    """

    type = "SmoothL1LossOHEM"
    bottoms = (2, 3)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({2})
    backward_bottoms = Reads.NOTHING
    remark = "The diff leaves out the weight of the third bottom, as upstream's."

    normalization: str | float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SmoothL1LossOHEM:
        given = len(layer.loss_weight) == len(layer.top)
        expect(given, "no loss_weight for each top; this type has no default for it")
        return cls(normalization(layer.loss_param, "VALID"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        first = bottoms[0]
        expect(len(first) in (2, 4), f"a bottom of shape {first}; expected (R, C) or (R, C, H, W)")
        padded = [(*shape, *[1] * (4 - len(shape))) for shape in bottoms]
        for i, shape in enumerate(bottoms):  # (R, C) is (R, C, 1, 1)
            expect(padded[i] == padded[0], f"bottom {i} has shape {shape}; expected {first}")
        return [(), (first[0], 1, *padded[0][2:])]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()


@register_op
@dataclass(frozen=True)
class BoxAnnotatorOHEM(Op):
    """BoxAnnotatorOHEM of R-FCN: labels and weights of the regions with the largest losses.

    Bottoms: regions (R, 5), losses (R, 1), labels (R, 1), weights (R, C), each also (.., 1, 1).

    Source: intel/caffe box_annotator_ohem_layer.cpp, of daijifeng001/caffe-rfcn's.

    Attributes:
        kept: regions of each image that keep their labels and weights.
        ignore_label: the label of the others, whose weights are 0.
    """

    type = "BoxAnnotatorOHEM"
    bottoms = (4, 4)
    tops = (2, 2)
    fixed_bottoms = frozenset({0, 1, 2, 3})
    chooses_rows = True
    outside_torch = True

    kept: int
    ignore_label: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BoxAnnotatorOHEM:
        o = layer.box_annotator_ohem_param
        expect(o.roi_per_img > 0, f"roi_per_img is {o.roi_per_img}; expected 1 or more")
        return cls(o.roi_per_img, o.ignore_label)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        regions = bottoms[0]
        columns = [shape[1] if len(shape) > 1 else 1 for shape in bottoms]
        fits = columns[:3] == [5, 1, 1] and all(set(shape[2:]) <= {1} for shape in bottoms)
        expect(fits, f"bottoms {bottoms}; expected (R, 5), (R, 1), (R, 1), (R, C)")
        for shape in bottoms:
            expect(shape[0] == regions[0], f"a bottom of shape {shape} for {regions[0]} regions")
        return [(regions[0], 1, 1, 1), (regions[0], columns[3], 1, 1)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 0, whole=True) if index == 0 else Values()
