"""Gradients through the dense CRF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from caffe_port.crf import _checks as checks
from caffe_port.crf.dense_crf import DenseCRF
from caffe_port.crf.params import CRFParameters
from caffe_port.crf.refinement import build
from caffe_port.errors import UsageError

# The mathematics of DeepLab's DenseCRF layer, on numpy arrays.

FLT_MIN = np.finfo(np.float32).tiny


def dense_crf_forward(
    scores: ArrayLike,
    data_dim: ArrayLike,
    data: ArrayLike | None,
    parameters: CRFParameters,
    output_probability: bool = True,
) -> NDArray[np.float32]:
    """Infer each item of a batch over its real area; the padding around it is 0 in the result.

    Pixels are added up in Caffe's order, so that the result is Caffe's to the last bit. ``refine``
    takes half the time and differs by rounding.

    Args:
        scores: (N, C, H, W) float32; unary = -scores.
        data_dim: (N, 1, 1, 2) real height and width of each item; larger ones mean all of it.
        data: (N, 3, H, W) float32 as the net saw it (BGR minus the mean): features as they are.
            None where parameters have no bilateral kernel. Upstream reads item 0's colours for
            every item; this reads each item's own.
        parameters: kernels and iterations.
        output_probability: False for the logarithm, floored at that of FLT_MIN.
    Returns:
        (N, C, H, W) float32.
    Raises:
        UsageError: a shape, dtype or value is not as described.
    Source: DeepLab v2 densecrf_layer.cpp, Forward_cpu.
    """
    batch = checks.finite("scores", checks.floats("scores", scores, ("N", "C", "H", "W")))
    number, labels, height, width = batch.shape
    dims = checks.finite("data_dim", checks.floats("data_dim", data_dim, (number, 1, 1, 2)))
    colours = None if data is None else checks.floats("data", data, (number, 3, height, width))
    result = np.zeros_like(batch)
    for n in range(number):
        h, w = (min(int(dims[n, 0, 0, i]), batch.shape[2 + i]) for i in (0, 1))
        if h < 1 or w < 1:
            raise UsageError(f"data_dim of item {n} is {dims[n].ravel()}; expected at least 1 x 1")
        image = None if colours is None else colours[n, :, :h, :w].transpose(1, 2, 0)
        crf = build(h, w, labels, image, parameters, exact=True)
        q = crf.infer(-batch[n, :, :h, :w], parameters.iterations)
        result[n, :, :h, :w] = q if output_probability else _log(q)
    return result


def _log(q: NDArray[np.float32]) -> NDArray[np.float32]:
    # In double, for the nearest float32: the C library's logf is within one unit of that, and
    # numpy's own only within two.
    return np.log(np.maximum(q, FLT_MIN), dtype=np.float64).astype(np.float32)


# Mean field as a differentiable operation, for those who train a network through the CRF.
#
#     s_0 = -U;  s_(t+1) = -U + sum_k W_k (M_k softmax(s_t)),  M_k = n_k K_k
#
# M_k is linear: its gradient is its transpose's product with what comes from above. On the lattice
# K = S^T B_d ... B_0 S, with S the splat and B_j the blur along axis j, which is symmetric; so K^T
# = S^T B_0 ... B_d S is the same filter with the axes in reverse, and n moves to the other side.

Weight = float | Tensor
Filter = Callable[[Tensor], Tensor]

MOST_DENSE = 2048  # pixels whose kernel may be held as a matrix


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
    """What ``mean_field`` takes the last softmax of, as a softmax loss wants it.

    Args:
        unary: (labels, H, W) floating point, negative log probabilities up to a constant a pixel.
        kernels: a DenseCRF, whose own weights do not count. It computes in float32 on the CPU,
            whatever unary is. Or features (H, W, D) of exact Gaussian kernels of unit width,
            normalised "after", for tiny images; these are differentiated too.
        weights: one for each kernel, as DenseCRF takes them: a number or tensor of none or one
            dimension (labels) or two (labels, labels).
        iterations: at least 0.
        symmetric: of a matrix, only the symmetric part counts, as in DenseCRF. With False, entry
            (l, m) is what label l pays for m elsewhere.
    Returns:
        (labels, H, W), dtype and device of unary.
    Raises:
        UsageError: an argument is not as described, or values or gradients are not finite.
    Source: Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015,
        whose MultiStageMeanfield layer has W_k = compatibility @ kernel weights, not symmetric.
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
    """Every kernel, applied to what has unary's shape."""
    if unary.ndim != 3 or not unary.is_floating_point() or 0 in unary.shape:
        raise UsageError(
            f"unary is {tuple(unary.shape)} {unary.dtype}; expected (labels, H, W) floating point"
        )
    if not isinstance(kernels, DenseCRF):
        return [_dense(features, unary) for features in kernels]
    size = (kernels.labels, kernels.height, kernels.width)
    if tuple(unary.shape) != size:
        raise UsageError(f"unary is {tuple(unary.shape)}; the CRF is {size}")
    return [_lattice(kernels, k) for k in range(kernels.kernel_count)]


def _mix(weight: Weight, symmetric: bool, unary: Tensor) -> Filter:
    """What a kernel's weight makes of the filtered values."""
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


def _lattice(crf: DenseCRF, kernel: int) -> Filter:
    return lambda q: _apply(q, crf, kernel, False)


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
