"""Options and shapes: the losses of detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Reads, Shape, Values, expect, register_op
from caffe_port.spec.ops.detection import code_name, one_prediction_per_prior, prior_count
from caffe_port.spec.ops.losses import normalization, same_batch

_Options = caffe_pb2.MultiBoxLossParameter


@register_op
@dataclass(frozen=True)
class MultiBoxLoss(Op):
    """MultiBoxLoss of SSD: matches priors with true boxes, and sums losses of place and class.

    Source: weiliu89/caffe (branch ssd) multibox_loss_layer.cpp, LayerSetUp.

    Attributes:
        classes: how many, with the background.
        background: the class that is no object.
        share_location: whether one box serves all classes.
        smooth: whether places have a smooth L1 loss; else half the square.
        logistic: whether classes have a sigmoid each; else a softmax over all.
        loc_weight: of the losses of places.
        per_prediction: whether a prior may have any box that it overlaps by ``overlap``; else each
            box has one prior.
        overlap: see there.
        match_priors: whether priors are matched; else the predicted boxes.
        difficult: whether true boxes marked difficult count.
        mining: 'NONE', 'MAX_NEGATIVE' or 'HARD_EXAMPLE': which priors take part in the loss.
        neg_pos_ratio, neg_overlap: MAX_NEGATIVE: so many unmatched priors per matched one, of
            those that overlap a true box by less.
        sample_size: HARD_EXAMPLE: how many priors.
        nms, top_k, nms_priors: suppression among the candidates; 0 is none.
        code: 'CORNER', 'CENTER_SIZE' or 'CORNER_SIZE'.
        variance_in_target: whether the variances divide prediction and target, not the target.
        agnostic: whether all objects are one class.
        skip_outside: whether boxes that leave the image are not matched.
        only_inside: whether coordinates outside of the image have no loss.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE', 'NONE', or PRE_FIXED's number.
        counted: which of the two losses count: those that `propagate_down` does not switch off.
    """

    type = "MultiBoxLoss"
    bottoms = (4, 4)
    auto_top = True
    fixed_bottoms = frozenset({2, 3})
    backward_bottoms = Reads.NOTHING
    chooses = True
    outside_torch = True
    remark = (
        "Each forward pass matches again; upstream keeps the matches of the first one until a "
        "backward pass."
    )

    classes: int
    background: int
    share_location: bool
    smooth: bool
    logistic: bool
    loc_weight: float
    per_prediction: bool
    overlap: float
    match_priors: bool
    difficult: bool
    mining: str
    neg_pos_ratio: float
    neg_overlap: float
    sample_size: int
    nms: float
    top_k: int
    nms_priors: bool
    code: str
    variance_in_target: bool
    agnostic: bool
    skip_outside: bool
    only_inside: bool
    normalization: str | float
    counted: tuple[bool, bool]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MultiBoxLoss:
        o = layer.multibox_loss_param
        mining = _Options.MiningType.Name(o.mining_type)
        _check(o, mining)
        down = tuple(layer.propagate_down) or (True, True)
        return cls(
            classes=o.num_classes, background=o.background_label_id,
            share_location=o.share_location, smooth=o.loc_loss_type == _Options.SMOOTH_L1,
            logistic=o.conf_loss_type == _Options.LOGISTIC, loc_weight=o.loc_weight,
            per_prediction=o.match_type == _Options.PER_PREDICTION, overlap=o.overlap_threshold,
            match_priors=o.use_prior_for_matching, difficult=o.use_difficult_gt, mining=mining,
            neg_pos_ratio=o.neg_pos_ratio, neg_overlap=o.neg_overlap, sample_size=o.sample_size,
            nms=o.nms_param.nms_threshold if o.HasField("nms_param") else 0,
            top_k=o.nms_param.top_k, nms_priors=o.use_prior_for_nms, code=code_name(o.code_type),
            variance_in_target=o.encode_variance_in_target, agnostic=o.map_object_to_agnostic,
            skip_outside=o.ignore_cross_boundary_bbox, only_inside=o.bp_inside,
            normalization=normalization(layer.loss_param, "VALID"), counted=(down[0], down[1]),
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        loc, conf, priors, truth = bottoms
        each = 1 if self.share_location else self.classes
        one_prediction_per_prior(loc, conf, prior_count(priors), each, self.classes)
        fits = len(truth) == 4 and truth[:2] == (1, 1) and truth[3] == 8
        expect(fits, f"true boxes of shape {truth}; expected (1, 1, n, 8)")
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[1][0] * bottoms[1][1]


def _check(o: caffe_pb2.MultiBoxLossParameter, mining: str) -> None:
    """Refuses options that upstream's CHECKs refuse, or that read beyond its blobs."""
    expect(o.num_classes > 0, "num_classes is missing or 0")
    mines = mining != "NONE"
    if o.HasField("do_neg_mining"):
        said = f"do_neg_mining: {str(o.do_neg_mining).lower()} with mining_type: {mining}"
        expect(o.do_neg_mining == mines, f"{said}; remove do_neg_mining")
    expect(o.share_location or not mines, "mining needs share_location: true; or mining_type: NONE")
    inside = o.background_label_id < o.num_classes
    label = f"background_label_id is {o.background_label_id}"
    expect(inside, f"{label}; expected less than the {o.num_classes} classes")
    expect(o.sample_size > 0 or mining != "HARD_EXAMPLE", "sample_size is 0; expected 1 or more")
    expect(
        0 <= o.neg_pos_ratio < math.inf,
        f"neg_pos_ratio is {o.neg_pos_ratio:g}; expected 0 or more, and finite",
    )
    numbers = {
        "overlap_threshold": o.overlap_threshold, "neg_overlap": o.neg_overlap,
        "loc_weight": o.loc_weight, "nms_threshold": o.nms_param.nms_threshold,
    }  # fmt: skip
    for name, value in numbers.items():
        expect(math.isfinite(value), f"{name} is {value:g}; expected a finite number")
    two = o.num_classes == 2 and o.background_label_id == 0
    expect(
        two or not o.map_object_to_agnostic,
        "map_object_to_agnostic needs num_classes: 2 and background_label_id: 0",
    )


@register_op
@dataclass(frozen=True)
class SmoothL1Loss(Op):
    """SmoothL1Loss: half a square near 0, straight beyond.

    Two bottoms; a third multiplies the difference (SSD); or a third and fourth multiply the
    difference and the loss (Fast R-CNN).

    Source: weiliu89/caffe (branch ssd) and rbgirshick/caffe-fast-rcnn smooth_L1_loss_layer.cpp.

    Attributes:
        sigma: the parts meet at 1 / sigma^2.
    """

    type = "SmoothL1Loss"
    bottoms = (2, 4)
    auto_top = True
    fixed_bottoms = frozenset({2, 3})
    backward_bottoms = Reads.NOTHING
    option_ranges = {"sigma": (0.1, 10)}
    remark = "With three bottoms the diff leaves out the weight, as SSD's does."

    sigma: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SmoothL1Loss:
        sigma = layer.smooth_l1_loss_param.sigma
        expect(sigma > 0, f"sigma is {sigma:g}; expected more than 0")
        return cls(sigma)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        for i, shape in enumerate(bottoms):
            expect(shape == bottoms[0], f"bottom {i} has shape {shape}; expected {bottoms[0]}")
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()
