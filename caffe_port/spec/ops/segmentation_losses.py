"""Losses and label layers that segmentation papers added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops.losses import (
    SigmoidCrossEntropyLoss,
    SoftmaxWithLoss,
    class_indices,
    label_map,
    labels_of_items,
    one_label_per_position,
    same_batch,
)


@register_op
@dataclass(frozen=True)
class FeedbackLoss(Op):
    """Options of FeedbackLoss; docs/losses.md has the formula.

    Attributes:
        similarity: 'cosine' or 'correlation'.
        template: 'best', 'mean' or 'top-k'.
        k: pixels of a 'top-k' template.
        detach: whether templates are constants.
        include_background: whether class 0 is a class like the others.
        correct_only: whether only pixels predicted right make templates, where there are any.
        pull_weight, push_weight: factors of the two terms, besides the top's loss_weight.
        margin: similarity to another class's template that costs nothing.
        eps: added to squared norms.
        ignore_labels: labels that do not count: loss_param's, then feedback_loss_param's.
        ramp_up: updates of a solver during which the loss is increased from near 0 to all of it.

    Source: ours, after the thesis behind caffe_port; docs/losses.md.
    """

    type = "FeedbackLoss"
    chooses = True
    remark = "Not Caffe's: feedback_loss_param is defined here (docs/losses.md)."
    bottoms = (2, 3)
    auto_top = True
    fixed_bottoms = frozenset({1, 2})

    similarity: str
    template: str
    k: int
    detach: bool
    include_background: bool
    correct_only: bool
    pull_weight: float
    push_weight: float
    margin: float
    eps: float
    ignore_labels: tuple[int, ...]
    ramp_up: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> FeedbackLoss:
        o, loss = layer.feedback_loss_param, layer.loss_param
        for field in ("normalization", "normalize"):
            expect(
                not loss.HasField(field),
                f"loss_param has {field}; each term is a mean of means, so remove it",
            )
        expect(o.k >= 1, f"k is {o.k}; expected at least 1")
        expect(o.eps > 0, f"eps is {o.eps}; expected a number above 0")
        expect(-1 <= o.margin <= 1, f"margin is {o.margin}; expected -1 to 1")
        one = (loss.ignore_label,) if loss.HasField("ignore_label") else ()
        return cls(
            caffe_pb2.FeedbackLossParameter.Similarity.Name(o.similarity).lower(),
            caffe_pb2.FeedbackLossParameter.Template.Name(o.template).lower().replace("_", "-"),
            o.k, o.detach, o.include_background, o.correct_only, o.pull_weight, o.push_weight,
            o.margin, o.eps, (*one, *o.ignore_label), o.ramp_up,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        features, labels, *scores = bottoms
        for shape in (features, *scores):
            expect(len(shape) >= 2, f"a bottom has shape {shape}; expected (N, C, ...)")
        if scores:
            expect(
                (scores[0][0], *scores[0][2:]) == (features[0], *features[2:]),
                f"scores (bottom 2) have shape {scores[0]}, features (bottom 0) {features}; "
                "expected the same grid",
            )
        expect(
            labels[:1] == features[:1], f"labels have shape {labels}; expected {features[0]} items"
        )
        one_label_per_position(features, labels, 1)
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], self.ignore_labels) if index == 1 else Values()


@register_op
@dataclass(frozen=True)
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLossOHEM: SoftmaxWithLoss that also gives the loss of each position.

    Source: extendedcaffe/extended-caffe softmax_loss_ohem_layer.cpp, of R-FCN's.
    """

    type = "SoftmaxWithLossOHEM"
    tops = (1, 3)
    remark = "The third top is 0 at ignored labels; upstream leaves what was there."

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [*super().top_shapes(bottoms)[:1], bottoms[0], bottoms[1]]


@register_op
@dataclass(frozen=True)
class SigmoidCrossEntropyBalanceLoss(SigmoidCrossEntropyLoss):
    """SigmoidCrossEntropyBalanceLoss of OSVOS: HED's loss, in which the classes weigh the same.

    Source: kmaninis/OSVOS-caffe sigmoid_cross_entropy_balance_loss_layer.cpp.
    """

    type = "SigmoidCrossEntropyBalanceLoss"
    remark = "0 for an item without edges and other pixels; upstream gives NaN."

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SigmoidCrossEntropyLoss:
        return cls(None, "BATCH_SIZE")


@register_op
@dataclass(frozen=True)
class MultiChannelSigmoidCrossEntropyLoss(Op):
    """MultiChannelSigmoidCrossEntropyLoss of SEAL: a yes or no per class, in the bits of a label.

    Bottoms: scores (N, K, H, W), and labels (N, L, H, W), of whose 32-bit floats bit k of the first
    channel is class k, and so on; bit 31 of the last channel means that the pixel does not count.

    Source: Chrisding/seal multichannel_sigmoid_cross_entropy_loss_layer.cpp.
    """

    type = "MultiChannelSigmoidCrossEntropyLoss"
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})
    kept_bottoms = frozenset({0})
    remark = "The labels are bits, which only float32 keeps."

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        scores, labels = bottoms
        fits = len(scores) == len(labels) == 4 and scores[2:] == labels[2:]
        expect(fits, f"labels of shape {labels} for scores of shape {scores}")
        self.check_channels(scores[1], labels[1])
        return [()]

    def check_channels(self, classes: int, labels: int) -> None:
        expect(
            classes <= 31 and labels == 1,
            f"{classes} classes in {labels} channels of labels; expected at most 31 in one",
        )

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 0, whole=True) if index else Values()


@register_op
@dataclass(frozen=True)
class MultiChannelReweightedSigmoidCrossEntropyLoss(MultiChannelSigmoidCrossEntropyLoss):
    """MultiChannelReweightedSigmoidCrossEntropyLoss of SEAL: also balanced by the share of edges.

    Source: Chrisding/seal multichannel_reweighted_sigmoid_cross_entropy_loss_layer.cpp.
    """

    type = "MultiChannelReweightedSigmoidCrossEntropyLoss"

    def check_channels(self, classes: int, labels: int) -> None:
        expect(
            classes < 32 * labels,
            f"{classes} classes in {labels} channels of labels; expected fewer than {32 * labels}",
        )


@register_op
@dataclass(frozen=True)
class Quantize(Op):
    """Quantize of DeepSkeleton: the class 0 to 4 of a skeleton's scale, by fixed limits.

    Source: zeakey/DeepSkeleton quantize_layer.cpp.
    """

    type = "Quantize"
    discrete = True
    itemwise = True
    keeps_places = True
    fixed_bottoms = frozenset({0})


@register_op
@dataclass(frozen=True)
class Rescale(Op):
    """Rescale of DeepSkeleton: scales below a receptive field, from -1 to 1, and where there are.

    Source: zeakey/DeepSkeleton rescale_layer.cpp.

    Attributes:
        field: the receptive field.
    """

    type = "Rescale"
    itemwise = True
    keeps_places = True
    tops = (1, 2)
    fixed_bottoms = frozenset({0})

    field: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Rescale:
        field = layer.rescale_param.rf
        expect(field > 0, "rf is 0; expected 1 or more")
        return cls(field)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0], bottoms[0]]


@register_op
@dataclass(frozen=True)
class UniqueLabel(Op):
    """UniqueLabel: which labels a label map holds. Source: DeepLab v2 unique_label_layer.cpp.

    Attributes:
        max_labels: length of the list; unused entries are -1.
        ignore_labels: labels left out.
        force_labels: labels listed whether present or not.
    """

    type = "UniqueLabel"
    discrete = True
    fixed_bottoms = frozenset({0})

    max_labels: int
    ignore_labels: tuple[int, ...]
    force_labels: tuple[float, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> UniqueLabel:
        o = layer.unique_label_param
        forced = tuple(sorted(set(o.force_label)))
        expect(
            o.max_labels > len(forced),
            f"max_labels is {o.max_labels}; expected more than the {len(forced)} forced labels",
        )
        return cls(o.max_labels, tuple(sorted(set(o.ignore_label))), forced)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        labels = bottoms[0]
        expect(
            len(labels) == 4 and labels[1] == 1,
            f"labels of shape {labels}; expected (N, 1, H, W)",
        )
        return [(labels[0], self.max_labels, 1, 1)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(self.max_labels, self.ignore_labels)


@register_op
@dataclass(frozen=True)
class BiasChannel(Op):
    """BiasChannel: scores raised where labels say so. Source: DeepLab v2 bias_channel_layer.cpp.

    Attributes:
        bg_bias, fg_bias: added to the background's and to another label's score.
        ignore_labels: labels that do nothing, -1 among them.
        label_type: 'IMAGE' (labels of the whole item) or 'PIXEL' (a label map).
        background: for PIXEL, the label that every counted pixel raises too, or None.
    """

    type = "BiasChannel"
    itemwise = True
    keeps_index = True
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    bg_bias: float
    fg_bias: float
    ignore_labels: frozenset[int]
    label_type: str
    background: int | None

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BiasChannel:
        o = layer.bias_channel_param
        expect(o.bg_bias >= 0, f"bg_bias is {o.bg_bias}; expected 0 or more")
        expect(o.fg_bias >= 0, f"fg_bias is {o.fg_bias}; expected 0 or more")
        named = o.HasField("background_label") or o.HasField("bg_bias")
        return cls(
            o.bg_bias, o.fg_bias, frozenset({-1, *o.ignore_label}),
            caffe_pb2.BiasChannelParameter.LabelType.Name(o.label_type),
            o.background_label if named else None,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
        if self.label_type == "IMAGE":
            # v1 and v2 read the number of labels off the second axis
            labels_of_items(scores, labels)
            return [scores]
        label_map(scores, labels)
        expect(
            self.background is None or 0 <= self.background < scores[1],
            f"background_label is {self.background}; expected 0 to {scores[1] - 1}",
        )
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], self.ignore_labels) if index else Values()


@register_op
@dataclass(frozen=True)
class AdaptiveBiasChannel(Op):
    """AdaptiveBiasChannel: scores shifted until each present label wins its share of pixels.

    Source: DeepLab v2 adaptive_bias_channel_layer.cpp.

    Attributes:
        num_iter: rounds over the labels.
        bg_portion, fg_portion: the share of pixels that label 0 and any other label is to win.
        suppress_others: whether absent labels are first lowered below the present ones.
        margin_others: how far below.
    """

    type = "AdaptiveBiasChannel"
    keeps_index = True
    outside_torch = True
    remark = "Several foreground tags are used in ascending order; upstream shuffles them."
    bottoms = (2, 2)
    fixed_bottoms = frozenset({0, 1})

    num_iter: int
    bg_portion: float
    fg_portion: float
    suppress_others: bool
    margin_others: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AdaptiveBiasChannel:
        o = layer.adaptive_bias_channel_param
        expect(o.num_iter > 0, f"num_iter is {o.num_iter}; expected 1 or more")
        expect(o.margin_others >= 0, f"margin_others is {o.margin_others}; expected 0 or more")
        for name, portion in (("bg_portion", o.bg_portion), ("fg_portion", o.fg_portion)):
            expect(0 <= portion <= 1, f"{name} is {portion}; expected 0 to 1")
        return cls(o.num_iter, o.bg_portion, o.fg_portion, o.suppress_others, o.margin_others)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        expect(
            len(scores) == 4 and scores[1] > 1 and scores[2] * scores[3] > 0,
            f"scores of shape {scores}; expected (N, C, H, W) with two channels or more",
        )
        labels_of_items(scores, labels)
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], (-1,)) if index else Values()
