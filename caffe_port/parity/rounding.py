"""Exact results of single layers, each with the standard error of a float32 computation of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from caffe_port.parity import responses
from caffe_port.parity.bench import Bench
from caffe_port.parity.responses import Refine, Run, Tensors, is_whole
from caffe_port.parity.tolerance import EXTREME, OPERATIONS, SMALLEST, UNIT, sum_variance
from caffe_port.parity.topology import Layer, fact


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


def total_of(terms: Sequence[Term]) -> Term | None:
    """The sum of terms, in the first one's shape; None of no terms."""
    if len(terms) < 2:
        return terms[0] if terms else None
    value, variance = terms[0].value, terms[0].variance
    for term in terms[1:]:
        value = value + term.value.reshape(value.shape)
        if term.variance is not None:
            added = term.sigma.reshape(value.shape) ** 2
            variance = added if variance is None else variance + added
    return Term(value, variance)


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

    lengths = [_sum_length(layer, values, top) for top in tops]
    inputs = [*_known(layer, bottoms), *map(Term, params)]
    exact = fact(layer, "discrete") or fact(layer, "kink_at_zero")
    steady = frozenset(range(len(inputs))) if exact else _labels(layer)
    given = fact(layer, "discrete") or _labels(layer).issuperset(range(len(inputs)))
    inside = None if given else bench.in_order(layer)
    own = _variances(run, inputs, tops, steady, lengths, inside=inside)
    # what only bends at 0 leaves the errors of a sum as they are
    refine = bottoms[0].refine if bottoms and fact(layer, "kink_at_zero") else None
    return [Term(top, variance, refine) for top, variance in zip(tops, own, strict=True)]


def state(
    bench: Bench, layer: Layer, bottoms: Sequence[Term], before: Sequence[Term]
) -> list[Term]:
    """The layer's parameters as a forward pass leaves them, with their errors.

    Args:
        bench, layer, bottoms: as in ``forward``.
        before: the parameters that the pass begins with.
    """
    split = len(bottoms)
    inputs = [*bottoms, *before]
    after = bench.state(layer, [t.value for t in bottoms], [t.value for t in before])

    def run(changed: Sequence[Tensor]) -> Tensors:
        return bench.state(layer, changed[:split], changed[split:])

    lengths = [_sum_length(layer, [t.value for t in bottoms], value) for value in after]
    own = _variances(run, inputs, after, _labels(layer), lengths, inside=bench.in_order(layer))
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
    steady = frozenset(range(split[0])) if fact(layer, "chooses") else _labels(layer)
    inputs = [*_known(layer, bottoms), *map(Term, params), *present]
    own = _variances(run, inputs, base, steady, lengths, inside=bench.in_order(layer))
    terms = [
        None if value is None else Term(value, variance)
        for value, variance in zip(base, own, strict=True)
    ]
    if fact(layer, "kink_at_zero") and terms[0] is not None:
        terms[0] = replace(terms[0], refine=present[0].refine)
    return terms[: split[0]], terms[split[0] :]


def _known(layer: Layer, bottoms: Sequence[Term]) -> list[Term]:
    """The bottoms; labels without an error, which would make other labels of them."""
    labels = _labels(layer)
    return [Term(term.value) if i in labels else term for i, term in enumerate(bottoms)]


def _variances(
    run: Run,
    inputs: Sequence[Term],
    base: Tensors,
    steady: frozenset[int],
    lengths: Sequence[float],
    *,
    inside: AbstractContextManager[None] | None,
) -> list[Tensor | None]:
    """sigma^2 of each result: the layer's own rounding, and what the errors of its inputs bring.

    Args:
        run: computes the results from the inputs' values.
        inputs: bottoms, parameters, diffs of tops.
        base: the results.
        steady: inputs that no rounding touches.
        lengths: how many numbers are added for one element of each result.
        inside: where numbers on the way to the results are rounded too, what is entered for it.
    """
    values = [term.value for term in inputs]
    read = _rounding_responses(run, values, base, steady)
    computed: list[Tensor | None] = [None] * len(base)
    if inside is not None:
        with inside:
            computed = responses.to_rounding(run, values, base)
    variances = [
        None if result is None else _own_variance(result, one, other, length)
        for result, one, other, length in zip(base, read, computed, lengths, strict=True)
    ]
    if all(term.variance is None for term in inputs):
        return variances
    moves = responses.element_by_element(run, values, [term.sigma for term in inputs], base)
    return [
        one if one is None or move is None else one + move**2
        for one, move in zip(variances, moves, strict=True)
    ]


def _is_linear(layer: Layer) -> bool:
    """Every top element is a sum of products of a bottom's and a parameter's element."""
    return fact(layer, "sums_products") and len(layer.bottoms) == 1


def _labels(layer: Layer) -> frozenset[int]:
    """Bottoms that no rounding has touched: labels, sizes."""
    return frozenset(getattr(layer.op, "fixed_bottoms", ()))


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
    return Term(top, variance, responses.of_top(bench, layer, bottoms[0].value))


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
        refine = responses.of_diff(bench, layer, bottom, diff.value, param)
        terms.append(Term(value, variance, refine))
    return terms[: len(found[0])], terms[len(found[0]) :]


def _products(layer: Layer, bottom: Tensor, top: Tensor) -> float:
    """Products of one pass."""
    return float(layer.op.multiply_adds([tuple(bottom.shape)], [tuple(top.shape)]))  # type: ignore[attr-defined]


def _sum_length(layer: Layer, bottoms: Sequence[Tensor], result: Tensor) -> float:
    """How many numbers of one sign the layer may add for one element."""
    if not bottoms or fact(layer, "discrete"):
        return 1.0
    if fact(layer, "sums_products"):
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


def _own_variance(
    value: Tensor, read: Tensor | None, computed: Tensor | None, length: float
) -> Tensor:
    """sigma^2 of a result, from its responses to changes of what is read and what is computed."""
    peak = _finite_peak(value)
    sigma = (UNIT * peak).clamp(min=SMALLEST)
    if read is not None:
        sigma = torch.maximum(sigma, read)
    variance = sigma**2 * (OPERATIONS + length / 9)
    return variance if computed is None else torch.maximum(variance, computed**2)


def _finite_peak(value: Tensor) -> Tensor:
    """The largest magnitude below EXTREME; 0 where there is none."""
    magnitudes = value.abs()
    peak = magnitudes.max() if value.numel() else value.new_zeros(())
    if peak < EXTREME:
        return peak
    finite = magnitudes[magnitudes < EXTREME]
    return finite.max() if finite.numel() else value.new_zeros(())


def _rounding_responses(
    run: Run,
    inputs: Sequence[Tensor],
    base: Tensors,
    steady: frozenset[int],
) -> list[Tensor | None]:
    """The largest response, in each result, to relative changes of 1 u of the inputs."""
    amplitudes = [
        torch.zeros_like(value) if i in steady or is_whole(value) else UNIT * value.abs()
        for i, value in enumerate(inputs)
    ]
    return responses.largest(run, inputs, amplitudes, base)
