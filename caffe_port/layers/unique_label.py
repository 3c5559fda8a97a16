"""UniqueLabel: which labels a label map holds."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec.ops.unique_label import UniqueLabel as Options


def unique_labels(labels: Tensor, op: Options) -> Tensor:
    """The labels of one item, ascending, and the forced ones, filled up with -1.

    Args:
        labels: any shape.
        op: options.
    Returns:
        (max_labels,).
    Raises:
        ValueError: there are more than max_labels.
    Source: DeepLab v2 unique_label_layer.cpp, Forward_cpu.
    """
    ignored = labels.new_tensor(op.ignore_labels)
    counted = labels.flatten()[~torch.isin(labels.flatten(), ignored)]
    found: Tensor = torch.unique(torch.cat([counted, labels.new_tensor(op.force_labels)]))
    if len(found) > op.max_labels:
        raise ValueError(f"{len(found)} different labels; max_labels is {op.max_labels}")
    return torch.cat([found, labels.new_full((op.max_labels - len(found),), -1)])


@register_layer("UniqueLabel")
class UniqueLabel(Layer):
    """Has no backward, as in DeepLab."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        labels = bottoms[0].detach()
        with named(self.spec):
            lists = [unique_labels(item, op) for item in labels]
        found = torch.stack(lists) if lists else labels.new_empty(0, op.max_labels)
        return (found[:, :, None, None],)
