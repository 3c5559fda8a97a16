"""Standard errors of single elements from the partial sums themselves.

``tolerance.sum_variance`` assumes products in an order unrelated to their values. Where large areas
of one sign follow one another (the diffs of a softmax over a label map), partial sums grow larger
than that; and where the same number is added again and again, all roundings have one direction. For
a few elements, those that would fail, both are computed: in the order of Caffe's column buffer
(channel, row, column) and in that of channels-last kernels (row, column, channel).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_port.parity.bench import Bench
from caffe_port.parity.tolerance import PER_ELEMENT, PLAIN_SUM, UNIT
from caffe_port.parity.topology import Layer

#: Gives the standard errors of chosen elements, by their flat index.
Refine = Callable[[NDArray[np.intp]], NDArray[np.float64]]


def of_top(bench: Bench, layer: Layer, bottom: Tensor) -> Refine:
    """For the top of a layer that sums products of its bottom and its parameters."""

    def refine(indices: NDArray[np.intp]) -> NDArray[np.float64]:
        leaf = bottom.detach().requires_grad_(True)
        with torch.enable_grad(), bench.unchanged(layer):
            (top,) = bench.net.run_layer(layer.name, [leaf])
            return _sigmas(top, leaf, indices)

    return refine


def of_diff(bench: Bench, layer: Layer, bottom: Tensor, diff: Tensor, param: int | None) -> Refine:
    """For the diff of the bottom, or of parameter number ``param``."""

    def refine(indices: NDArray[np.intp]) -> NDArray[np.float64]:
        given = diff.detach().requires_grad_(True)
        leaf = bottom.detach().requires_grad_(param is None)
        with torch.enable_grad(), bench.unchanged(layer):
            (top,) = bench.net.run_layer(layer.name, [leaf])
            source = leaf if param is None else bench.net.layer_params(layer.name)[param]
            (found,) = torch.autograd.grad(top, source, given.reshape(top.shape), create_graph=True)
            return _sigmas(found, given, indices)

    return refine


def _sigmas(sums: Tensor, factors: Tensor, indices: NDArray[np.intp]) -> NDArray[np.float64]:
    flat = sums.reshape(-1)
    sigmas = []
    for index in indices:
        (others,) = torch.autograd.grad(flat[int(index)], factors, retain_graph=True)
        sigmas.append(_sigma(others, factors.detach()))
    return np.array(sigmas)


def _sigma(others: Tensor, factors: Tensor) -> float:
    """Of one sum: the products are ``others * factors``, where others are not 0."""
    largest = 0.0
    channels_last = 1 if factors.dim() > 2 else -1
    for axis in (-1, channels_last):
        one, two = (part.movedim(axis, -1).reshape(-1) for part in (others, factors))
        products = (one * two)[one != 0].numpy()
        squares = float((products.cumsum() ** 2).sum() + 2 * (products**2).sum())
        plain = products.astype(np.float32).cumsum(dtype=np.float32)
        error = abs(float(plain[-1]) - products.sum()) if products.size else 0.0
        largest = max(largest, UNIT * math.sqrt(squares / 3), error * PLAIN_SUM / PER_ELEMENT)
    return largest
