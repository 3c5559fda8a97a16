"""Options and shapes: losses of scores or values against labels or targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def normalization(loss: caffe_pb2.LossParameter, default: str) -> str | float:
    """'FULL', 'VALID', 'BATCH_SIZE', 'NONE' or PRE_FIXED's number; `normalize` is the old flag."""
    if loss.normalization == caffe_pb2.LossParameter.PRE_FIXED:
        return loss.pre_fixed_normalizer
    if loss.HasField("normalization"):
        return caffe_pb2.LossParameter.NormalizationMode.Name(loss.normalization)
    if loss.HasField("normalize"):
        return "VALID" if loss.normalize else "BATCH_SIZE"
    return default


def class_indices(classes: int, ignored: Iterable[int] = ()) -> Values:
    """Labels of so many classes, and those that do not count."""
    return Values(0, classes - 1, whole=True, also=tuple(ignored))


def same_batch(bottoms: list[Shape]) -> None:
    """Refuses bottoms whose first axes differ, as every loss layer of Caffe does (not Accuracy).

    Source: BVLC/caffe loss_layer.cpp, Reshape.
    """
    for i, shape in enumerate(bottoms):
        expect(len(shape) > 0, f"bottom {i} is a scalar; expected one item per row")
        expect(
            shape[0] == bottoms[0][0],
            f"bottom {i} has {shape[0]} items (shape {shape}), bottom 0 has {bottoms[0][0]}; "
            "expected as many",
        )


def one_label_each(scores: Shape, labels: Shape) -> None:
    """Refuses labels that are not one per item of ``scores``."""
    same_batch([scores, labels])
    expect(
        math.prod(labels) == scores[0],
        f"labels of shape {labels} for scores of shape {scores}; expected one per item",
    )


def one_label_per_position(scores: Shape, labels: Shape, axis: int) -> None:
    """Refuses labels that are not one per position of ``scores`` off its class axis."""
    wanted = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    expect(
        math.prod(labels) == wanted,
        f"{math.prod(labels)} labels (shape {labels}) for scores of shape {scores}; expected "
        f"{wanted}, one per position",
    )


def labels_of_items(scores: Shape, labels: Shape) -> None:
    """Refuses labels other than a list (N, L, 1, 1) or (N, L), L not 0, per item of scores."""
    fits = len(labels) in (2, 4) and labels[0] == scores[0] and labels[1] >= 1
    fits = fits and labels[2:] in ((), (1, 1))
    expect(fits, f"labels of shape {labels}; expected ({scores[0]}, L, 1, 1)")


def label_map(scores: Shape, labels: Shape) -> None:
    """Refuses labels that are not one plane over scores (N, C, H, W)."""
    expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
    wanted = (scores[0], 1, *scores[2:])
    expect(labels == wanted, f"labels of shape {labels}; expected {wanted}")


@register_op
@dataclass(frozen=True)
class Softmax(Op):
    """Softmax over one axis. Source: BVLC/caffe softmax_layer.cpp."""

    type = "Softmax"
    backward_bottoms = Reads.NOTHING
    backward_tops = Reads.EVERYTHING
    is_itemwise = off_first_axis
    keeps_index = True
    keeps_places = True
    in_place = True

    axis: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Softmax:
        return cls(layer.softmax_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis_index(self.axis, len(bottoms[0]))
        return [bottoms[0]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[0][self.axis]


@register_op
@dataclass(frozen=True)
class SoftmaxWithLoss(Op):
    """SoftmaxWithLoss: cross entropy of scores against a label map.

    Attributes:
        axis: the axis of the classes.
        ignore_labels: labels that do not count.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' or 'NONE' (BVLC and DeepLab v2), a number
            (R-FCN's PRE_FIXED), or 'WEIGHTS', DeepLab v1's: the class weights of counted pixels.
        weight_source: v1: a text file with one weight per class, or ''.
        class_weights: SegNet: one weight per class, or none. They weigh the sum, not its divisor.

    Source: BVLC/caffe softmax_loss_layer.cpp; DeepLab v1's softmaxloss_param;
    alexgkendall/caffe-segnet softmax_loss_layer.cpp for class_weights.
    """

    type = "SoftmaxWithLoss"
    kept_bottoms = frozenset({0})
    remark = (
        "DeepLab v1 and SegNet: 0 where no pixel counts; upstream gives NaN. SegNet's "
        "weight_by_label_freqs and class_weighting are there too."
    )
    bottoms = (2, 2)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    axis: int
    ignore_labels: tuple[int, ...]
    normalization: str | float
    weight_source: str
    class_weights: tuple[float, ...] = ()

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SoftmaxWithLoss:
        axis = layer.softmax_param.axis
        if layer.HasField("softmaxloss_param"):
            v1 = layer.softmaxloss_param
            return cls(axis, tuple(v1.ignore_label), "WEIGHTS", v1.weight_source)
        loss = layer.loss_param
        ignored = (loss.ignore_label,) if loss.HasField("ignore_label") else ()
        weights = tuple(loss.class_weighting) if loss.weight_by_label_freqs else ()
        given = bool(weights) or not loss.weight_by_label_freqs
        expect(given, "weight_by_label_freqs without class_weighting; expected one for each class")
        return cls(axis, ignored, normalization(loss, "VALID"), "", weights)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = axis_index(self.axis, len(scores))
        same_batch([scores, labels])
        one_label_per_position(scores, labels, axis)
        count = len(self.class_weights)
        expect(
            count in (0, scores[axis]),
            f"{count} class_weighting for {scores[axis]} classes; expected one for each",
        )
        return [(), scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        scores = bottoms[0]
        classes = scores[axis_index(self.axis, len(scores))]
        return class_indices(classes, self.ignore_labels) if index else Values()


@register_op
@dataclass(frozen=True)
class SigmoidCrossEntropyLoss(Op):
    """Options. Source: BVLC/caffe sigmoid_cross_entropy_loss_layer.cpp.

    Attributes:
        ignore_label: a target that does not count, or None; the DeepLab forks do not have it.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' (the default, and the only one in the DeepLab
            forks) or 'NONE'.
    """

    type = "SigmoidCrossEntropyLoss"
    kept_bottoms = frozenset({0})
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    ignore_label: int | None
    normalization: str | float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SigmoidCrossEntropyLoss:
        loss = layer.loss_param
        ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        return cls(ignored, normalization(loss, "BATCH_SIZE"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        scores, targets = bottoms
        expect(
            math.prod(scores) == math.prod(targets),
            f"targets of shape {targets} for scores of shape {scores}; expected as many",
        )
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        ignored = () if self.ignore_label is None else (self.ignore_label,)
        return Values(0, 1, also=ignored) if index else Values()


@register_op
@dataclass(frozen=True)
class InfogainLoss(Op):
    """InfogainLoss: cross entropy weighted by a matrix of gains.

    Source: BVLC/caffe infogain_loss_layer.cpp.

    Attributes:
        axis: the axis of the classes.
        ignore_label: a label that does not count, or None.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' or 'NONE'.
        source: a binaryproto with the matrix, or '' where it is the third bottom.
    """

    type = "InfogainLoss"
    bottoms = (2, 3)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({1, 2})

    axis: int
    ignore_label: int | None
    normalization: str | float
    source: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> InfogainLoss:
        options, loss = layer.infogain_loss_param, layer.loss_param
        expect(not loss.HasField("normalize"), "normalize is not read here; use normalization")
        source = "" if len(layer.bottom) == 3 else options.source
        expect(
            bool(source) or len(layer.bottom) == 3,
            "no matrix; expected a third bottom or infogain_loss_param { source: .. }",
        )
        ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        return cls(options.axis, ignored, normalization(loss, "VALID"), source)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms[:2]
        axis = axis_index(self.axis, len(scores))
        same_batch([scores, labels])
        one_label_per_position(scores, labels, axis)
        if len(bottoms) == 3:
            classes, gains = scores[axis], bottoms[2]
            expect(
                math.prod(gains) == classes**2,
                f"a matrix of shape {gains}; expected {classes} x {classes} values",
            )
        return [(), scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        if index == 1:
            ignored = () if self.ignore_label is None else (self.ignore_label,)
            return class_indices(bottoms[0][axis_index(self.axis, len(bottoms[0]))], ignored)
        return Values(0, 1) if index == 2 else Values()


@register_op
@dataclass(frozen=True)
class MultinomialLogisticLoss(Op):
    """Options: none. Source: BVLC/caffe multinomial_logistic_loss_layer.cpp."""

    type = "MultinomialLogisticLoss"
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one_label_each(*bottoms)
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(math.prod(bottoms[0][1:])) if index else Values(0.05, 1)


@register_op
@dataclass(frozen=True)
class HingeLoss(Op):
    """Options of HingeLoss: norm 'L1' or 'L2'. Source: BVLC/caffe hinge_loss_layer.cpp."""

    type = "HingeLoss"
    kept_bottoms = frozenset({0})
    remark = "One label per item is expected; of more, Caffe reads the first N values."
    chooses = True
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    norm: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> HingeLoss:
        return cls(caffe_pb2.HingeLossParameter.Norm.Name(layer.hinge_loss_param.norm))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one_label_each(*bottoms)
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(math.prod(bottoms[0][1:])) if index else Values()


@register_op
@dataclass(frozen=True)
class EuclideanLoss(Op):
    """EuclideanLoss: half the mean squared distance.

    Attributes:
        norm: 'L2', or 'L2sqrt' of DeepLab v1.

    Source: BVLC/caffe euclidean_loss_layer.cpp; DeepLab v1's euclidean_loss_param.
    """

    type = "EuclideanLoss"
    backward_bottoms = Reads.NOTHING
    remark = "Also takes more than 4 axes, which Caffe refuses."
    bottoms = (2, 2)
    auto_top = True

    norm: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> EuclideanLoss:
        return cls(caffe_pb2.EuclideanLossParameter.Type.Name(layer.euclidean_loss_param.type))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        a, b = bottoms
        expect(
            math.prod(a[1:]) == math.prod(b[1:]),
            f"bottom 0 has shape {a}, bottom 1 {b}; expected items of equal size",
        )
        return [()]


@register_op
@dataclass(frozen=True)
class ContrastiveLoss(Op):
    """ContrastiveLoss: similar pairs near, dissimilar ones a margin apart.

    Source: BVLC/caffe contrastive_loss_layer.cpp.

    Attributes:
        margin: the distance that dissimilar pairs should have.
        legacy_version: whether the margin is compared with the squared distance.
    """

    type = "ContrastiveLoss"
    kept_bottoms = frozenset({0, 1})
    remark = (
        "One label per pair is expected; Caffe reads the first N values, or beyond the blob. Also "
        "takes more than 4 axes, which Caffe refuses."
    )
    chooses = True
    bottoms = (3, 3)
    auto_top = True
    fixed_bottoms = frozenset({2})

    margin: float
    legacy_version: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ContrastiveLoss:
        options = layer.contrastive_loss_param
        return cls(options.margin, options.legacy_version)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        a, b, similar = bottoms
        for i, shape in enumerate((a, b)):
            expect(
                math.prod(shape[2:]) == 1,
                f"bottom {i} has shape {shape}; expected (N, C), (N, C, 1, 1) or (N)",
            )
        same_batch([a, b])
        expect(
            math.prod(a) == math.prod(b),
            f"bottom 0 has shape {a}, bottom 1 {b}; expected vectors of equal length",
        )
        expect(
            math.prod(similar[:1]) == math.prod(similar) == a[0],
            f"bottom 2 has shape {similar}; expected ({a[0]}), one label per pair",
        )
        return [()]
