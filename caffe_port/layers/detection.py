"""Modules: the boxes of SSD, from priors to scored detections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.files import read_text
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.boxes import FARTHEST, Array, decode, descending, overlaps, suppress
from caffe_port.spec import LayerSpec
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
        scores = conf.reshape(items, boxes.shape[1], self._op.classes)
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
        loc = loc.reshape(len(loc), len(boxes), self._op.boxes_per_prior, 4)
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


@register_layer("DetectionEvaluate")
class DetectionEvaluate(Layer):
    """First (-1, class, number of true boxes, -1, -1) for each class, then each detection.

    A detection's row is (image, class, score, 1 if right, 1 if wrong); of two that find one true
    box the better is right. A box that finds a difficult one that does not count is neither.

    Source: weiliu89/caffe (branch ssd) detection_evaluate_layer.cpp, Forward_cpu.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        path = spec.options(ops.DetectionEvaluate).name_size_file
        self._sizes = _image_sizes(spec, path) if path else []
        self._next = 0  # the place in that list, which Caffe keeps from pass to pass

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.DetectionEvaluate)
        found, true = (x.detach().float().cpu().numpy().reshape(x.shape[2:]) for x in bottoms)
        for name, given in (("detection", found[:, :2]), ("true box", true)):
            if not (np.abs(given) < FARTHEST).all():
                message = f"a {name} with a number that is not finite, or beyond 2^24"
                raise LayerError(self.spec.name, self.spec.type, message)
        ends = np.flatnonzero(true[:, 0].astype(int) == -1)
        true = true[: ends[0]] if len(ends) else true
        found = found[found[:, 0].astype(int) != -1]
        for name, given in (("detection", found), ("true box", true)):
            if (given[:, 1].astype(int) == op.background).any():
                message = f"a {name} of the background's class, {op.background}"
                raise LayerError(self.spec.name, self.spec.type, message)
        counted = true if op.difficult else true[true[:, 7] == 0]
        rows: list[tuple[float, ...]] = [
            (-1, label, (counted[:, 1].astype(int) == label).sum(), -1, -1)
            for label in range(op.classes)
            if label != op.background
        ]
        for image in np.unique(found[:, 0].astype(int)):
            rows += self._rows(image, found, true)
            if self._sizes:
                self._next = (self._next + 1) % len(self._sizes)
        return (torch.tensor(rows, dtype=bottoms[0].dtype).view(1, 1, -1, 5).to(bottoms[0]),)

    def _rows(self, image: int, found: Array, true: Array) -> list[tuple[float, ...]]:
        op = self.spec.options(ops.DetectionEvaluate)
        rows: list[tuple[float, ...]] = []
        found, true = (x[x[:, 0].astype(int) == image] for x in (found, true))
        for label in np.unique(found[:, 1].astype(int)):
            own, wanted = (x[x[:, 1].astype(int) == label] for x in (found, true))
            if label == -1:
                continue
            if not len(wanted):
                rows += [(image, label, score, 0, 1) for score in own[:, 2]]
                continue
            boxes = self._scaled(wanted[:, 3:7])
            taken: set[int] = set()
            for row in own[descending(own[:, 2])]:
                shared = overlaps(self._scaled(row[3:7]), boxes, bool(self._sizes))
                best = int(shared.argmax())
                hit = shared[best] >= np.float32(op.overlap)
                right = hit and best not in taken
                if hit and wanted[best, 7] != 0 and not op.difficult:
                    rows.append((image, label, row[2], 0, 0))
                    continue
                if right:
                    taken.add(best)
                rows.append((image, label, row[2], float(right), float(not right)))
        return rows

    def _scaled(self, boxes: Array) -> Array:
        """Boxes in pixels of their image where the sizes are known. Source: OutputBBox."""
        if not self._sizes:
            return boxes
        height, width = self._sizes[self._next]
        return boxes.clip(0, 1) * np.array([width, height] * 2, np.float32)


def _image_sizes(spec: LayerSpec, path: str) -> list[tuple[int, int]]:
    """(height, width) of each line `name height width`."""
    try:
        words = read_text(path).split()
        return [(int(h), int(w)) for h, w in zip(words[1::3], words[2::3], strict=True)]
    except (OSError, ValueError) as error:
        message = f"name_size_file '{path}': {error}; expected lines 'name height width'"
        raise LayerError(spec.name, spec.type, message) from error
