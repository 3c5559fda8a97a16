"""SoftmaxWithLoss: cross entropy of scores against a label map."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.files import read_text
from caffe_port.layers._classes import by_class
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.softmax_with_loss import SoftmaxWithLoss as Options


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
        op, weights = spec.options(Options), None
        if op.weight_source:
            classes = spec.bottom_shapes[0][op.axis]
            weights = _read_weights(spec, op.weight_source, classes)
        elif op.class_weights:
            weights = torch.tensor(op.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.losses import softmax_loss

        op = self.spec.options(Options)
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
