"""The feedback losses: pixels are pulled to their class's template and pushed from the others'."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caffe_port.labels import checked
from caffe_port.losses.feedback_torch import feedback_torch
from caffe_port.losses.options import FeedbackOptions
from caffe_port.losses.paths import chosen_path

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
        scores: (N, C, ...) of any such dtype, which say the best pixels; the features unless given.
            They get no gradient.
        options, path: see FeedbackOptions and ``paths.chosen_path``.
    Returns:
        A scalar: float64 for float64 features, else float32.
    Raises:
        ValueError: shapes, dtypes or devices that do not fit; a label neither ignored nor below C.
        UsageError: the path cannot run here.
    Source: ours, after the thesis (docs/losses.md).
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
    grid = features.shape[0], features.shape[2:].numel()
    label, counted = checked(labels.reshape(grid), classes, options.skipped_labels)
    return label.masked_fill(~counted, -1)


def _check(features: Tensor, labels: Tensor, scores: Tensor) -> None:
    """Refuses what does not fit together, before anything runs."""
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
    """feedback_loss with its options kept.

    Args:
        options: see FeedbackOptions.
        path: 'auto', 'torch' or 'triton'.
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
