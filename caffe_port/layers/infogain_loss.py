"""InfogainLoss: cross entropy weighted by a matrix of gains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.errors import CaffePortError, LayerError
from caffe_port.labels import checked, divisor
from caffe_port.layers._classes import by_class
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.multinomial_logistic_loss import LEAST_PROBABILITY, log_likelihood
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.infogain_loss import InfogainLoss as Options


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
    from caffe_port.weights.mapped import MappedFile

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
    N divides.

    Source: BVLC/caffe infogain_loss_layer.cpp; DeepLab v2's.
    """

    matrix: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        op, matrix = spec.options(Options), None
        if spec.dialect != "bvlc" and len(spec.tops) > 1:
            message = "2 top blobs; the probabilities are a top in BVLC's Caffe only, expected 1"
            raise LayerError(spec.name, spec.type, message)
        if op.source:
            matrix = _read_matrix(spec, op.source, spec.bottom_shapes[0][op.axis])
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
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
