"""Modules: what the Python layers of py-faster-rcnn compute, without their code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.boxes import Array, overlaps, suppress
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import rpn as ops

_BASE = 16  # pixels per side of the anchor that ratios and scales change


def anchors(scales: tuple[float, ...], ratios: tuple[float, ...]) -> Array:
    """(len(ratios) len(scales), 4) in float64: anchors of the first cell, ratio by ratio.

    Source: rbgirshick/py-faster-rcnn lib/rpn/generate_anchors.py.
    """
    middle = 0.5 * (_BASE - 1)
    made = []
    for ratio in ratios:
        wide = np.round(np.sqrt(_BASE * _BASE / ratio))  # halves go to the even number
        tall = np.round(wide * ratio)
        for scale in scales:
            x, y = 0.5 * (wide * scale - 1), 0.5 * (tall * scale - 1)
            made.append([middle - x, middle - y, middle + x, middle + y])
    return np.array(made)


def _everywhere(op: ops.RPNProposal | ops.RPNAnchorTarget, height: int, width: int) -> Array:
    """(H W anchors, 4): the anchors of all cells, row by row."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    shift = np.stack([x, y, x, y], -1)[:, :, None] * op.stride
    found: Array = (shift + anchors(op.scales, op.ratios)).reshape(-1, 4)
    return found


def _centres(boxes: Array) -> tuple[Array, Array]:
    """Sizes and centres (n, 2) of boxes both ends of which belong to them."""
    size = boxes[:, 2:] - boxes[:, :2] + 1.0
    return size, boxes[:, :2] + 0.5 * size


def moves(boxes: Array, targets: Array) -> Array:
    """(n, 4): how boxes would have to move and grow to be the targets, in float64.

    Source: rbgirshick/py-faster-rcnn lib/fast_rcnn/bbox_transform.py, bbox_transform.
    """
    (size, centre), (wanted, goal) = _centres(boxes), _centres(targets)
    return np.concatenate([(goal - centre) / size, np.log(wanted / size)], 1)


def moved(boxes: Array, by: Array) -> Array:
    """The inverse of ``moves``, in the dtype of ``by``.

    Source: rbgirshick/py-faster-rcnn lib/fast_rcnn/bbox_transform.py, bbox_transform_inv.
    """
    size, centre = _centres(boxes.astype(by.dtype))
    centre = by[:, :2] * size + centre
    half = 0.5 * (np.exp(by[:, 2:]) * size)
    return np.concatenate([centre - half, centre + half], 1)


def _overlaps(box: Array, boxes: Array) -> Array:
    return overlaps(box, boxes, pixels=True, gaps=True)


def _numbers(*bottoms: Tensor) -> list[Array]:
    return [bottom.detach().float().cpu().numpy() for bottom in bottoms]


def _sized(sizes: Array) -> Array:
    """Height, width and scale of the image."""
    found: Array = sizes.reshape(-1)[:3]
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(f"sizes {found.tolist()}; expected height, width and scale above 0")
    return found


@register_layer("RPNProposal")
class RPNProposal(Layer):
    """Source: rbgirshick/py-faster-rcnn lib/rpn/proposal_layer.py, forward, with nms of its GPU."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.RPNProposal)
        scores, by, sizes = _numbers(*bottoms)
        with named(self.spec):
            height, width, scale = _sized(sizes)
        score = scores[0, op.anchors :].transpose(1, 2, 0).reshape(-1)
        by = by[0].transpose(1, 2, 0).reshape(-1, 4)
        boxes = moved(_everywhere(op, *scores.shape[2:]), by)
        boxes = np.clip(boxes, 0, np.array([width, height] * 2, np.float32) - np.float32(1))
        large = (_centres(boxes)[0] >= np.float32(op.least) * scale).all(1)
        boxes, score = boxes[large], score[large]
        order = np.argsort(score, kind="stable")[::-1][: op.before or None]
        kept = suppress(boxes, order, op.nms, most=op.after or None, overlap=_overlaps)
        regions = np.concatenate([np.zeros((len(kept), 1), np.float32), boxes[kept]], 1)
        tops = (regions.astype(np.float32), score[kept][:, None])
        return tuple(torch.from_numpy(top).to(bottoms[0]) for top in tops[: len(self.spec.tops)])


class _Sampling(Layer):
    """Draws samples from Caffe's generator if the net was built under one, else from torch's."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()

    def some(self, indices: Array, count: int) -> Array:
        """``count`` of the indices, at random; all of them, in order, if there are no more."""
        if len(indices) <= count:
            return indices
        order = list(range(len(indices)))
        if self.random is None:
            order = torch.randperm(len(indices)).tolist()
        else:
            self.random.shuffle(order)
        return indices[order[:count]]


def _all_overlaps(boxes: Array, truth: Array) -> Array:
    """(n, G) in float64: the overlap of each box with each true box."""
    if not len(truth):
        raise ValueError("no true box; expected one or more")
    wide = boxes.astype(np.float64)[:, None]
    found: Array = _overlaps(wide, truth[:, :4].astype(np.float64))
    return found


@register_layer("RPNAnchorTarget")
class RPNAnchorTarget(_Sampling):
    """Source: rbgirshick/py-faster-rcnn lib/rpn/anchor_target_layer.py, forward."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.RPNAnchorTarget)
        truth, sizes = _numbers(bottoms[1], bottoms[2])
        truth = truth.reshape(-1, 5)
        every = _everywhere(op, *bottoms[0].shape[2:])
        with named(self.spec):
            height, width, _ = _sized(sizes)
            ends = np.array([width, height]) + op.border
            inside = ((every[:, :2] >= -op.border) & (every[:, 2:] < ends)).all(1)
            if not inside.any():
                raise ValueError(f"no anchor lies in the image of {width:g} x {height:g} pixels")
            overlap = _all_overlaps(every[inside], truth)
        labels, by = np.full(len(every), -1.0), np.zeros((len(every), 4))
        labels[inside] = self._labels(overlap)
        by[inside] = moves(every[inside], truth[overlap.argmax(1), :4])
        positive = (labels == 1)[:, None]
        chosen = (labels >= 0)[:, None] / max((labels >= 0).sum(), 1)
        tops = [labels[:, None], by, np.where(positive, np.ones(4), 0), chosen * np.ones(4)]
        found = [self._as_map(top, bottoms[0]) for top in tops]
        return (found[0].reshape(1, 1, -1, found[0].shape[3]), *found[1:])

    def _labels(self, overlap: Array) -> Array:
        """1, 0 or -1 of each anchor inside the image."""
        op = self.spec.options(ops.RPNAnchorTarget)
        labels, most = np.full(len(overlap), -1.0), overlap.max(1)
        if not op.clobber:
            labels[most < op.negative] = 0
        labels[(overlap == overlap.max(0)).any(1)] = 1  # the best of each true box, all if equal
        labels[most >= op.positive] = 1
        if op.clobber:
            labels[most < op.negative] = 0
        for label, limit in ((1, int(op.part * op.batch)), (0, op.batch)):
            room = limit if label else limit - int((labels == 1).sum())
            found = np.flatnonzero(labels == label)
            labels[found] = -1
            labels[self.some(found, room)] = label
        return labels

    def _as_map(self, rows: Array, scores: Tensor) -> Tensor:
        """(1, A columns, H, W) of a row per anchor."""
        height, width = scores.shape[2:]
        ordered = rows.reshape(1, height, width, -1).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(ordered, np.float32)).to(scores)


@register_layer("RPNProposalTarget")
class RPNProposalTarget(_Sampling):
    """Source: rbgirshick/py-faster-rcnn lib/rpn/proposal_target_layer.py, forward."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.RPNProposalTarget)
        given, truth = (x.reshape(-1, 5) for x in _numbers(*bottoms))
        own = np.concatenate([np.zeros((len(truth), 1), np.float32), truth[:, :4]], 1)
        regions = np.concatenate([given, own])  # the true boxes are regions too
        with named(self.spec):
            if regions[:, 0].any():
                raise ValueError("regions of several images; expected those of image 0 only")
            overlap = _all_overlaps(regions[:, 1:], truth)
        objects, chosen = self._sample(overlap.max(1))
        regions, nearest = regions[chosen], truth[overlap.argmax(1)[chosen]]
        labels = nearest[:, 4].copy()
        labels[objects:] = 0
        by = moves(regions[:, 1:].astype(np.float64), nearest[:, :4].astype(np.float64))
        by = (by - np.array(op.means)) / np.array(op.deviations)
        with named(self.spec):
            wide, weights = self._by_class(by, labels)
        tops = (regions, labels, wide, weights, (weights > 0).astype(np.float32))
        return tuple(torch.from_numpy(top).to(bottoms[0]) for top in tops)

    def _sample(self, most: Array) -> tuple[int, Array]:
        """How many regions of the sample are objects, and the sample, objects first."""
        op = self.spec.options(ops.RPNProposalTarget)
        batch = len(most) if op.batch == -1 else op.batch
        limit = len(most) if op.batch == -1 else round(op.part * batch)
        objects = self.some(np.flatnonzero(most >= op.positive), limit)
        others = np.flatnonzero((most < op.high) & (most >= op.low))
        return len(objects), np.append(objects, self.some(others, batch - len(objects)))

    def _by_class(self, by: Array, labels: Array) -> tuple[Array, Array]:
        """Moves and weights (S, 4 classes), those of a row's class only."""
        op = self.spec.options(ops.RPNProposalTarget)
        wide = np.zeros((len(by), op.classes, 4), np.float32)
        weights = np.zeros_like(wide)
        rows = np.flatnonzero(labels > 0)
        column = labels[rows].astype(int)
        if op.classes == 2:
            column = np.minimum(column, 1)
        elif (column >= op.classes).any():
            raise ValueError(f"class {column.max()} of a true box; expected below {op.classes}")
        wide[rows, column], weights[rows, column] = by[rows], 1
        return wide.reshape(len(by), -1), weights.reshape(len(by), -1)
