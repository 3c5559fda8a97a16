"""Modules: losses of scores or values against labels or targets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.errors import CaffePortError, LayerError
from caffe_port.files import read_text
from caffe_port.labels import checked, divisor
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.neurons import with_diff
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import losses as ops


def by_item(x: Tensor) -> Tensor:
    """Reshapes to (N, values per item); a blob with one axis has one value per item."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def by_class(scores: Tensor, axis: int) -> Tensor:
    """Scores as (outer, C, inner): axes before the class axis, the classes, axes after it."""
    axis %= scores.dim()
    outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
    return scores.reshape(outer, scores.shape[axis], inner)


@register_layer("Softmax")
class Softmax(Layer):
    """exp(x - max) / sum, over one axis. Source: BVLC/caffe softmax_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return (torch.softmax(bottoms[0], self.spec.options(ops.Softmax).axis),)


def _read_weights(spec: LayerSpec, path: str, classes: int) -> Tensor:
    try:
        values = [float(word) for word in read_text(path).split()]
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
    """Tops: the loss, and the probabilities where a second top is given.

    Attributes:
        path: 'auto', 'torch' or 'triton'; see caffe_port.losses.softmax_loss.
    """

    class_weights: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.path = "auto"
        op, weights = spec.options(ops.SoftmaxWithLoss), None
        if op.weight_source:
            classes = spec.bottom_shapes[0][op.axis]
            weights = _read_weights(spec, op.weight_source, classes)
        elif op.class_weights:
            weights = torch.tensor(op.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.losses import softmax_loss

        op = self.spec.options(ops.SoftmaxWithLoss)
        scores, labels = bottoms
        flat = by_class(scores, op.axis)
        with named(self.spec):
            loss = softmax_loss(
                flat, labels.reshape(flat.shape[0], flat.shape[2]), ignore_labels=op.ignore_labels,
                normalization=op.normalization, class_weights=self.class_weights, path=self.path,
            )  # fmt: skip
        if len(self.spec.tops) == 1:
            return (loss,)
        return (loss, torch.softmax(scores.detach(), op.axis))


def cross_entropies(scores: Tensor, target: Tensor) -> Tensor:
    """The loss of each element by Caffe's formula, whose 1 + exp is rounded before the logarithm.

    Its diff is sigmoid(score) - target, also where the loss itself has been rounded to 0.
    """
    with torch.no_grad():
        positive = (scores >= 0).to(scores)
        away = (scores - 2 * scores * positive).exp()
        each = (1 + away).log() - scores * (target - positive)
    return with_diff(scores, each, scores.sigmoid() - target)


_NEGATIVE_WEIGHTS = {"hed": 1.0, "rcf": 1.1}


def balanced(scores: Tensor, target: Tensor, dialect: str) -> Tensor:
    """Sum of the losses of edges (1) and other pixels (0), each times the other class's share.

    A target that is neither adds nothing; in HED, unlike RCF, its diff is sigmoid(score) - target.
    An item without either gives 0, where upstream gives NaN.

    Source: s9xie/hed and yun-liu/RCF sigmoid_cross_entropy_loss_layer.cpp; Xie and Tu,
        Holistically-Nested Edge Detection, 2015, equation 2.
    """
    edge, other = target == 1, target == 0
    edges, others = (by_item(m).sum(1).to(scores.dtype) for m in (edge, other))
    total = (edges + others).clamp(min=1)
    shape = (-1,) + (1,) * (scores.dim() - 1)
    for_edge = (others / total).reshape(shape)
    for_other = (_NEGATIVE_WEIGHTS[dialect] * edges / total).reshape(shape)
    weight = edge * for_edge + other * for_other
    each = cross_entropies(scores.detach(), target) * weight
    neither = (~(edge | other)).to(scores) if dialect == "hed" else 0
    diff = (scores.detach().sigmoid() - target) * (weight + neither)
    return with_diff(scores, each, diff).sum() / scores.shape[0]


@register_layer("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """Sum of the losses of the targets that count, divided.

    The DeepLab forks have neither ignore_label nor normalization: they divide by N. So do HED and
    RCF, which also weigh the two classes of each item; see ``balanced``.

    Source: BVLC/caffe sigmoid_cross_entropy_loss_layer.cpp; s9xie/hed's and yun-liu/RCF's.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.SigmoidCrossEntropyLoss)
        scores, target = bottoms[0], bottoms[1].detach().reshape(bottoms[0].shape)
        if self.spec.dialect in _NEGATIVE_WEIGHTS:
            return (balanced(scores, target, self.spec.dialect),)
        each = cross_entropies(scores, target)
        if self.spec.dialect != "bvlc":
            return (each.sum() / scores.shape[0],)
        counted = torch.ones_like(target, dtype=torch.bool)
        if op.ignore_label is not None:
            counted = target.long() != op.ignore_label
        total = each.masked_fill(~counted, 0).sum()
        return (total / divisor(op.normalization, counted, scores),)


# Caffe's kLOG_THRESHOLD
LEAST_PROBABILITY = 1e-20


class LogLikelihood(torch.autograd.Function):
    """sum of -gain * log(prob), with prob floored at 1e-20 there and in the diff.

    Autograd through the floor would give a diff of 0 below it, where Caffe's is the largest.
    """

    @staticmethod
    def forward(ctx: Any, prob: Tensor, gain: Tensor) -> Tensor:
        floored = prob.clamp(min=LEAST_PROBABILITY)
        ctx.save_for_backward(floored, gain)
        return -(gain * floored.log()).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        floored, gain = ctx.saved_tensors
        return -diffs[0] * gain / floored, None


def log_likelihood(prob: Tensor, gain: Tensor) -> Tensor:
    """sum of -gain * log(max(prob, 1e-20)).

    Args:
        prob: (N, C, ...) probabilities.
        gain: of the same shape; one-hot labels for the plain logistic loss.
    Returns:
        A scalar.
    """
    return LogLikelihood.apply(prob, gain)  # type: ignore[no-any-return,no-untyped-call]


@register_layer("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Layer):
    """Mean over items of -log of the true class's probability.

    Source: BVLC/caffe multinomial_logistic_loss_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        prob = by_item(bottoms[0])
        with named(self.spec):
            label, _ = checked(bottoms[1].flatten(), prob.shape[1])
        one_hot = torch.zeros_like(prob).scatter_(1, label[:, None], 1.0)
        return (log_likelihood(prob, one_hot) / prob.shape[0],)


class _SoftmaxInfogain(torch.autograd.Function):
    """sum of -gain * log(softmax(scores)); the diff ignores the floor under the logarithm."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gain: Tensor) -> Tensor:
        prob = torch.softmax(scores, 1)
        ctx.save_for_backward(prob, gain)
        return -(gain * prob.clamp(min=LEAST_PROBABILITY).log()).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        prob, gain = ctx.saved_tensors
        return diffs[0] * (prob * gain.sum(1, keepdim=True) - gain), None


def _read_matrix(spec: LayerSpec, path: str, classes: int) -> Tensor:
    from caffe_port.weights.blobproto import read_blob
    from caffe_port.weights.stored import MappedFile

    try:
        source = MappedFile(path)
        values = read_blob(source, 0, source.size).aligned()
    except (OSError, CaffePortError) as error:
        raise LayerError(spec.name, spec.type, f"source '{path}': {error}") from error
    if values.size != classes**2:
        message = f"source '{path}' holds {values.size} values; expected {classes} x {classes}"
        raise LayerError(spec.name, spec.type, message)
    return torch.from_numpy(values).reshape(classes, classes)


@register_layer("InfogainLoss")
class InfogainLoss(Layer):
    """Mean over positions of -sum_c H[label, c] log p_c.

    BVLC 1.0 makes p of the first bottom by a softmax, counts by ``normalization`` and can give p as
    a second top. In the DeepLab forks the first bottom is p itself, one distribution per item, and
    the divisor is N.

    Source: BVLC/caffe infogain_loss_layer.cpp; DeepLab v2's.
    """

    matrix: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        op, matrix = spec.options(ops.InfogainLoss), None
        if spec.dialect != "bvlc" and len(spec.tops) > 1:
            message = "2 top blobs; the probabilities are a top in BVLC's Caffe only, expected 1"
            raise LayerError(spec.name, spec.type, message)
        if op.source:
            matrix = _read_matrix(spec, op.source, spec.bottom_shapes[0][op.axis])
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.InfogainLoss)
        gains = bottoms[2].detach() if self.matrix is None else self.matrix
        scores = by_class(bottoms[0], op.axis)
        gains = gains.to(scores.dtype).reshape(scores.shape[1], -1)
        old = self.spec.dialect != "bvlc"
        ignored = () if old or op.ignore_label is None else (op.ignore_label,)
        with named(self.spec):
            labels = bottoms[1].reshape(scores.shape[0], scores.shape[2])
            label, counted = checked(labels, scores.shape[1], ignored)
        gain = (gains[label] * counted[..., None]).movedim(-1, 1)
        if old:
            return (log_likelihood(scores, gain) / scores.shape[0],)
        loss: Tensor = _SoftmaxInfogain.apply(scores, gain)  # type: ignore[no-untyped-call]
        loss = loss / divisor(op.normalization, counted, scores)
        if len(self.spec.tops) == 1:
            return (loss,)
        return (loss, torch.softmax(bottoms[0].detach(), op.axis))


def hinge_loss(scores: Tensor, label: Tensor, norm: str = "L1") -> Tensor:
    """Sum over classes of max(0, 1 - s) for the true class and max(0, 1 + s) for others.

    Args:
        scores: (N, C).
        label: (N,) int64.
        norm: 'L1', or 'L2' for the squares of those.
    Returns:
        The mean over items, a scalar.
    Source: BVLC/caffe hinge_loss_layer.cpp.
    """
    sign = torch.ones_like(scores).scatter_(1, label[:, None], -1.0)
    short = torch.relu(1 + sign * scores)
    return (short if norm == "L1" else short * short).sum() / scores.shape[0]


@register_layer("HingeLoss")
class HingeLoss(Layer):
    """All axes after the first are classes."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores = by_item(bottoms[0])
        with named(self.spec):
            label, _ = checked(bottoms[1].flatten(), scores.shape[1])
        return (hinge_loss(scores, label, self.spec.options(ops.HingeLoss).norm),)


class _RootMeanSquare(torch.autograd.Function):
    """sqrt(mean(x^2)), whose diff DeepLab v1 keeps finite at 0 by a floor of 1e-6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = (x * x).mean().sqrt()
        ctx.save_for_backward(x, root)
        return root

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> Tensor:
        x, root = ctx.saved_tensors
        diff: Tensor = diffs[0] * x / x.numel() / root.clamp(min=1e-6)
        return diff


@register_layer("EuclideanLoss")
class EuclideanLoss(Layer):
    """sum((a - b)^2) / (2 N); both bottoms get diffs.

    DeepLab v1 divides by the number of all values instead of N, and its type L2sqrt is the root of
    the mean square.

    Source: BVLC/caffe euclidean_loss_layer.cpp; DeepLab v1's.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.EuclideanLoss)
        a, b = bottoms
        delta = a - b.reshape(a.shape)
        if op.norm == "L2sqrt":
            return (_RootMeanSquare.apply(delta),)  # type: ignore[no-untyped-call]
        count = delta.numel() if self.spec.dialect == "deeplab1" else a.shape[0]
        return ((delta * delta).sum() / count / 2,)


class _Contrastive(torch.autograd.Function):
    """Caffe's diff divides by distance + 1e-4; autograd would divide by the distance alone."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, similar: Tensor, margin: float, legacy: bool
    ) -> Tensor:
        delta = a - b
        squared = (delta * delta).sum(1)
        short = margin - (squared if legacy else squared.sqrt())
        apart = short.clamp(min=0) if legacy else short.clamp(min=0) ** 2
        ctx.save_for_backward(delta, squared, short, similar)
        ctx.legacy = legacy
        return torch.where(similar, squared, apart).sum() / a.shape[0] / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        delta, squared, short, similar = ctx.saved_tensors
        pull = torch.ones_like(short) if ctx.legacy else short / (squared.sqrt() + 1e-4)
        factor = torch.where(similar, 1.0, torch.where(short > 0, -pull, 0.0))
        diff = (diffs[0] / delta.shape[0]) * factor[:, None] * delta
        return diff, -diff, None, None, None


def contrastive_loss(
    a: Tensor, b: Tensor, similar: Tensor, margin: float = 1.0, legacy: bool = False
) -> Tensor:
    """Mean over pairs of d^2 / 2 if similar, else max(margin - d, 0)^2 / 2.

    Args:
        a, b: (N, C).
        similar: (N,) bool.
        margin: the desired distance of dissimilar pairs.
        legacy: dissimilar pairs give max(margin - d^2, 0) / 2.
    Returns:
        A scalar.
    Source: BVLC/caffe contrastive_loss_layer.cpp.
    """
    return _Contrastive.apply(a, b, similar, margin, legacy)  # type: ignore[no-any-return,no-untyped-call]


@register_layer("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """Bottoms: two batches of vectors, and whether each pair is similar (not 0)."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.ContrastiveLoss)
        a, b = (by_item(x) for x in bottoms[:2])
        similar = bottoms[2].detach().flatten().long() != 0
        return (contrastive_loss(a, b, similar, op.margin, op.legacy_version),)
