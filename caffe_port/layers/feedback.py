"""Modules: the feedback losses."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import feedback as ops


@register_layer("FeedbackLoss")
class FeedbackLoss(Layer):
    """Bottoms: features, labels on their grid, and scores unless the features are the scores.

    Attributes:
        options: those of the prototxt.
        path: 'auto', 'torch' or 'triton'; see caffe_port.losses.feedback_loss.
    """

    def __init__(self, spec: LayerSpec) -> None:
        from caffe_port.losses import FeedbackOptions

        super().__init__(spec)
        self.path = "auto"
        with named(spec):
            self.options = FeedbackOptions(**dataclasses.asdict(spec.options(ops.FeedbackLoss)))

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.losses import feedback_loss

        features, labels, *scores = bottoms
        labels = labels.reshape(features.shape[0], *features.shape[2:])
        with named(self.spec):
            loss = feedback_loss(
                features, labels, scores[0] if scores else None, self.options, path=self.path
            )
        return (loss,)
