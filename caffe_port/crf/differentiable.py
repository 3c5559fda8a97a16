"""Mean field as a differentiable operation, to train a network through the CRF.

    s_0 = -U;  s_(t+1) = -U + sum_k W_k (M_k softmax(s_t)),  M_k = n_k K_k

M_k is linear: its gradient is the product of its transpose with the incoming gradient. On the
lattice K = S^T B_d ... B_0 S, with S the splat and B_j the blur along axis j, which is symmetric;
so K^T = S^T B_0 ... B_d S is the same filter with the axes in reverse, and n changes sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.crf import _kernels as checks
from caffe_port.crf.dense_crf import DenseCRF
from caffe_port.errors import UsageError

Weight = float | Tensor
Filter = Callable[[Tensor], Tensor]

MOST_DENSE = 2048  # pixels up to which a kernel may be a dense matrix


def mean_field(
    unary: Tensor,
    kernels: DenseCRF | Sequence[Tensor],
    weights: Sequence[Weight] | Tensor,
    iterations: int = 5,
    *,
    symmetric: bool = True,
) -> Tensor:
    """Marginal probabilities, differentiable in unary and weights: softmax(mean_field_scores).

    The values are those of ``DenseCRF.infer``, up to its exponential (some 1e-6).

    Args, Raises: see ``mean_field_scores``.
    Returns:
        (labels, H, W), dtype and device of unary.
    Examples:
        >>> import torch
        >>> from caffe_port import DenseCRF
        >>> from caffe_port.crf.differentiable import mean_field
        >>> unary = torch.zeros(3, 4, 5, requires_grad=True)
        >>> crf = DenseCRF(4, 5, labels=3).add_gaussian(3, weight=1)
        >>> q = mean_field(unary, crf, [2.0], iterations=2)
        >>> q[0].sum().backward()
        >>> unary.grad.shape
        torch.Size([3, 4, 5])
    """
    return mean_field_scores(unary, kernels, weights, iterations, symmetric=symmetric).softmax(0)


def mean_field_scores(
    unary: Tensor,
    kernels: DenseCRF | Sequence[Tensor],
    weights: Sequence[Weight] | Tensor,
    iterations: int = 5,
    *,
    symmetric: bool = True,
) -> Tensor:
    """The scores before the last softmax of ``mean_field``, for a softmax loss.

    Args:
        unary: (labels, H, W) floating point, negative log probabilities up to a constant per pixel.
        kernels: a DenseCRF, whose own weights do not count. It computes in float32 on the CPU,
            whatever unary is. Or features (H, W, D) of exact Gaussian kernels of unit width,
            normalised "after", for tiny images; these are differentiated too.
        weights: one for each kernel, as DenseCRF takes them: a number or tensor of none or one
            dimension (labels) or two (labels, labels).
        iterations: at least 0.
        symmetric: of a matrix, only the symmetric part counts, as in DenseCRF. With False, entry
            (l, m) is the cost of label l for label m elsewhere.
    Returns:
        (labels, H, W), dtype and device of unary.
    Raises:
        UsageError: an argument is not as described, or values or gradients are not finite.
    Source: Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015,
        whose MultiStageMeanfield layer has W_k = compatibility @ kernel weights, not symmetric.
    Examples:
        >>> import torch
        >>> from caffe_port import DenseCRF
        >>> from caffe_port.crf.differentiable import mean_field_scores
        >>> crf = DenseCRF(4, 5, labels=3).add_gaussian(3, weight=1)
        >>> mean_field_scores(torch.zeros(3, 4, 5), crf, [2.0]).shape
        torch.Size([3, 4, 5])
    """
    filters = _filters(unary, kernels)
    if len(weights) != len(filters):
        raise UsageError(f"{len(weights)} weights for {len(filters)} kernels")
    mixes = [_mix(weight, symmetric, unary) for weight in weights]
    scores = -unary
    for _ in range(checks.count("iterations", iterations, 0)):
        q = scores.softmax(0)
        scores = -unary
        for apply, mix in zip(filters, mixes, strict=True):
            scores = scores + mix(apply(q))
    return scores


def _filters(unary: Tensor, kernels: DenseCRF | Sequence[Tensor]) -> list[Filter]:
    """Every kernel as a filter of tensors of unary's shape."""
    if unary.ndim != 3 or not unary.is_floating_point() or 0 in unary.shape:
        raise UsageError(
            f"unary is {tuple(unary.shape)} {unary.dtype}; expected (labels, H, W) floating point"
        )
    if not isinstance(kernels, DenseCRF):
        return [_dense(features, unary) for features in kernels]
    size = (kernels.labels, kernels.height, kernels.width)
    if tuple(unary.shape) != size:
        raise UsageError(f"unary is {tuple(unary.shape)}; the CRF is {size}")
    return [lattice_filter(kernels, k) for k in range(kernels.kernel_count)]


def _mix(weight: Weight, symmetric: bool, unary: Tensor) -> Filter:
    """A kernel's weight as a function of the filtered values."""
    labels = unary.shape[0]
    w = torch.as_tensor(weight, dtype=unary.dtype, device=unary.device)
    if w.ndim > 2 or any(side != labels for side in w.shape):
        raise UsageError(
            f"a weight is {tuple(w.shape)}; expected a number, ({labels},) or ({labels}, {labels})"
        )
    if w.ndim == 0:
        return lambda values: w * values
    if w.ndim == 1:
        return lambda values: -w[:, None, None] * values
    costs = (w + w.T) / 2 if symmetric else w
    return lambda values: -torch.tensordot(costs, values, 1)


class _LatticeFilter(torch.autograd.Function):
    """One kernel of a DenseCRF or its transpose. Each is the other's gradient, at every order."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, crf: DenseCRF, kernel: int, adjoint: bool) -> Tensor:
        ctx.which = crf, kernel, adjoint
        given = values.detach().to("cpu", torch.float32).numpy()
        return torch.from_numpy(crf.filtered(given, kernel, adjoint=adjoint)).to(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        crf, kernel, adjoint = ctx.which
        return _apply(gradient, crf, kernel, not adjoint), None, None, None


def _apply(values: Tensor, crf: DenseCRF, kernel: int, adjoint: bool) -> Tensor:
    result: Tensor = _LatticeFilter.apply(values, crf, kernel, adjoint)  # type: ignore[no-untyped-call]
    return result


def lattice_filter(crf: DenseCRF, kernel: int) -> Filter:
    """One kernel of a CRF as a differentiable function of (labels, H, W): n (K values)."""
    return lambda values: _apply(values, crf, kernel, False)


def _dense(features: Tensor, unary: Tensor) -> Filter:
    size = tuple(unary.shape[1:])
    if features.ndim != 3 or tuple(features.shape[:2]) != size:
        raise UsageError(f"features are {tuple(features.shape)}; expected (H, W, D) of {size}")
    if size[0] * size[1] > MOST_DENSE:
        raise UsageError(
            f"exact kernels are for at most {MOST_DENSE} pixels, got {size[0]} x {size[1]}; "
            "give a DenseCRF"
        )
    rows = features.to(unary).flatten(0, 1)
    kernel = (-(rows[:, None] - rows[None]).square().sum(-1) / 2).exp()
    normalised = kernel / (kernel.sum(1, keepdim=True) + 1e-20)
    return lambda q: (q.flatten(1) @ normalised.T).view_as(q)
