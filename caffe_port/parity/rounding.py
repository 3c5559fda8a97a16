"""Exact results of single layers, each with the standard error of a float32 computation of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from caffe_port.parity import partial_sums
from caffe_port.parity.bench import Bench
from caffe_port.parity.partial_sums import Refine
from caffe_port.parity.tolerance import EXTREME, OPERATIONS, UNIT, sum_variance
from caffe_port.parity.topology import Layer

#: Runs with random changes of the inputs, for blobs below and above this many elements. Four miss a
#: cancellation of two numbers at one element with probability 1/16; in a large blob two suffice.
FEW_ELEMENTS, SAMPLES, FEWER_SAMPLES = 4096, 4, 2

#: Length of the pattern of random signs, a prime: axes of blobs are not multiples of it.
PATTERN = 65_537

Tensors: TypeAlias = "Sequence[Tensor | None]"


@dataclass(frozen=True)
class Term:
    """A tensor in float64.

    Args:
        value: what it is.
        variance: sigma^2 of a float32 computation of it, in a shape that broadcasts to the
            value's; None where the value is given.
        refine: better standard errors of chosen elements, for sums of products.
    """

    value: Tensor
    variance: Tensor | None = None
    refine: Refine | None = None

    @property
    def sigma(self) -> Tensor:
        """The standard error, in the shape of the value."""
        if self.variance is None:
            return torch.zeros_like(self.value)
        return self.variance.sqrt().expand(self.value.shape)


def forward(bench: Bench, layer: Layer, bottoms: Sequence[Term]) -> list[Term]:
    """All tops of a layer with their errors: its own rounding, and what its bottoms bring.

    Args:
        bench: of a float64 copy of the net.
        layer: which layer.
        bottoms: what it reads; a variance where they are not exactly what the layer was given.
    """
    values = [bottom.value for bottom in bottoms]
    params = bench.params(layer)
    tops = bench.forward(layer, values)
    if _is_linear(layer):
        return [_linear_top(bench, layer, bottoms, params, tops[0])]

    def run(inputs: Sequence[Tensor]) -> Tensors:
        return bench.forward(layer, inputs[: len(values)], inputs[len(values) :])

    exact = _fact(layer, "discrete") or _fact(layer, "kink_at_zero")
    lengths = [_sum_length(layer, values, top) for top in tops]
    steady = None if exact else _labels(layer)
    own = _variances(run, [*_known(layer, bottoms), *map(Term, params)], tops, steady, lengths)
    # what only bends at 0 leaves the errors of a sum as they are
    refine = bottoms[0].refine if bottoms and _fact(layer, "kink_at_zero") else None
    return [Term(top, variance, refine) for top, variance in zip(tops, own, strict=True)]


def state(bench: Bench, layer: Layer, bottoms: Sequence[Term]) -> list[Term]:
    """The layer's parameters as a forward pass leaves them, with their errors."""
    values, params = [bottom.value for bottom in bottoms], bench.params(layer)
    after = bench.state(layer, values)

    def run(inputs: Sequence[Tensor]) -> Tensors:
        return bench.state(layer, inputs[: len(values)], inputs[len(values) :])

    lengths = [_sum_length(layer, values, value) for value in after]
    own = _variances(run, [*map(Term, values), *map(Term, params)], after, _labels(layer), lengths)
    return [Term(value, variance) for value, variance in zip(after, own, strict=True)]


def backward(
    bench: Bench,
    layer: Layer,
    bottoms: Sequence[Term],
    diffs: Sequence[Term | None],
    wanted: Sequence[bool],
) -> tuple[list[Term | None], list[Term | None]]:
    """Diffs of a layer's bottoms and parameters with their errors.

    Args:
        bench, layer, bottoms: as in ``forward``.
        diffs: of the tops; None where there is none.
        wanted: the bottoms whose diffs are computed.
    """
    values, params = [bottom.value for bottom in bottoms], bench.params(layer)
    given = [None if diff is None else diff.value for diff in diffs]
    first, second = bench.backward(layer, values, given, wanted)
    if _is_linear(layer) and diffs[0] is not None:
        return _linear_backward(bench, layer, bottoms, params, diffs[0], wanted, (first, second))
    split = len(values), len(values) + len(params)

    def run(inputs: Sequence[Tensor]) -> Tensors:
        some = iter(inputs[split[1] :])
        tops = [None if diff is None else next(some) for diff in given]
        found = bench.backward(layer, inputs[: split[0]], tops, wanted, inputs[split[0] : split[1]])
        return [*found[0], *found[1]]

    present = [diff for diff in diffs if diff is not None]
    base = [*first, *second]
    lengths = [
        1.0
        if gradient is None
        else _gradient_length(layer, values, present, gradient, i >= split[0])
        for i, gradient in enumerate(base)
    ]
    # where the values decide which way a diff goes, they stay as they are
    steady = frozenset(range(split[0])) if _fact(layer, "chooses") else _labels(layer)
    inputs = [*_known(layer, bottoms), *map(Term, params), *present]
    own = _variances(run, inputs, base, steady, lengths)
    terms = [
        None if value is None else Term(value, variance)
        for value, variance in zip(base, own, strict=True)
    ]
    if _fact(layer, "kink_at_zero") and terms[0] is not None:
        terms[0] = replace(terms[0], refine=present[0].refine)
    return terms[: split[0]], terms[split[0] :]


def _known(layer: Layer, bottoms: Sequence[Term]) -> list[Term]:
    """The bottoms; labels without an error, which would make other labels of them."""
    labels = _labels(layer)
    return [Term(term.value) if i in labels else term for i, term in enumerate(bottoms)]


def _variances(
    run: Callable[[Sequence[Tensor]], Tensors],
    inputs: Sequence[Term],
    base: Tensors,
    steady: frozenset[int] | None,
    lengths: Sequence[float],
) -> list[Tensor | None]:
    """sigma^2 of each result: the layer's own rounding, and what the errors of its inputs bring.

    Args:
        run: computes the results from the inputs' values.
        inputs: bottoms, parameters, diffs of tops.
        base: the results.
        steady: inputs that no rounding touches; None where it touches none of them.
        lengths: how many numbers are added for one element of each result.
    """
    values = [term.value for term in inputs]
    responses: list[Tensor | None] = [None] * len(base)
    if steady is not None:
        responses = _rounding_responses(run, values, base, steady)
    own = [
        None if result is None else _own_variance(result, response, length)
        for result, response, length in zip(base, responses, lengths, strict=True)
    ]
    if all(term.variance is None for term in inputs):
        return own
    moves = _responses(run, values, [term.sigma for term in inputs], base, whole=False)
    return [a if a is None or b is None else a + b**2 for a, b in zip(own, moves, strict=True)]


def _is_linear(layer: Layer) -> bool:
    """Every top element is a sum of products of a bottom's and a parameter's element."""
    return _fact(layer, "sums_products") and len(layer.bottoms) == 1


def _labels(layer: Layer) -> frozenset[int]:
    """Bottoms that no rounding has touched: labels, sizes."""
    return frozenset(getattr(layer.op, "fixed_bottoms", ()))


def _fact(layer: Layer, name: str) -> bool:
    return bool(getattr(layer.op, name, False))


def _linear_top(
    bench: Bench, layer: Layer, bottoms: Sequence[Term], params: Sequence[Tensor], top: Tensor
) -> Term:
    weights = [param**2 for param in params]
    (squares,) = bench.forward(layer, [bottoms[0].value ** 2], weights)
    length = max(_products(layer, bottoms[0].value, top) / max(top.numel(), 1), 1.0)
    variance = sum_variance(top, squares, length)
    if bottoms[0].variance is not None:
        no_bias = [weights[0], *(torch.zeros_like(weight) for weight in weights[1:])]
        variance = variance + bench.forward(layer, [bottoms[0].sigma ** 2], no_bias)[0]
    return Term(top, variance, partial_sums.of_top(bench, layer, bottoms[0].value))


def _linear_backward(
    bench: Bench,
    layer: Layer,
    bottoms: Sequence[Term],
    params: Sequence[Tensor],
    diff: Term,
    wanted: Sequence[bool],
    found: tuple[list[Tensor | None], list[Tensor | None]],
) -> tuple[list[Term | None], list[Term | None]]:
    bottom, weights = bottoms[0].value, [param**2 for param in params]
    products = _products(layer, bottom, diff.value)
    squares = bench.backward(layer, [bottom**2], [diff.value**2], wanted, weights)
    spread = [None] * len(found[0]), [None] * len(found[1])
    if diff.variance is not None:
        spread = bench.backward(layer, [bottom**2], [diff.sigma**2], wanted, weights)  # type: ignore[assignment]
    moved: list[Tensor | None] = [None] * len(params)
    if bottoms[0].variance is not None:
        moved = bench.backward(layer, [bottoms[0].sigma ** 2], [diff.value**2], wanted, weights)[1]
        moved[1:] = [None] * len(moved[1:])
    terms: list[Term | None] = []
    for index, (value, square) in enumerate(
        zip([*found[0], *found[1]], [*squares[0], *squares[1]], strict=True)
    ):
        if value is None or square is None:
            terms.append(None)
            continue
        summed = products if index < len(found[0]) + 1 else diff.value.numel()
        variance = sum_variance(value, square, max(summed / max(value.numel(), 1), 1.0))
        for extra in ([*spread[0], *spread[1]][index], [None, *moved][index]):
            if extra is not None:
                variance = variance + extra
        param = None if index == 0 else index - 1
        refine = partial_sums.of_diff(bench, layer, bottom, diff.value, param)
        terms.append(Term(value, variance, refine))
    return terms[: len(found[0])], terms[len(found[0]) :]


def _products(layer: Layer, bottom: Tensor, top: Tensor) -> float:
    """Products of one pass."""
    return float(layer.op.multiply_adds([tuple(bottom.shape)], [tuple(top.shape)]))  # type: ignore[attr-defined]


def _sum_length(layer: Layer, bottoms: Sequence[Tensor], result: Tensor) -> float:
    """How many numbers of one sign the layer may add for one element."""
    if not bottoms or _fact(layer, "discrete"):
        return 1.0
    if _fact(layer, "sums_products"):
        return max(_products(layer, bottoms[0], result) / max(result.numel(), 1), 1.0)
    declared = getattr(layer.op, "sum_length", None)
    if declared is not None:
        return float(declared([tuple(bottom.shape) for bottom in bottoms]))
    return max(bottoms[-1].numel() / max(result.numel(), 1), 1.0)


def _gradient_length(
    layer: Layer, bottoms: Sequence[Tensor], diffs: Sequence[Term], gradient: Tensor, of_param: bool
) -> float:
    """How many numbers of one sign the layer may add for one element of a diff."""
    count = max(gradient.numel(), 1)
    length = max(_sum_length(layer, bottoms, gradient), sum(d.value.numel() for d in diffs) / count)
    return max(length, bottoms[0].numel() / count) if of_param and bottoms else length


def _own_variance(value: Tensor, response: Tensor | None, length: float) -> Tensor:
    finite = value[value.abs() < EXTREME]
    peak = finite.abs().max() if finite.numel() else value.new_zeros(())
    sigma = UNIT * peak
    if response is not None:
        sigma = torch.maximum(sigma, response)
    return sigma**2 * (OPERATIONS + length / 9)


def _rounding_responses(
    run: Callable[[Sequence[Tensor]], Tensors],
    inputs: Sequence[Tensor],
    base: Tensors,
    steady: frozenset[int],
) -> list[Tensor | None]:
    """The largest response, in each result, to relative changes of 1 u of the inputs."""
    amplitudes = [
        torch.zeros_like(value) if i in steady or _is_whole(value) else UNIT * value.abs()
        for i, value in enumerate(inputs)
    ]
    return _responses(run, inputs, amplitudes, base, whole=True)


def _is_whole(values: Tensor) -> bool:
    """Whole numbers are labels, counts and indices: float32 holds them exactly."""
    return bool((values == values.round()).all())


def _responses(
    run: Callable[[Sequence[Tensor]], Tensors],
    inputs: Sequence[Tensor],
    amplitudes: Sequence[Tensor],
    base: Tensors,
    *,
    whole: bool,
) -> list[Tensor | None]:
    """How far random changes of the inputs move the results.

    Args:
        whole: one number for each result, its largest move; otherwise element by element.
    """
    moves: list[Tensor | None] = [None] * len(base)
    if not any(bool(amplitude.any()) for amplitude in amplitudes):
        return moves
    largest = max((result.numel() for result in base if result is not None), default=0)
    for sample in range(SAMPLES if largest < FEW_ELEMENTS else FEWER_SAMPLES):
        changed = [
            torch.addcmul(value, amplitude, _signs(value, 31 * sample + place))
            for place, (value, amplitude) in enumerate(zip(inputs, amplitudes, strict=True))
        ]
        for index, (result, reference) in enumerate(zip(run(changed), base, strict=True)):
            if result is None or reference is None:
                continue
            move = (result - reference).abs().nan_to_num(0.0, posinf=0.0)
            move = move.max() if whole and move.numel() else move
            known = moves[index]
            moves[index] = move if known is None else torch.maximum(known, move)
    return moves


def _signs(values: Tensor, start: int) -> Tensor:
    """Random signs in the shape of the values: one fixed pattern, from its place ``start`` on."""
    count = values.numel()
    repeats = -(-(count + start) // PATTERN)
    return _pattern().repeat(repeats)[start : start + count].reshape(values.shape).to(values.dtype)


@cache
def _pattern() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    signs = torch.randint(0, 2, (PATTERN,), generator=generator, dtype=torch.int8)
    return signs.to(torch.float64).mul_(2).sub_(1)
