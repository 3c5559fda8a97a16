"""SoftmaxWithLoss: cross entropy of scores against a label map."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.layers._labels import by_class, checked, divisor, named
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.softmax_with_loss import SoftmaxWithLoss as Options

_FLT_MIN = torch.finfo(torch.float32).tiny


class _CrossEntropy(torch.autograd.Function):
    """sum over counted positions of -w log p[label], times ``factor``.

    p is floored at FLT_MIN before the logarithm, while the diff is p - 1 all the same; autograd
    through a clamp would give 0 there.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, label: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        prob = torch.softmax(scores, 1)
        ctx.save_for_backward(prob, label, weight, factor)
        picked = prob.gather(1, label[:, None]).squeeze(1)
        return -(picked.clamp(min=_FLT_MIN).log() * weight).sum() * factor

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        prob, label, weight, factor = ctx.saved_tensors
        one = torch.zeros_like(prob).scatter_(1, label[:, None], 1.0)
        diff = (prob - one) * (weight * factor * diffs[0])[:, None]
        return diff, None, None, None


def softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    ignore_labels: Collection[int] = (),
    normalization: str = "VALID",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Softmax and multinomial logistic loss in one, as Caffe has it.

    Args:
        scores: (N, C, ...) float.
        labels: (N, ...) of whole numbers, any dtype.
        ignore_labels: labels that do not count.
        normalization: what the sum is divided by: 'VALID' counted positions, 'FULL' all positions,
            'BATCH_SIZE' N, 'NONE' 1, each at least 1; 'WEIGHTS' the sum of the class weights of
            the counted positions (DeepLab v1), where no counted position gives 0.
        class_weights: (C,), for 'WEIGHTS'.
    Returns:
        A scalar.
    Raises:
        ValueError: a label that is neither ignored nor in [0, C).
    Source: BVLC/caffe softmax_loss_layer.cpp; DeepLab v1 softmax_loss_layer.cpp.
    """
    classes = scores.shape[1]
    label = labels.reshape(scores.shape[0], *scores.shape[2:])
    label, counted = checked(label, classes, ignore_labels)
    weight = counted.to(scores.dtype)
    if class_weights is not None:
        weight = weight * class_weights.to(scores.dtype)[label]
    if normalization == "WEIGHTS":
        # v1 divides by 0 where nothing counts and gives NaN
        total = weight.sum().masked_fill(weight.sum() == 0, 1)
    else:
        total = divisor(normalization, counted, scores)
    factor = 1 / total
    return _CrossEntropy.apply(scores, label, weight, factor)  # type: ignore[no-any-return,no-untyped-call]


def _read_weights(spec: LayerSpec, path: str, classes: int) -> Tensor:
    try:
        with open(path, encoding="utf-8") as stream:
            values = [float(word) for word in stream.read().split()]
    except (OSError, ValueError) as error:
        raise LayerError(spec.name, spec.type, f"weight_source '{path}': {error}") from error
    if len(values) != classes or min(values) < 0:
        raise LayerError(
            spec.name, spec.type,
            f"weight_source '{path}' holds {len(values)} numbers; expected {classes}, none below 0",
        )  # fmt: skip
    return torch.tensor(values)


@register_layer("SoftmaxWithLoss")
class SoftmaxWithLoss(Layer):
    """Tops: the loss, and the probabilities where a second top is given."""

    class_weights: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        assert isinstance(spec.op, Options)
        weights = None
        if spec.op.weight_source:
            classes = spec.bottom_shapes[0][spec.op.axis]
            weights = _read_weights(spec, spec.op.weight_source, classes)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.op
        assert isinstance(op, Options)
        scores, labels = bottoms
        with named(self.spec):
            loss = softmax_loss(
                by_class(scores, op.axis), labels, ignore_labels=op.ignore_labels,
                normalization=op.normalization, class_weights=self.class_weights,
            )  # fmt: skip
        if len(self.spec.tops) == 1:
            return (loss,)
        return (loss, torch.softmax(scores.detach(), op.axis))
