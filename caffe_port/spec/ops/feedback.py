"""Options and shapes: the feedback losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops.losses import class_indices, one_label_per_position


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
            o.margin, o.eps, (*one, *o.ignore_label),
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
