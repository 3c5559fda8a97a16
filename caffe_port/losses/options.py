"""Options of the feedback losses, and the choice between torch and Triton."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from torch import Tensor

from caffe_port.errors import UsageError

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
                "pip install 'caffe_port[triton]'"
            )
        if not like.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise UsageError(
                f"path is 'triton' for a tensor on {like.device}; expected CUDA, or the "
                "environment variable TRITON_INTERPRET=1 set before Triton is first imported"
            )
    return path
