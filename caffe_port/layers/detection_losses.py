"""Modules: the losses of detectors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.boxes import (
    FARTHEST,
    Array,
    areas,
    decode,
    descending,
    encode,
    overlaps,
    suppress,
)
from caffe_port.layers.losses import cross_entropies
from caffe_port.spec.ops import detection_losses as ops

FREE, OUTSIDE = -1, -2  # instead of the index of a true box
LEAST_OVERLAP = 1e-6
SMALLEST_BOX = 1e-5


def smooth_l1(difference: Tensor, sigma: float = 1) -> Tensor:
    """0.5 (sigma x)^2 where |x| < 1 / sigma^2, else |x| - 0.5 / sigma^2."""
    squared, size = sigma * sigma, difference.abs()
    near = 0.5 * difference * difference * squared
    return torch.where(size < 1 / squared, near, size - 0.5 / squared)


@register_layer("SmoothL1Loss")
class SmoothL1Loss(Layer):
    """The sum over all elements, divided by the number of items.

    Source: weiliu89/caffe and rbgirshick/caffe-fast-rcnn smooth_L1_loss_layer.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        sigma = self.spec.options(ops.SmoothL1Loss).sigma
        x, target, *weights = bottoms
        difference = x - target
        if len(weights) == 1:  # the diff is that of an unweighted difference
            weighted = difference * weights[0].detach()
            difference = difference + (weighted - difference).detach()
        elif weights:
            difference = difference * weights[0].detach()
        loss = smooth_l1(difference, sigma)
        if len(weights) == 2:
            loss = loss * weights[1].detach()
        return (loss.sum() / x.shape[0],)


@dataclass
class Truth:
    """The true boxes of one image.

    Attributes:
        boxes: (n, 4) float32.
        labels: (n,) their classes.
    """

    boxes: Array
    labels: Array


@dataclass
class Match:
    """Which true box each prior has, for one image.

    Attributes:
        index: column (class, or 0 where classes share places) -> (K,) index of a true box, or FREE
            or OUTSIDE.
        overlap: the same -> (K,) the largest overlap with a true box.
        negatives: priors chosen as background.
    """

    index: dict[int, Array] = field(default_factory=dict)
    overlap: dict[int, Array] = field(default_factory=dict)
    negatives: list[int] = field(default_factory=list)


def match(
    boxes: Array, truth: Array, least: float | None, skip_outside: bool
) -> tuple[Array, Array]:
    """Matches boxes with true ones: first the best pairs, then each box with its best true one.

    Args:
        boxes: (K, 4).
        truth: (n, 4), n at least 1.
        least: the overlap of the second step; None leaves it out.
        skip_outside: whether boxes that leave the image are OUTSIDE.
    Returns:
        (K,) indices of true boxes, FREE or OUTSIDE; (K,) the largest overlaps.
    Source: weiliu89/caffe bbox_util.cpp, MatchBBox.
    """
    index = np.full(len(boxes), FREE)
    shared = np.stack([overlaps(box, boxes) for box in truth], 1)
    if skip_outside:
        outside = ((boxes < 0) | (boxes > 1)).any(1)
        index[outside], shared[outside] = OUTSIDE, 0
    shared[~(shared > LEAST_OVERLAP)] = 0
    largest = shared.max(1)
    left = shared.copy()
    while left.size and (best := int(left.argmax())) >= 0:
        box, true = divmod(best, len(truth))
        if not left[box, true] > 0:
            break
        index[box], largest[box] = true, left[box, true]
        left[box], left[:, true] = 0, 0
    if least is not None:
        best_of = shared.argmax(1)
        fits = (index == FREE) & (largest >= np.float32(least)) & (largest > 0)
        index[fits] = best_of[fits]
    return index, largest


@register_layer("MultiBoxLoss")
class MultiBoxLoss(Layer):
    """loc_weight * (loss of places) + (loss of classes), divided by the number of matches.

    Bottoms: locations, scores, priors, and true boxes as rows (image, class, instance, xmin, ymin,
    xmax, ymax, difficult); an image of -1 is no box.

    Source: weiliu89/caffe (branch ssd) multibox_loss_layer.cpp, Forward_cpu; bbox_util.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self._op
        loc, conf, priors, rows = bottoms
        items, each = loc.shape[0], 1 if op.share_location else op.classes
        loc = loc.reshape(items, loc.shape[1] // (4 * each), each, 4)
        conf = conf.reshape(items, loc.shape[1], op.classes)
        prior, variance = priors.detach().reshape(2, -1, 4)
        with named(self.spec):
            truths = self._truths(rows.detach().float().cpu().numpy(), items)
            known = _Predictions(
                loc.detach().float(), conf.detach().float().cpu().numpy(), prior.float(),
                variance.float(),
            )  # fmt: skip
            matches = [self._match(known, i, truth) for i, truth in enumerate(truths)]
            if op.mining != "NONE":
                for i, found in enumerate(matches):
                    self._mine(known, i, found, truths[i])
            places = self._places(loc, prior, variance, truths, matches)
        count = len(places)
        divisors = {"FULL": items * loc.shape[1], "VALID": count, "BATCH_SIZE": items, "NONE": 1}
        fixed = op.normalization
        total = fixed if isinstance(fixed, float) else max(1, divisors[fixed])
        loss = loc[:0].sum() + conf[:0].sum()  # 0, with diffs of 0
        if op.counted[0] and count:
            each_loss = smooth_l1(places) if op.smooth else 0.5 * places * places
            loss = loss + op.loc_weight * each_loss.sum() / total
        if op.counted[1]:
            loss = loss + self._classes(conf, truths, matches) / total
        return (loss,)

    @property
    def _op(self) -> ops.MultiBoxLoss:
        return self.spec.options(ops.MultiBoxLoss)

    def _truths(self, rows: Array, items: int) -> list[Truth]:
        """The true boxes by image. Source: bbox_util.cpp, GetGroundTruth."""
        op, rows = self._op, rows.reshape(-1, 8)
        if not (np.abs(rows) < FARTHEST).all():
            raise ValueError("a true box with a number that is not finite, or beyond 2^24")
        rows = rows[rows[:, 0].astype(int) != -1]
        labels = rows[:, 1].astype(int)
        wrong = (labels < 0) | (labels >= op.classes) | (labels == op.background)
        if wrong.any():
            raise ValueError(
                f"a true box of class {labels[wrong][0]}; expected 0 to {op.classes - 1} and not "
                f"the background, {op.background}"
            )
        if not op.difficult:
            rows = rows[rows[:, 7] == 0]
        own = [rows[rows[:, 0].astype(int) == i] for i in range(items)]
        return [Truth(found[:, 3:7], found[:, 1].astype(int)) for found in own]

    def _match(self, known: _Predictions, item: int, truth: Truth) -> Match:
        """Source: bbox_util.cpp, FindMatches."""
        op, found = self._op, Match()
        if not len(truth.boxes):
            return found
        columns = [0] if op.share_location else [c for c in range(op.classes) if c != op.background]
        least = op.overlap if op.per_prediction else None
        if op.match_priors:
            index, largest = match(known.prior.cpu().numpy(), truth.boxes, least, op.skip_outside)
        for column in columns:
            own = np.arange(len(truth.labels))
            if not op.match_priors:
                boxes = self._decode(known, item, column)
                if not op.share_location:
                    own = np.flatnonzero(truth.labels == column)
                if len(own):
                    index, largest = match(boxes, truth.boxes[own], least, op.skip_outside)
                else:
                    index, largest = np.full(len(boxes), FREE), np.zeros(len(boxes), np.float32)
            chosen = np.where(index >= 0, own[np.maximum(index, 0)] if len(own) else FREE, index)
            if op.match_priors and not op.share_location:
                fits = (index >= 0) & (truth.labels[np.maximum(index, 0)] == column)
                chosen = np.where(fits, index, FREE)
            found.index[column], found.overlap[column] = chosen, largest
        return found

    def _decode(self, known: _Predictions, item: int, column: int) -> Array:
        variance = known.variance
        if self._op.variance_in_target:
            variance = torch.ones_like(variance)
        boxes = decode(known.loc[item, :, column], known.prior, variance, self._op.code)
        return boxes.cpu().numpy()

    def _mine(self, known: _Predictions, item: int, found: Match, truth: Truth) -> None:
        """Chooses negatives, or all examples. Source: bbox_util.cpp, MineHardExamples."""
        op = self._op
        if not found.index:
            return
        index, largest = found.index[0], found.overlap[0]
        loss = self._conf_losses(known, item, index, truth)
        if op.mining == "MAX_NEGATIVE":
            able = np.flatnonzero((index == FREE) & (largest < np.float32(op.neg_overlap)))
            positives = np.float32((index >= 0).sum())
            number = min(int(positives * np.float32(op.neg_pos_ratio)), len(able))
        else:
            loss = loss + self._loc_losses(known, item, index, truth)
            able = np.arange(len(index))
            number = min(op.sample_size, len(able))
        if op.nms > 0:
            boxes = known.prior.cpu().numpy() if op.nms_priors else self._decode(known, item, 0)
            chosen = able[_spread(boxes[able], loss[able], op.nms, op.top_k)[:number]]
        else:
            chosen = able[descending(loss[able])[:number]]
        picked = np.zeros(len(index), bool)
        picked[chosen] = True
        found.negatives = [int(i) for i in np.flatnonzero(picked & (index == FREE))]
        if op.mining == "HARD_EXAMPLE":
            index[(index >= 0) & ~picked] = FREE

    def _conf_losses(self, known: _Predictions, item: int, index: Array, truth: Truth) -> Array:
        """The loss of each prior's scores. Source: bbox_util.cpp, ComputeConfLoss."""
        op, scores = self._op, known.conf[item]
        label = np.where(index >= 0, truth.labels[np.maximum(index, 0)], op.background)
        if op.logistic:
            loss = np.zeros(len(scores), np.float32)
            for column, score in enumerate(scores.T):
                positive = (score >= 0).astype(np.float32)
                away = _log(1 + _exp(score - 2 * score * positive))
                own = (label == column).astype(np.float32)
                loss = loss - (score * (own - positive) - away)
            return loss
        shifted = scores - scores.max(1, keepdims=True)
        powers = _exp(shifted)
        total = np.zeros(len(scores), np.float32)
        for column in powers.T:  # in Caffe's order, as sums are compared
            total = total + column
        share = powers[np.arange(len(label)), label] / total
        least = np.finfo(np.float32).tiny
        return -_log(np.maximum(share, least))

    def _loc_losses(self, known: _Predictions, item: int, index: Array, truth: Truth) -> Array:
        """The loss of each matched prior's location. Source: bbox_util.cpp, ComputeLocLoss."""
        loss = np.zeros(len(index), np.float32)
        one = Match({0: index})
        loc = known.loc[item : item + 1]
        places = self._places(loc, known.prior, known.variance, [truth], [one])
        if len(places):
            each = smooth_l1(places) if self._op.smooth else 0.5 * places * places
            loss[index >= 0] = each.sum(1).cpu().numpy()
        return loss

    def _places(
        self, loc: Tensor, prior: Tensor, variance: Tensor, truths: list[Truth],
        matches: list[Match],
    ) -> Tensor:  # fmt: skip
        """(matches, 4) prediction less target. Source: bbox_util.cpp, EncodeLocPrediction."""
        op, chosen, boxes = self._op, [], []
        for item, found in enumerate(matches):
            for column, index in sorted(found.index.items()):
                for place in np.flatnonzero(index >= 0):
                    chosen.append((item, int(place), column))
                    boxes.append(truths[item].boxes[index[place]])
        if not chosen:
            return loc.new_zeros(0, 4)
        items, places, columns = torch.tensor(chosen, device=loc.device).T
        prior, variance = prior[places].to(loc), variance[places].to(loc)
        factor = torch.ones_like(variance) if op.variance_in_target else variance
        target = encode(torch.tensor(np.stack(boxes)).to(loc), prior, factor, op.code)
        predicted = loc[items, places, columns]
        if op.only_inside:
            box = prior
            if not op.match_priors:
                box = decode(predicted.detach(), prior, factor, op.code)
            predicted = torch.where((box < 0) | (box > 1), target, predicted)
        difference = predicted - target
        if op.variance_in_target:  # the diff is that of an undivided prediction
            difference = difference + (difference / variance - difference).detach()
        return difference

    def _positives(self, truths: list[Truth], matches: list[Match]) -> list[tuple[int, int, int]]:
        """(image, prior, class) of each match."""
        op = self._op
        return [
            (item, int(place), op.background + 1 if op.agnostic else int(label))
            for item, found in enumerate(matches)
            for _, index in sorted(found.index.items())
            for place in np.flatnonzero(index >= 0)
            for label in [truths[item].labels[index[place]]]
        ]

    def _classes(self, conf: Tensor, truths: list[Truth], matches: list[Match]) -> Tensor:
        """The summed loss of the scores. Source: bbox_util.cpp, EncodeConfPrediction."""
        from caffe_port.losses import softmax_loss

        op, priors = self._op, conf.shape[1]
        labels = np.full((conf.shape[0], priors), op.background)
        taken = np.full(labels.shape, op.mining == "NONE")
        for item, place, label in self._positives(truths, matches):
            labels[item, place], taken[item, place] = label, True
        for item, found in enumerate(matches):
            taken[item, found.negatives] = True
        chosen = torch.from_numpy(np.flatnonzero(taken)).to(conf.device)
        scores = conf.reshape(-1, op.classes).index_select(0, chosen)
        if not len(scores):
            return conf[:0].sum()
        kinds = torch.from_numpy(labels.reshape(-1)).to(conf.device)[chosen]
        if not op.logistic:
            return softmax_loss(scores[..., None], kinds[:, None], normalization="NONE")
        target = torch.full_like(scores, op.background).reshape(-1)
        if op.mining != "NONE":
            places = torch.arange(len(scores), device=conf.device) * op.classes + kinds
        else:  # upstream's: an item's targets begin too early, and backgrounds are not set
            starts = [
                i * priors + j * op.classes + label
                for i, j, label in self._positives(truths, matches)
            ]
            places = torch.tensor(starts, dtype=torch.long, device=conf.device)
        target[places] = 1
        return cross_entropies(scores, target.view_as(scores)).sum()


@dataclass(frozen=True)
class _Predictions:
    """A pass's predictions and priors in float32, of which matches and examples are chosen."""

    loc: Tensor
    conf: Array
    prior: Tensor
    variance: Tensor


def _exp(values: Array) -> Array:
    """exp in float32 as the C library rounds it, to the nearest; numpy's own may be a digit off."""
    return np.exp(values.astype(np.float64)).astype(np.float32)


def _log(values: Array) -> Array:
    """log in float32, likewise."""
    return np.log(values.astype(np.float64)).astype(np.float32)


def _spread(boxes: Array, loss: Array, threshold: float, top_k: int) -> list[int]:
    """Suppression of boxes by their loss; tiny ones are dropped. Source: ApplyNMS."""
    order = np.argsort(-loss, kind="stable")
    if top_k > -1:
        order = order[:top_k]
    order = order[areas(boxes[order]) >= np.float32(SMALLEST_BOX)]
    return suppress(boxes, order, threshold)
