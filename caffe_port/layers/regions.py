"""Modules: the regions of Faster R-CNN and R-FCN, proposed and pooled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.boxes import FARTHEST, Array, descending, overlaps, suppress
from caffe_port.layers.detection_losses import smooth_l1
from caffe_port.spec.ops import regions as ops


def _round(values: Array) -> Array:
    """C's round: halves go away from 0."""
    rounded: Array = np.trunc(values + np.copysign(np.float32(0.5), values))
    return rounded.astype(np.float32)


def _edges(start: float, cell: np.float32, cells: int, size: int, shift: int = 0) -> list[slice]:
    """The rows or columns of each cell of a grid, cut to the features; float32 as in Caffe."""
    places = np.arange(cells + 1, dtype=np.float32) * cell + np.float32(start)
    low = (np.floor(places[:-1]).astype(int) + shift).clip(0, size)
    high = (np.ceil(places[1:]).astype(int) + shift).clip(0, size)
    return [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]


class _Pooled(Layer):
    """Takes the features in each cell of each region."""

    def cells(self, *bottoms: Tensor) -> Iterator[tuple[Tensor, list[slice], list[slice]]]:
        """The features of each region's image, and the rows and columns of its cells."""
        features, regions = bottoms
        with named(self.spec):
            for region in regions.detach().float().cpu().numpy().reshape(-1, 5):
                if not (np.abs(region) < FARTHEST).all():
                    raise ValueError(f"a region {region.tolist()}; expected numbers below 2^24")
                image = int(region[0])
                if not 0 <= image < features.shape[0]:
                    raise ValueError(f"a region of image {image} of {features.shape[0]}")
                rows, columns = self.grid(region[1:], features.shape[2], features.shape[3])
                yield features[image], rows, columns

    def grid(self, region: Array, height: int, width: int) -> tuple[list[slice], list[slice]]:
        """Rows and columns of the cells of one region (x1, y1, x2, y2)."""
        raise NotImplementedError

    def stacked(self, bottoms: tuple[Tensor, ...], values: list[Tensor]) -> tuple[Tensor, ...]:
        shape = self.spec.op.top_shapes([tuple(x.shape) for x in bottoms])[0]
        return ((torch.stack(values) if values else bottoms[0].new_zeros(shape)).reshape(shape),)


@register_layer("ROIPooling")
class ROIPooling(_Pooled):
    """The largest value of each cell; 0 in a cell outside of the features.

    Source: rbgirshick/caffe-fast-rcnn roi_pooling_layer.cpp, Forward_cpu.
    """

    def grid(self, region: Array, height: int, width: int) -> tuple[list[slice], list[slice]]:
        op = self.spec.options(ops.ROIPooling)
        x1, y1, x2, y2 = (int(v) for v in _round(region * np.float32(op.scale)))
        tall, wide = (np.float32(max(size, 1)) for size in (y2 - y1 + 1, x2 - x1 + 1))
        rows = _edges(0, tall / np.float32(op.height), op.height, height, y1)
        return rows, _edges(0, wide / np.float32(op.width), op.width, width, x1)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        values = []
        for features, rows, columns in self.cells(*bottoms):
            cells = [features[:, r, c].flatten(1) for r in rows for c in columns]
            # max, not amax: the diff goes to the first maximum
            best = [x.max(1).values if x.shape[1] else x.new_zeros(len(x)) for x in cells]
            values.append(torch.stack(best, 1))
        return self.stacked(bottoms, values)


@register_layer("PSROIPooling")
class PSROIPooling(_Pooled):
    """The mean of each cell over its own channels; 0 in a cell outside of the features.

    Source: daijifeng001/caffe-rfcn psroi_pooling_layer.cu, PSROIPoolingForward.
    """

    def grid(self, region: Array, height: int, width: int) -> tuple[list[slice], list[slice]]:
        op = self.spec.options(ops.PSROIPooling)
        x1, y1, x2, y2 = (_round(region) + np.array([0, 0, 1, 1], np.float32)) * np.float32(
            op.scale
        )
        least, side = np.float32(0.1), np.float32(op.group)
        rows = _edges(y1, max(y2 - y1, least) / side, op.group, height)
        return rows, _edges(x1, max(x2 - x1, least) / side, op.group, width)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op, values = self.spec.options(ops.PSROIPooling), []
        for features, rows, columns in self.cells(*bottoms):
            own = features.view(op.outputs, op.group, op.group, *features.shape[1:])
            cells = [own[:, i, j, r, c].flatten(1) for i, r in enumerate(rows)
                     for j, c in enumerate(columns)]  # fmt: skip
            mean = [x.mean(1) if x.shape[1] else x.new_zeros(len(x)) for x in cells]
            values.append(torch.stack(mean, 1))
        return self.stacked(bottoms, values)


@register_layer("Proposal")
class Proposal(Layer):
    """Moves the anchors of each cell, and keeps the best that do not overlap.

    Source: happynear/caffe-windows proposal_layer.cpp, Forward_cpu; nms.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Proposal)
        scores, moves, sizes = (x.detach().float().cpu().numpy() for x in bottoms)
        info = sizes.reshape(-1)
        found, points = [np.zeros((0, 5))], [np.zeros(0, np.float32)]
        for item in range(len(scores)):
            boxes, score = self._boxes(scores[item, op.anchors :], moves[item], info)
            order = _quick_sorted(score, op.before)[: op.before]
            kept = suppress(
                boxes, order, op.nms, most=op.after, overlap=partial(overlaps, pixels=True)
            )
            found.append(np.concatenate([np.full((len(kept), 1), item), boxes[kept]], 1))
            points.append(score[kept])
        regions = torch.from_numpy(np.concatenate(found).astype(np.float32)).to(bottoms[0])
        tops = (regions, torch.from_numpy(np.concatenate(points)).to(bottoms[0]))
        return tops[: len(self.spec.tops)]

    def _boxes(self, scores: Array, moves: Array, info: Array) -> tuple[Array, Array]:
        """Regions of one item, cell by cell, and their scores; too small ones have score 0."""
        op = self.spec.options(ops.Proposal)
        height, width = scores.shape[1:]
        half, one = np.float32(0.5), np.float32(1)
        anchors = _anchors(op)
        y, x = np.meshgrid(
            *(np.arange(n, dtype=np.float32) for n in (height, width)), indexing="ij"
        )
        shift = np.stack([x, y, x, y], -1)[:, :, None] * np.float32(op.stride)
        low, high = np.split(shift + anchors, 2, -1)
        size = high - low + one
        centre = low + half * size
        move = moves.reshape(op.anchors, 4, height, width).transpose(2, 3, 0, 1)
        centre = move[..., :2] * size + centre
        grown = np.exp(move[..., 2:].astype(np.float64)).astype(np.float32) * size
        ends = np.concatenate([centre - half * grown, centre + half * grown], -1)
        limit = info[[1, 0, 1, 0]] - one
        ends = ends.clip(0, limit)
        scale = info[[3 if len(info) > 3 else 2, 2]]
        large = (ends[..., 2:] - ends[..., :2] + one >= np.float32(op.least) * scale).all(-1)
        score = np.where(large, scores.transpose(1, 2, 0), np.float32(0))
        return ends.reshape(-1, 4), score.reshape(-1)


def _anchors(op: ops.Proposal) -> Array:
    """(anchors, 4) around the first cell; rounded as Caffe's macro ROUND does."""
    area, middle = np.float32(op.base * op.base), np.float32(0.5) * np.float32(op.base - 1)
    made = []
    for ratio in map(np.float32, op.ratios):
        wide = np.float32(math.sqrt(area / ratio))
        tall = wide * ratio
        for scale in map(np.float32, op.scales):
            sides = (float(side * scale) / op.base - 1 + 0.5 for side in (wide, tall))
            x, y = (np.float32(0.5) * np.float32(int(side)) for side in sides)
            made.append([middle - x, middle - y, middle + x, middle + y])
    return np.array(made, np.float32)


def _quick_sorted(scores: Array, wanted: int) -> Array:
    """The order in which Caffe's sort_box puts scores; it is not stable, and sorts no more.

    Source: happynear/caffe-windows proposal_layer.cpp, sort_box.
    """
    if len(np.unique(scores)) == len(scores):
        return np.argsort(-scores)
    order, values = np.arange(len(scores)), scores.copy()
    ranges = [(0, len(order) - 1)]
    while ranges:
        start, end = ranges.pop()
        rest = values[start + 1 : end + 1]
        lower = np.flatnonzero(rest < values[start]) + start + 1
        higher = np.flatnonzero(rest > values[start])[::-1] + start + 1
        if not len(higher):  # the first, and those that equal it, remain where they are
            if len(lower) and lower[0] < min(end, wanted):
                ranges.append((int(lower[0]), end))
            continue
        pairs = min(len(lower), len(higher))
        swaps = int((lower[:pairs] < higher[:pairs]).sum())
        for array in (order, values):
            left, right = lower[:swaps], higher[:swaps]
            array[left], array[right] = array[right], array[left]
        beyond = [*lower[swaps - 1 : swaps], *higher[swaps : swaps + 1]]
        middle = int(max(beyond))
        for array in (order, values):
            array[[start, middle]] = array[[middle, start]]
        if start < middle - 1:
            ranges.append((start, middle - 1))
        if middle + 1 < wanted and middle + 1 < end:
            ranges.append((middle + 1, end))
    return order


@register_layer("SmoothL1LossOHEM")
class SmoothL1LossOHEM(Layer):
    """Tops: the sum over all elements, divided; and the sum of each region, without a diff.

    Source: intel/caffe smooth_L1_loss_ohem_layer.cpp; Shrivastava et al., Training Region-based
        Object Detectors with Online Hard Example Mining, 2016.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        by = self.spec.options(ops.SmoothL1LossOHEM).normalization
        x, target, *weights = bottoms
        difference = x - target.reshape(x.shape)
        if weights:  # the diff is that of an unweighted difference
            weighted = difference * weights[0].detach().reshape(x.shape)
            difference = difference + (weighted - difference).detach()
        each = smooth_l1(difference)
        places = x.shape[0] * math.prod(x.shape[2:])
        named_divisors = {"FULL": places, "VALID": places, "BATCH_SIZE": x.shape[0], "NONE": 1}
        divisor = named_divisors[by] if isinstance(by, str) else by
        tops = (each.sum() / max(divisor, 1), each.detach().sum(1, keepdim=True))
        shape = self.spec.op.top_shapes([tuple(x.shape)])[1]
        return (tops[0], tops[1].reshape(shape))[: len(self.spec.tops)]


@register_layer("BoxAnnotatorOHEM")
class BoxAnnotatorOHEM(Layer):
    """Of equal losses std::sort decides, as in Caffe.

    Source: intel/caffe box_annotator_ohem_layer.cpp, Forward_cpu.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.BoxAnnotatorOHEM)
        regions, losses, labels, weights = (x.detach() for x in bottoms)
        images = regions.reshape(-1, 5)[:, 0].long().cpu().numpy()
        left: dict[int, int] = {}
        kept = np.zeros(len(images), bool)
        for index in descending(losses.reshape(-1).float().cpu().numpy()):
            image = int(images[index])
            left[image] = left.get(image, op.kept) - 1
            kept[index] = left[image] >= 0
        chosen = torch.from_numpy(kept).to(labels.device)
        own = labels.reshape(-1)
        found = torch.where(chosen, own, own.new_full((), op.ignore_label))
        scaled = weights.reshape(len(images), -1) * chosen[:, None]
        return found.reshape(-1, 1, 1, 1), scaled[:, :, None, None]
