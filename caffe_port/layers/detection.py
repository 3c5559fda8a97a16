"""Modules: the boxes of SSD, from priors to scored detections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.boxes import Array, decode, descending, suppress
from caffe_port.spec.ops import detection as ops


@register_layer("PriorBox")
class PriorBox(Layer):
    """Boxes around each cell, and their variances; they follow from the bottoms' shapes alone.

    Source: weiliu89/caffe (branch ssd) prior_box_layer.cpp, Forward_cpu.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        features, image = ((int(x.shape[2]), int(x.shape[3])) for x in bottoms)
        boxes = self.spec.options(ops.PriorBox).boxes(features, image)
        return (torch.from_numpy(boxes).to(bottoms[0]),)


@register_layer("DetectionOutput")
class DetectionOutput(Layer):
    """Rows (image, class, score, xmin, ymin, xmax, ymax), by image, class, then score.

    Where an image has more than keep_top_k boxes the best of all its classes are kept. Without any
    detection there is a row (image, -1, -1, -1, -1, -1, -1) for each image.

    Source: weiliu89/caffe (branch ssd) detection_output_layer.cpp, Forward_cpu.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        loc, conf, priors = (x.detach() for x in bottoms[:3])
        items = loc.shape[0]
        with named(self.spec):
            boxes = self._decode(loc, priors)
            plain = boxes
            if boxes.dtype != torch.float32:  # decisions are those of float32
                plain = self._decode(loc.float(), priors.float())
        scores = conf.reshape(items, -1, self._op.classes)
        known, sure = plain.cpu().numpy(), scores.float().cpu().numpy()
        found = [
            (i, label, index)
            for i in range(items)
            for label, kept in sorted(self._choose(known[i], sure[i]).items())
            for index in kept
        ]
        if not found:
            rows = loc.new_full((items, 7), -1)
            rows[:, 0] = torch.arange(items)
            return (rows.view(1, 1, items, 7),)
        image, label, index = torch.tensor(found, device=loc.device).T
        column = torch.zeros_like(label) if self._op.share_location else label
        parts = [torch.stack([image, label], 1).to(loc), scores[image, index, label, None]]
        rows = torch.cat([*parts, boxes[image, index, column]], 1)
        return (rows.view(1, 1, -1, 7),)

    @property
    def _op(self) -> ops.DetectionOutput:
        return self.spec.options(ops.DetectionOutput)

    def _decode(self, loc: Tensor, priors: Tensor) -> Tensor:
        """(N, K, boxes per prior, 4)"""
        boxes, variance = priors.reshape(2, -1, 1, 4).to(loc)
        if self._op.variance_in_target:
            variance = torch.ones_like(variance)
        loc = loc.reshape(loc.shape[0], -1, self._op.boxes_per_prior, 4)
        return decode(loc, boxes, variance, self._op.code)

    def _choose(self, boxes: Array, scores: Array) -> dict[int, list[int]]:
        """The kept boxes of one image, by class; (K, boxes per prior, 4) and (K, classes)."""
        op, kept = self._op, {}
        least = np.finfo(np.float32).min if op.confidence is None else np.float32(op.confidence)
        for label in range(op.classes):
            if label == op.background:
                continue
            own = scores[:, label]
            above = np.flatnonzero(own > least)
            order = above[np.argsort(-own[above], kind="stable")]
            if op.top_k > -1:
                order = order[: op.top_k]
            column = 0 if op.share_location else label
            kept[label] = suppress(boxes[:, column], order, op.nms, op.eta)
        total = sum(map(len, kept.values()))
        if op.keep_top_k < 0 or total <= op.keep_top_k:
            return kept
        pairs = [(label, index) for label, indices in sorted(kept.items()) for index in indices]
        best: dict[int, list[int]] = {}
        for i in descending(np.array([scores[i, label] for label, i in pairs]))[: op.keep_top_k]:
            best.setdefault(pairs[i][0], []).append(pairs[i][1])
        return best
