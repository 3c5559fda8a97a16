"""Rounding errors found by experiment: changed numbers, and the partial sums themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caffe_port.parity.bench import Bench
from caffe_port.parity.tolerance import PER_ELEMENT, PLAIN_SUM, SMALLEST, UNIT
from caffe_port.parity.topology import Layer

# How far a layer's results move when the numbers in it are rounded otherwise.
#
# A float64 computation is carried out again with numbers changed at random: those that the layer
# reads, or those that it computes on the way (Monte Carlo arithmetic: Parker, Monte Carlo
# arithmetic: exploiting the effects of rounding error, 1997). The latter shows what changes of the
# inputs do not: 1 - y^2 behind a tanh whose y has been rounded to nearly 1, and differences of
# numbers that are equal whatever the inputs are.

#: Runs with random changes, for blobs below and above this many elements. Four miss a cancellation
#: of two numbers at one element with probability 1/16; in a large blob two suffice.
FEW_ELEMENTS, SAMPLES, FEWER_SAMPLES = 4096, 4, 2

#: Length of the pattern of random signs, a prime: axes of blobs are not multiples of it.
PATTERN = 65_537

#: Up to this many patterns in a row are kept (17 MB); larger blobs repeat the pattern each time.
KEPT_PATTERNS = 32

#: Operations of torch that round nothing: they copy and select numbers, or change signs.
EXACT = frozenset({
    "_to_copy", "abs", "amax", "amin", "cat", "clamp", "clamp_max", "clamp_min", "clone",
    "constant_pad_nd", "copy_", "fill_", "gather", "index", "index_select", "masked_fill",
    "max", "max_pool2d_with_indices", "maximum", "min", "minimum", "neg", "relu", "repeat",
    "scatter", "select_backward", "slice_backward", "sort", "stack", "where", "zero_",
})  # fmt: skip

Tensors: TypeAlias = "Sequence[Tensor | None]"
Run: TypeAlias = Callable[[Sequence[Tensor]], Tensors]


def largest(
    run: Run, inputs: Sequence[Tensor], amplitudes: Sequence[Tensor], base: Tensors
) -> list[Tensor | None]:
    """The largest move of each result, one number, under random changes of the inputs.

    Args:
        run: computes the results.
        inputs: of the computation.
        amplitudes: by how much each number of them is changed.
        base: the results without changes.
    """
    if not any(bool(amplitude.any()) for amplitude in amplitudes):
        return [None] * len(base)
    moves = element_by_element(run, inputs, amplitudes, base)
    return [None if move is None else _peak(move) for move in moves]


def element_by_element(
    run: Run, inputs: Sequence[Tensor], amplitudes: Sequence[Tensor], base: Tensors
) -> list[Tensor | None]:
    """The moves of each element; arguments as in ``largest``."""

    def changed(sample: int) -> Tensors:
        return run(
            [
                torch.addcmul(value, amplitude, signs(value, 31 * sample + place))
                for place, (value, amplitude) in enumerate(zip(inputs, amplitudes, strict=True))
            ]
        )

    return _moves(changed, base)


def to_rounding(run: Run, inputs: Sequence[Tensor], base: Tensors) -> list[Tensor | None]:
    """The largest move of each result when every number on the way to it is changed by 1 u.

    Args:
        run, inputs, base: as in ``largest``.
    """

    def rounded(sample: int) -> Tensors:
        with Rounded(1009 * sample):
            return run(inputs)

    return [None if move is None else _peak(move) for move in _moves(rounded, base)]


def _moves(run: Callable[[int], Tensors], base: Tensors) -> list[Tensor | None]:
    """The largest moves of each element over some runs, which ``run`` carries out by number."""
    moves: list[Tensor | None] = [None] * len(base)
    most = max((result.numel() for result in base if result is not None), default=0)
    for sample in range(SAMPLES if most < FEW_ELEMENTS else FEWER_SAMPLES):
        for index, (result, reference) in enumerate(zip(run(sample), base, strict=True)):
            if result is None or reference is None or result.shape != reference.shape:
                continue  # a layer that chose another number of rows: no response to rounding
            move = (result - reference).detach().abs_().nan_to_num_(0.0, posinf=0.0)
            known = moves[index]
            moves[index] = move if known is None else torch.maximum(known, move, out=known)
    return moves


def _peak(move: Tensor) -> Tensor:
    return move.max() if move.numel() else move


class Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, every float64 number that torch computes is changed by 1 u.

    One that float32 cannot hold, but as a number near 0 or as 0, becomes 0 or twice itself. A
    tensor of whole numbers, which float32 holds exactly, stays as it is.

    Args:
        start: where in the pattern of random signs to begin.
    """

    def __init__(self, start: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._start = start

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing here is compiled, and skipping imports torch's compiler first."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        made = results if isinstance(results, (list, tuple)) else (results,)
        for value, new in zip(made, _new_results(func), strict=False):
            if new and isinstance(value, Tensor) and value.dtype == torch.float64:
                self._start += 1
                if not is_whole(value):
                    amount = torch.where(value.abs() < SMALLEST, 1.0, UNIT)
                    value.addcmul_(value, amount.mul_(signs(value, self._start)))
        return results


@cache
def _new_results(func: Any) -> tuple[bool, ...]:
    """Which results of an operation of torch it has rounded: none of EXACT, no view of a tensor."""
    if func.overloadpacket.__name__ in EXACT:
        return ()
    aliases = [returned.alias_info for returned in func._schema.returns]
    return tuple(alias is None or alias.is_write for alias in aliases)


def is_whole(values: Tensor) -> bool:
    """Whole numbers are labels, counts and indices: float32 holds them exactly."""
    head = values[(slice(1),) * (values.dim() - 1)]  # one row decides most blobs
    if not torch.equal(head, head.round()):
        return False
    return torch.equal(values, values.round())


def signs(values: Tensor, start: int) -> Tensor:
    """Random signs in the shape of the values: one fixed pattern, from its place ``start`` on."""
    count = values.numel()
    start %= PATTERN
    times = -(-(start + count) // PATTERN)
    if times <= KEPT_PATTERNS:
        pattern = _pattern(2 if times <= 2 else KEPT_PATTERNS)
    else:
        pattern = _pattern(1).repeat(times)
    return pattern[start : start + count].reshape(values.shape).to(values.dtype)


@cache
def _pattern(times: int) -> Tensor:
    """The pattern, so often one after the other that most blobs need no copy of it."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 2, (PATTERN,), generator=generator, dtype=torch.int8)
    return drawn.to(torch.float64).mul_(2).sub_(1).repeat(times)


# Standard errors of single elements from the partial sums themselves.
#
# ``tolerance.sum_variance`` assumes products in an order unrelated to their values. Where large
# areas of one sign follow one another (the diffs of a softmax over a label map), partial sums grow
# larger than that; and where the same number is added again and again, all roundings have one
# direction. For a few elements, those that would fail, both are computed: in the order of Caffe's
# column buffer (channel, row, column) and in that of channels-last kernels (row, column, channel).

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
