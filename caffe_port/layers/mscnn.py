"""Modules: the layers of MS-CNN, a detector whose heads predict boxes cell by cell."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.layers.boxes import Array, suppress
from caffe_port.layers.detection_losses import smooth_l1
from caffe_port.layers.metrics import among_best
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import mscnn as ops

_BOX = ops.BOX
_SMALLEST = 2  # pixels of a true box's side
_LEAST_NEGATIVES = 4


def _per_number(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(1, _BOX, 1, 1)


def _cells(field: ops.Field, like: Tensor) -> Tensor:
    """(1, 2, H, W): x and y of the middle of each cell, in pixels."""
    height, width = like.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((torch.stack([x, y])[None] + 0.5) * field.stride).to(like)


def _limited(boxes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(boxes, low), high)


def decoded(field: ops.Field, boxes: Tensor) -> Tensor:
    """The boxes (N, 4, H, W), x1, y1, width, height in pixels, that a head predicts.

    Source: zhaoweicai/mscnn box_output_layer.cpp, Forward_cpu.
    """
    boxes = boxes * _per_number(field.deviations, boxes) + _per_number(field.means, boxes)
    shift, growth = 1 / field.shift, math.log(field.growth)
    limits = _per_number((shift, shift, growth, growth), boxes)
    boxes = _limited(boxes, -limits, limits)
    field_size = boxes.new_tensor([field.width, field.height]).reshape(1, 2, 1, 1)
    centre = boxes[:, :2] * field_size + _cells(field, boxes)
    # through double, as boxes.decode
    size = field_size * boxes[:, 2:].double().exp().to(boxes.dtype)
    return torch.cat([centre - size / 2, size], 1)


def overlaps_of_sizes(a: Array, b: Array, mode: str = "IOU") -> Array:
    """The overlap of boxes (..., x1, y1, width, height); 0 where one has no area.

    Args:
        a, b: boxes.
        mode: 'IOMU' divides by the smaller area, 'IOFU' by that of ``a``, others by the union.
    Source: zhaoweicai/mscnn math_functions.cpp, BoxIOU.
    """
    low = np.maximum(a[..., :2], b[..., :2])
    side = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - low
    shared = np.where((side > 0).all(-1), side[..., 0] * side[..., 1], np.float32(0))
    one, other = a[..., 2] * a[..., 3], b[..., 2] * b[..., 3]
    whole = {"IOMU": np.minimum(one, other), "IOFU": one + 0 * other}
    divisor = whole.get(mode, one + other - shared)
    none = (a[..., 2:] <= 0).any(-1) | (b[..., 2:] <= 0).any(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(none, np.float32(0), shared / divisor)


@register_layer("BoxOutput")
class BoxOutput(Layer):
    """Source: zhaoweicai/mscnn box_output_layer.cpp, Forward_cpu; Cai and others, 2016."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.BoxOutput)
        heads = [self._candidates(*pair) for pair in zip(op.heads, bottoms, strict=True)]
        rows = [
            self._kept(i, np.concatenate([head[i] for head in heads]))
            for i in range(len(bottoms[0]))
        ]
        found = np.concatenate(rows)
        if not len(found):
            regions = np.array([[0, 1, 1, 10, 10]], np.float32)
            scored = np.zeros((1, 6), np.float32)
        else:
            regions, scored = found[:, :5], found
        tops = (torch.from_numpy(x[:, :, None, None].copy()) for x in (regions, scored))
        return tuple(x.to(bottoms[0]) for x in tops)[: len(self.spec.tops)]

    def _candidates(self, field: ops.Field, head: Tensor) -> list[Array]:
        """For each image, x1, y1, width, height, score of the cells with a large enough box."""
        op = self.spec.options(ops.BoxOutput)
        head = head.detach().float()
        classes = head.shape[1] - _BOX
        score = head[:, 1:classes].amax(1) - head[:, 0]
        boxes = decoded(field, head[:, classes:])
        corner = boxes[:, :2].clamp(min=0)
        image = head.new_tensor([head.shape[3], head.shape[2]]).reshape(1, 2, 1, 1) * field.stride
        size = torch.minimum(boxes[:, 2:], image - corner)
        chosen = (score >= op.threshold) & (size >= op.least).all(1)
        rows = torch.cat([corner, size, score[:, None]], 1).permute(0, 2, 3, 1)
        return [row[mask].cpu().numpy() for row, mask in zip(rows, chosen, strict=True)]

    def _kept(self, image: int, rows: Array) -> Array:
        """Rows (image, x1, y1, x2, y2, score) of the boxes that overlap no better one."""
        op = self.spec.options(ops.BoxOutput)
        # of equal scores the later one is first, as pairs of score and place are compared
        order = np.lexsort((np.arange(len(rows)), rows[:, 4]))[::-1][: op.before or None]
        overlap = partial(overlaps_of_sizes, mode=op.overlap)
        rows = rows[suppress(rows[:, :4], order, op.nms, most=op.after or None, overlap=overlap)]
        ends = rows[:, :2] + rows[:, 2:4]
        first = np.full((len(rows), 1), image, np.float32)
        return np.concatenate([first, rows[:, :2], ends, rows[:, 4:]], 1).astype(np.float32)


@register_layer("DetectionLoss")
class DetectionLoss(Layer):
    """Samples come from Caffe's generator if the net was built under one, else from torch's.

    Source: zhaoweicai/mscnn detection_loss_layer.cpp, Forward_cpu; Cai and others, A Unified
        Multi-scale Deep Convolutional Neural Network for Fast Object Detection, 2016.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.DetectionLoss)
        head, labels = bottoms[0], bottoms[1].detach()
        scores, boxes = head[:, : op.classes], head[:, op.classes :]
        label = labels[:, 0].long()
        classes = label.clamp(max=1) if op.objectness else label
        kept = self._sampled(scores.detach(), classes, labels[:, -1])
        counts = (classes != 0) | kept
        if op.ignore_label is not None:
            counts &= classes != op.ignore_label
        weight = self._weights(label, kept, labels[:, -1])
        each = -scores.log_softmax(1).gather(1, classes.clamp(0, op.classes - 1)[:, None])[:, 0]
        limit = -math.log(torch.finfo(torch.float32).tiny)
        each = each + (each.clamp(max=limit) - each).detach()
        lost = torch.where(counts, each * weight, each.new_zeros(())).sum()
        place = self._of_boxes(boxes, labels) * op.weight
        loss = lost / counts.sum().clamp(min=1) + place
        return (torch.stack([loss, place.detach()]).reshape(1, 1, 1, 2),)

    def _sampled(self, scores: Tensor, classes: Tensor, overlap: Tensor) -> Tensor:
        """Which cells of background count (N, H, W)."""
        op = self.spec.options(ops.DetectionLoss)
        free = (classes == 0) & (overlap < op.background)
        if op.sample not in ("random", "bootstrap", "mixture"):
            return free
        part = 0.5 if op.sample == "mixture" else 1.0
        kept = torch.zeros_like(free).flatten(1)
        for i, own in enumerate(free.flatten(1)):
            if op.sample != "bootstrap":
                wanted = int(int((classes[i] != 0).sum()) * op.multiple * part)
                drawn = self._drawn(max(wanted, 4 * (op.classes - 1)), own.numel())
                kept[i, drawn] = own[drawn]
            for k in range(1, op.classes) if op.sample != "random" else ():
                wanted = max(
                    _LEAST_NEGATIVES, int(int((classes[i] == k).sum()) * op.multiple * part)
                )
                value = scores[i, k].flatten().masked_fill(~own, -math.inf).flip(0)
                order = value.argsort(descending=True, stable=True)[: min(wanted, int(own.sum()))]
                kept[i, own.numel() - 1 - order] = True
        return kept.reshape(free.shape)

    def _drawn(self, count: int, below: int) -> Tensor:
        if self.random is None:
            return torch.randint(below, (count,))
        return torch.tensor([self.random.draw() % below for _ in range(count)])

    def _weights(self, label: Tensor, kept: Tensor, overlap: Tensor) -> Tensor:
        """The weight of each cell (N, H, W)."""
        op = self.spec.options(ops.DetectionLoss)
        objects = label != 0
        weight = torch.ones_like(overlap)
        if op.by_overlap:
            weight = torch.where(objects, overlap, weight)
        if op.balanced and (total := weight[objects].sum()) != 0:
            share = 1 / (1 + op.multiple)
            cells = int(kept.sum()) + int(objects.sum())
            others = weight[kept & ~objects].sum()
            weight = weight * torch.where(
                objects, share * cells / total, (1 - share) * cells / others
            )
        return weight

    def _of_boxes(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of the boxes' numbers; limits of a box stop no diff, as upstream."""
        op = self.spec.options(ops.DetectionLoss)
        field, label = op.field, labels[:, :1].long()
        counts = label != 0
        if op.ignore_label is not None:
            counts &= label != op.ignore_label
        means, deviations = (_per_number(x, boxes) for x in (field.means, field.deviations))
        size = boxes.new_tensor([field.width, field.height]).reshape(1, 2, 1, 1)
        shift = (labels[:, 1:3] - _cells(field, boxes)) / size
        growth = (labels[:, 3:5].clamp(min=_SMALLEST) / size).log()
        goal = (torch.cat([shift, growth], 1) - means) / deviations
        low, high = self._limits(boxes)
        limited = boxes + (_limited(boxes, low, high) - boxes).detach()
        difference = limited - goal
        each = smooth_l1(difference) if op.smooth else difference.square() / 2
        each = torch.where(counts, each, each.new_zeros(()))
        return each.sum() / (_BOX * counts.sum()).clamp(min=1)

    def _limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest normalized numbers, alike for both shifts and both sizes."""
        field = self.spec.options(ops.DetectionLoss).field
        x, y, w, h = field.means
        mean = _per_number(((x + y) / 2,) * 2 + ((w + h) / 2,) * 2, like)
        x, y, w, h = field.deviations
        deviation = _per_number((math.sqrt(x * y),) * 2 + (math.sqrt(w * h),) * 2, like)
        most = (1 / field.shift,) * 2 + (math.log(field.growth),) * 2
        limit = _per_number(most, like)
        return (-limit - mean) / deviation, (limit - mean) / deviation


@register_layer("DetectionAccuracy")
class DetectionAccuracy(Layer):
    """Of equal scores the highest class is better.

    Source: zhaoweicai/mscnn detection_accuracy_layer.cpp, Forward_cpu.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.DetectionAccuracy)
        head, labels = (x.detach() for x in bottoms)
        label = labels[:, 0].long()
        classes = label.clamp(max=1) if op.objectness else label
        counts = (classes != 0) | (labels[:, -1] < op.background)
        objects = label != 0
        if op.ignore_label is not None:
            counts &= classes != op.ignore_label
            objects &= label != op.ignore_label
        rows = head[:, : op.classes].movedim(1, -1)[counts]
        right = among_best(rows, classes[counts], op.top_k, ties_lose=False).to(head.dtype)
        shares = [self._mean(right), self._mean(right[classes[counts] != 0])]
        boxes = decoded(op.field, head[:, op.classes :])
        truth = labels[:, 1:5].clone()
        truth[:, :2] -= truth[:, 2:] / 2
        wide = torch.promote_types(head.dtype, torch.float32)  # numpy has no bfloat16
        ours, true = (x.movedim(1, -1)[objects].to(wide).cpu().numpy() for x in (boxes, truth))
        overlap = torch.from_numpy(np.asarray(overlaps_of_sizes(ours, true))).to(head)
        tops = (torch.stack(shares).reshape(1, 1, 1, 2), self._mean(overlap).reshape(1, 1, 1, 1))
        return tops[: len(self.spec.tops)]

    @staticmethod
    def _mean(values: Tensor) -> Tensor:
        return values.mean() if len(values) else values.new_tensor(-1)
