"""The feedback losses in torch: the reference, and the path on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.losses.options import FeedbackOptions


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums are taken in: float64 for itself, float32 for all else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def centred(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """What is compared: the vectors, for correlation without their means."""
    if options.similarity == "cosine":
        return vectors
    # first the first element, so that constant vectors become exactly 0
    vectors = vectors - vectors.narrow(dim, 0, 1).detach()
    return vectors - vectors.mean(dim, keepdim=True)


def lengths(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """sqrt(|v|^2 + eps), with the axis kept."""
    return (vectors.square().sum(dim, keepdim=True) + options.eps).sqrt()


def unit(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """Vectors of length 1, or below where eps weighs."""
    vectors = centred(vectors, dim, options)
    return vectors / lengths(vectors, dim, options)


def coefficients(counts: Tensor, options: FeedbackOptions) -> tuple[Tensor, Tensor]:
    """What each pixel of a class weighs in the two terms, without averages over empty sets.

    Args:
        counts: (N, C) counted pixels, float.
    Returns:
        pull: (N, C), pull_weight / (pixels * pairs of image and class);
        push: (N, C), push_weight / (pixels * triples of image and two classes).
    """
    present = counts > 0
    classes = present.sum(1).to(counts.dtype)
    each = present / counts.clamp(min=1)
    pairs = classes.sum().clamp(min=1)
    triples = (classes * (classes - 1)).sum().clamp(min=1)
    return each * (options.pull_weight / pairs), each * (options.push_weight / triples)


def choose(
    scores: Tensor, label: Tensor, counted: Tensor, options: FeedbackOptions
) -> tuple[Tensor, Tensor]:
    """Which pixels make the templates.

    Args:
        scores: (N, C, P).
        label: (N, P) int64 in [0, C).
        counted: (N, P) bool.
    Returns:
        weight: (N, P) in the working dtype, the share of each pixel in its class's template;
        counts: (N, C) likewise, counted pixels.
    """
    dtype = working_dtype(scores.dtype)
    empty = torch.zeros(scores.shape[:2], dtype=dtype, device=scores.device)
    counts = empty.scatter_add(1, label, counted.to(dtype))
    own = scores.gather(1, label[:, None]).squeeze(1)
    candidate = counted
    if options.correct_only:
        right = counted & (own >= scores.amax(1))
        rights = empty.scatter_add(1, label, right.to(dtype))
        candidate = counted & (right | (rights.gather(1, label) == 0))
    numbers = empty.scatter_add(1, label, candidate.to(dtype))
    if options.most:
        candidate = candidate & (_rank(own, label, candidate, numbers) < options.most)
        numbers = numbers.clamp(max=options.most)
    return candidate / numbers.gather(1, label).clamp(min=1), counts


def _rank(own: Tensor, label: Tensor, candidate: Tensor, numbers: Tensor) -> Tensor:
    """(N, P): how many candidates of its class come before a pixel, by score, then row order."""
    classes = numbers.shape[1]
    order = own.argsort(dim=1, descending=True, stable=True)
    group = label.masked_fill(~candidate, classes).gather(1, order)
    by_class = group.argsort(dim=1, stable=True)
    order, group = order.gather(1, by_class), group.gather(1, by_class)
    starts = torch.nn.functional.pad(numbers.cumsum(1).long(), (1, 0))
    place = torch.arange(own.shape[1], device=own.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, place - starts.gather(1, group))


def feedback_torch(
    features: Tensor, label: Tensor, scores: Tensor, options: FeedbackOptions
) -> Tensor:
    """The loss of checked input.

    Args:
        features: (N, D, P) float.
        label: (N, P) int64 in [0, C), or -1 where a pixel does not count.
        scores: (N, C, P) float without gradient.
    Returns:
        A scalar, float64 for float64 features, else float32.
    """
    counted, label = label >= 0, label.clamp(min=0)
    dtype = working_dtype(features.dtype)
    features = features.to(dtype).masked_fill(~counted[:, None], 0)
    weight, counts = choose(scores, label, counted, options)
    weight, counts = weight.to(dtype), counts.to(dtype)

    shares = torch.zeros(scores.shape, dtype=dtype, device=features.device)
    shares.scatter_(1, label[:, None], weight[:, None])
    source = features.detach() if options.detach else features
    templates = unit(shares.bmm(source.transpose(1, 2)), 2, options)
    compared = centred(features, 1, options)
    # (N, C, P), the size of the scores; no unit vector of a pixel is made
    dots = templates.bmm(compared)
    length = lengths(compared, 1, options)

    # autograd keeps masks of the similarities, not these: they are summed before they are divided
    is_own = torch.zeros_like(dots, dtype=torch.bool).scatter_(1, label[:, None], True)
    is_open = (counts > 0)[:, :, None] & ~is_own & (dots > options.margin * length)
    own, opened = (torch.where(mask, dots, 0).sum(1) for mask in (is_own, is_open))
    length = length.squeeze(1)
    hinge = opened / length - options.margin * is_open.sum(1, dtype=dtype)
    pull, push = (each.gather(1, label) * counted for each in coefficients(counts, options))
    return (pull * (1 - own / length) + push * hinge).sum()
