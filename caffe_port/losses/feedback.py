"""Options of the feedback losses, and the choice between torch and Triton."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from caffe_port.errors import UsageError
from caffe_port.labels import checked

SIMILARITIES = ("cosine", "correlation")
TEMPLATES = ("best", "mean", "top-k")


@dataclass(frozen=True)
class FeedbackOptions:
    """Options of the feedback losses; docs/losses.md has the formula.

    Attributes:
        similarity: 'cosine', or 'correlation': cosine after each vector's mean is subtracted.
        template: the vector that represents a class in an image: that of its 'best' pixel, the
            'mean' of its candidates, or the mean of its 'top-k' candidates by score.
        k: for 'top-k'; where a class has fewer candidates, all of them.
        detach: whether templates are constants; otherwise they get gradients as well.
        include_background: whether class 0 is a class like the others, or its pixels do not count.
        correct_only: whether only pixels predicted right are candidates (no class scores higher
            than the label's), where the class has any.
        pull_weight, push_weight: factors of the two terms.
        margin: similarity to another class's template that costs nothing, -1 to 1.
        ignore_labels: labels of pixels that do not count.
        eps: added to a squared norm, which keeps zero vectors finite.
    Raises:
        ValueError: an option outside of its range.
    Source: the losses of the thesis behind caffe_port, as docs/losses.md defines them.
    Examples:
        >>> from caffe_port.losses import FeedbackOptions
        >>> FeedbackOptions(template="top-k", k=3, ignore_labels=(255,)).k
        3
    """

    similarity: str = "cosine"
    template: str = "best"
    k: int = 5
    detach: bool = True
    include_background: bool = True
    correct_only: bool = True
    pull_weight: float = 1.0
    push_weight: float = 1.0
    margin: float = 0.0
    ignore_labels: tuple[int, ...] = ()
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _one_of("similarity", self.similarity, SIMILARITIES)
        _one_of("template", self.template, TEMPLATES)
        _expect(self.k >= 1, f"k is {self.k}; expected at least 1")
        _expect(0 < self.eps < math.inf, f"eps is {self.eps}; expected a number above 0")
        _expect(-1 <= self.margin <= 1, f"margin is {self.margin}; expected -1 to 1")
        for name in ("pull_weight", "push_weight"):
            value = getattr(self, name)
            _expect(math.isfinite(value), f"{name} is {value}; expected a finite number")

    @property
    def most(self) -> int:
        """The largest number of candidates of a template; 0 is all of them."""
        return {"best": 1, "mean": 0, "top-k": self.k}[self.template]

    @property
    def skipped_labels(self) -> tuple[int, ...]:
        """All labels of pixels that do not count."""
        return self.ignore_labels if self.include_background else (*self.ignore_labels, 0)


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    _expect(value in known, f"{name} is {value!r}; expected one of {', '.join(known)}")


PATHS = ("auto", "torch", "triton")
OLDEST_TRITON = 3, 6


@functools.cache
def has_triton() -> bool:
    """Whether a Triton is installed that compiles the kernels; 3.4 does not."""
    try:
        major, minor = version("triton").split(".")[:2]
    except PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= OLDEST_TRITON


def chosen_path(path: str, like: Tensor) -> str:
    """'torch' or 'triton'.

    Args:
        path: 'torch'; 'triton'; 'auto': Triton for CUDA tensors where it is installed.
        like: a tensor of the device in question.
    Raises:
        UsageError: an unknown path, or Triton cannot run here.
    """
    if path not in PATHS:
        raise UsageError(f"path is {path!r}; expected one of {', '.join(PATHS)}")
    if path == "auto":
        # no kernel is launched for an empty tensor
        fits = like.is_cuda and has_triton() and like.numel() > 0
        return "triton" if fits else "torch"
    if path == "triton":
        if not has_triton():
            raise UsageError(
                "path is 'triton' but no Triton from 3.6 on is installed: "
                "pip install 'caffe-port[triton]'"
            )
        if not like.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise UsageError(
                f"path is 'triton' for a tensor on {like.device}; expected CUDA, or the "
                "environment variable TRITON_INTERPRET=1 set before Triton is first imported"
            )
    return path


# The feedback losses: pixels are pulled to their class's template, and pushed from the others'.
#
# The implementation in torch is the reference, and runs on the CPU.


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: float64 for float64, float32 for all else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def centred(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """The vectors that are compared: for correlation, without their means."""
    if options.similarity == "cosine":
        return vectors
    # the first element is subtracted first, so that constant vectors become exactly 0
    vectors = vectors - vectors.narrow(dim, 0, 1).detach()
    return vectors - vectors.mean(dim, keepdim=True)


def lengths(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """sqrt(|v|^2 + eps), with the axis kept."""
    return (vectors.square().sum(dim, keepdim=True) + options.eps).sqrt()


def unit(vectors: Tensor, dim: int, options: FeedbackOptions) -> Tensor:
    """Vectors of length 1, or less where eps matters."""
    vectors = centred(vectors, dim, options)
    return vectors / lengths(vectors, dim, options)


def coefficients(counts: Tensor, options: FeedbackOptions) -> tuple[Tensor, Tensor]:
    """The weight of each pixel of a class in the two terms, without averages over empty sets.

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
    """Chooses the pixels that form the templates.

    Args:
        scores: (N, C, P).
        label: (N, P) int64 in [0, C).
        counted: (N, P) bool.
    Returns:
        weight: (N, P) in the working dtype, the share of each pixel in its class's template;
        counts: (N, C) in the same dtype, counted pixels.
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
    # (N, C, P), the size of the scores; unit vectors of pixels are never stored
    dots = templates.bmm(compared)
    length = lengths(compared, 1, options)

    # summed before they are divided, so that autograd keeps only masks of the similarities
    is_own = torch.zeros_like(dots, dtype=torch.bool).scatter_(1, label[:, None], True)
    is_open = (counts > 0)[:, :, None] & ~is_own & (dots > options.margin * length)
    own, opened = (torch.where(mask, dots, 0).sum(1) for mask in (is_own, is_open))
    length = length.squeeze(1)
    hinge = opened / length - options.margin * is_open.sum(1, dtype=dtype)
    pull, push = (each.gather(1, label) * counted for each in coefficients(counts, options))
    return (pull * (1 - own / length) + push * hinge).sum()


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEFAULT = FeedbackOptions()


def feedback_loss(
    features: Tensor,
    labels: Tensor,
    scores: Tensor | None = None,
    options: FeedbackOptions = _DEFAULT,
    *,
    path: str = "auto",
) -> Tensor:
    """pull_weight * pull + push_weight * push, as docs/losses.md defines them.

        sim(t, f) = t . f / (sqrt(|t|^2 + eps) sqrt(|f|^2 + eps))
        pull = mean over (image, class c) of mean over pixels p labelled c of 1 - sim(t_c, f_p)
        push = mean over (image, c != d) of mean over pixels labelled d of
               max(0, sim(t_c, f_p) - margin)

    A mean over nothing is 0: no counted pixel gives 0, one class in every image gives no push.

    Args:
        features: (N, D, ...) float16, bfloat16, float32 or float64.
        labels: (N, ...) or (N, 1, ...) whole numbers of any dtype, on the same grid.
        scores: (N, C, ...) of any such dtype, which select the best pixels; by default the
            features. They get no gradient.
        options, path: see FeedbackOptions and ``options.chosen_path``.
    Returns:
        A scalar: float64 for float64 features, else float32.
    Raises:
        ValueError: shapes, dtypes or devices that do not match; a label that is neither ignored nor
            below C.
        UsageError: the path cannot run here.
    Source: ours, after the thesis (docs/losses.md).
    Examples:
        >>> import torch
        >>> from caffe_port.losses import FeedbackOptions, feedback_loss
        >>> features = torch.randn(2, 8, 5, 5, requires_grad=True)
        >>> labels = torch.randint(3, (2, 5, 5))
        >>> loss = feedback_loss(features, labels, options=FeedbackOptions(template="mean"))
        >>> loss.backward()
        >>> loss.shape, features.grad.shape
        (torch.Size([]), torch.Size([2, 8, 5, 5]))
    """
    scores = features if scores is None else scores
    _check(features, labels, scores)
    label = _flat_label(labels, features, scores.shape[1], options)
    flat = features.reshape(*features.shape[:2], label.shape[1])
    rated = scores.detach().reshape(*scores.shape[:2], label.shape[1])
    if chosen_path(path, features) == "torch" or flat.numel() == 0:
        return feedback_torch(flat, label, rated, options)
    from caffe_port.losses.feedback_triton import feedback_triton

    return feedback_triton(flat, label, rated, options)


def _flat_label(labels: Tensor, features: Tensor, classes: int, options: FeedbackOptions) -> Tensor:
    """(N, P) int64, -1 where a pixel does not count."""
    grid = features.shape[0], math.prod(features.shape[2:])
    label, counted = checked(labels.reshape(grid), classes, options.skipped_labels)
    return label.masked_fill(~counted, -1)


def _check(features: Tensor, labels: Tensor, scores: Tensor) -> None:
    """Checks shapes, dtypes and devices before anything runs."""
    for name, blob in (("features", features), ("scores", scores)):
        if blob.dim() < 2 or blob.shape[1] == 0:
            raise ValueError(f"{name} have shape {tuple(blob.shape)}; expected (N, C, ...), C > 0")
        if blob.dtype not in _DTYPES:
            raise ValueError(f"{name} are {blob.dtype}; expected one of {_DTYPES}")
    grid = (features.shape[0], *features.shape[2:])
    if (scores.shape[0], *scores.shape[2:]) != grid:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)} for features of shape "
            f"{tuple(features.shape)}; expected the same grid"
        )
    if tuple(labels.shape) not in (grid, (grid[0], 1, *grid[1:])):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} for features of shape "
            f"{tuple(features.shape)}; expected one per pixel, {grid}"
        )
    devices = {str(blob.device) for blob in (features, labels, scores)}
    if len(devices) > 1:
        raise ValueError(f"features, labels and scores are on {sorted(devices)}; expected one")


class FeedbackLoss(nn.Module):
    """Module of ``feedback_loss`` with fixed options.

    Args:
        options: see FeedbackOptions.
        path: 'auto', 'torch' or 'triton'.
    Examples:
        >>> import torch
        >>> from caffe_port.losses import FeedbackLoss, FeedbackOptions
        >>> loss = FeedbackLoss(FeedbackOptions(push_weight=0))
        >>> loss(torch.ones(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)).shape
        torch.Size([])
    """

    def __init__(self, options: FeedbackOptions = _DEFAULT, path: str = "auto") -> None:
        super().__init__()
        self.options = options
        self.path = path

    def forward(self, features: Tensor, labels: Tensor, scores: Tensor | None = None) -> Tensor:
        """The loss of (N, D, ...) features; see feedback_loss."""
        return feedback_loss(features, labels, scores, self.options, path=self.path)

    def extra_repr(self) -> str:
        return f"{self.options}, path={self.path!r}"
