"""Walks through a net layer by layer, each layer on what a run gave it, so errors do not add up.

A layer gets the bottoms of the run, and on the way back the run's diffs of its tops. Layers that
work in place share one array in Caffe, so the blobs between them were never kept: they are computed
here from the blob's first writer. Where a run did not keep a blob, the port fills it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from caffe_port.parity.bench import Bench, Net
from caffe_port.parity.calculators import Calculator, ExactCalculator, PlainCalculator
from caffe_port.parity.rounding import Term, total_of
from caffe_port.parity.tolerance import FILLED, REMEMBERED, TIE_OF_PEAK
from caffe_port.parity.topology import Layer, Topology, fact, is_random, study
from caffe_port.parity.values import Floats, Values, tensor

Kind: TypeAlias = Literal["data", "after", "diff", "pdiff"]
Key: TypeAlias = "str | tuple[str, int]"


class UnknownBlobError(Exception):
    """A blob that is needed is not known, or depends on a random draw."""


@dataclass(frozen=True)
class Result:
    """What one blob or parameter should be.

    Args:
        kind, key: which one.
        term: its value and error; None where nothing computes it, which leaves zeros.
        missing: why it is not known; "" where it is.
        random: it is a random draw.
    """

    kind: Kind
    key: Key
    term: Term | None
    missing: str = ""
    random: bool = False


@dataclass
class Walk:
    """One way through the net.

    Args:
        calculator: what computes the layers.
        filler: what fills in blobs that the run did not keep; None for the calculator itself.
        topology: of the net.
        phase: of the net.
        inputs: blobs that were fed.
        values: the run; unknown blobs are added to it.
        seeds: diffs set on outputs.
        changed: layers whose parameters the forward pass changes.
        without_diff: blobs for which Caffe computed no diff.
    """

    calculator: Calculator
    filler: Calculator | None
    topology: Topology
    phase: str
    inputs: Mapping[str, Floats]
    values: Values
    seeds: dict[str, Floats]
    changed: frozenset[str]
    without_diff: frozenset[str]
    _sums: dict[str, list[Term]] = field(default_factory=dict)
    _between: dict[str, list[Term]] = field(default_factory=dict)
    _errors: dict[str, list[Tensor | None]] = field(default_factory=dict)
    _users: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    _gradients: dict[int, tuple[int, Term | None, str]] = field(default_factory=dict)
    _blocked: dict[str, str] = field(default_factory=dict)
    _unfit: dict[str, str] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer in self.topology.layers:
            for index, param in enumerate(self._own(layer)):
                self._users.setdefault(id(param), []).append((layer.name, index))

    # forward

    def forward(self) -> Iterator[Result]:
        """Every blob that a layer writes, and the parameters that the pass changes."""
        changing: dict[str, list[Term] | str] = {}
        for blob in self.topology.blobs:
            writers = self.topology.writers[blob]
            if not writers:
                continue
            changed = [
                layer for layer in writers
                if layer.name in self.changed and layer.tops[0] == blob
            ]  # fmt: skip
            try:
                terms, bottoms = self._written(blob, self.calculator)
            except UnknownBlobError as error:
                drawn = any(is_random(layer, self.phase) for layer in writers)
                yield Result("data", blob, None, str(error), drawn)
                changing.update((layer.name, str(error)) for layer in changed)
                continue
            self._check_size(blob, terms[-1].value)
            if terms[-1].value.numel() <= REMEMBERED:
                self._errors[blob] = [term.variance for term in terms]
            yield Result("data", blob, terms[-1])
            for layer in changed:
                if self._shares(layer):
                    changing[layer.name] = bottoms[layer.name]
                else:
                    yield from self._states(layer, bottoms[layer.name])
            if blob not in self.values.data:
                self._fill(blob, terms[-1])
        yield from self._shared_states(changing)

    def _own(self, layer: Layer) -> list[Tensor]:
        """The layer's parameters; those that are shared are the same objects."""
        return list(self.calculator.bench.net.layer_params(layer.name))

    def _shares(self, layer: Layer) -> bool:
        own = self._own(layer)
        return any(len(self._users[id(param)]) > 1 for param in own)

    def _states(self, layer: Layer, bottoms: list[Term]) -> Iterator[Result]:
        for index, term in enumerate(self._state(layer, bottoms, {})):
            yield Result("after", (layer.name, index), term)

    def _state(self, layer: Layer, bottoms: list[Term], left: Mapping[int, Term]) -> list[Term]:
        """The parameters after the layer, from what layers that share them have left."""
        own = self._own(layer)
        before = [left.get(id(param), Term(param.detach())) for param in own]
        return self.calculator.state(layer, bottoms, before)

    def _shared_states(self, changing: Mapping[str, list[Term] | str]) -> Iterator[Result]:
        """Of layers that share parameters: each adds to what the one before it has left.

        Args:
            changing: layer -> its bottoms, or why they are not known.
        """
        left: dict[int, Term] = {}
        unknown: dict[int, str] = {}
        found = [layer for layer in self.topology.layers if layer.name in changing]
        for layer in found:
            own = self._own(layer)
            bottoms = changing[layer.name]
            reason = next((unknown[id(p)] for p in own if id(p) in unknown), "")
            if isinstance(bottoms, str) or reason:
                unknown.update((id(p), reason or str(bottoms)) for p in own)
                continue
            after = self._state(layer, bottoms, left)
            left.update(zip(map(id, own), after, strict=True))
        for layer in found:
            for index, param in enumerate(self._own(layer)):
                reason = unknown.get(id(param), "")
                term = None if reason else left[id(param)]
                yield Result("after", (layer.name, index), term, reason)

    def _written(
        self, blob: str, calculator: Calculator
    ) -> tuple[list[Term], dict[str, list[Term]]]:
        """The blob after each of its writers, and what each of these was given.

        For a fed blob it begins with what was fed.
        """
        terms: list[Term] = []
        given: dict[str, list[Term]] = {}
        writers = self.topology.writers[blob]
        if blob in writers[0].bottoms:
            terms.append(Term(self._tensor(self.inputs[blob])))
        for layer in writers:
            if is_random(layer, self.phase):
                raise UnknownBlobError(f"layer '{layer.name}' draws random numbers")
            bottoms = [terms[-1] if b == blob else self.seen(b) for b in layer.bottoms]
            terms.append(calculator.forward(layer, bottoms)[layer.tops.index(blob)])
            given[layer.name] = bottoms
        return terms, given

    def _check_size(self, blob: str, computed: Tensor) -> None:
        """What the run has in another size cannot be given to a layer."""
        self._sizes[blob] = computed.numel()
        if blob in self.values.data and self.values.data[blob].size != computed.numel():
            found, wanted = list(self.values.data[blob].shape), list(computed.shape)
            self._unfit[blob] = f"blob '{blob}' has shape {found}, expected {wanted}"

    def _fill(self, blob: str, term: Term) -> None:
        if self.filler is None:
            self.values.filled[blob] = term.value
            return
        value: Term | None = None
        for layer in self.topology.writers[blob]:
            bottoms = [
                value if b == blob and value is not None else Term(self.seen(b).value.float())
                for b in layer.bottoms
            ]
            value = self.filler.forward(layer, bottoms)[layer.tops.index(blob)]
        assert value is not None
        self.values.filled[blob] = value.value
        if term.variance is not None:
            self.values.variance[blob] = FILLED**2 * term.variance

    def _tensor(self, values: Floats) -> Tensor:
        return tensor(values, self.calculator.bench.dtype)

    def seen(self, blob: str) -> Term:
        """The blob as its readers see it."""
        if blob in self._unfit:
            raise UnknownBlobError(self._unfit[blob])
        if blob in self.values.data:
            return Term(self._tensor(self.values.data[blob]))
        if blob in self.values.filled:
            value = self.values.filled[blob].to(self.calculator.bench.dtype)
            return Term(value, self.values.variance.get(blob))
        raise UnknownBlobError(f"blob '{blob}' was not recorded and cannot be computed")

    # backward

    def backward(self) -> Iterator[Result]:
        """The diff of every blob, from the outputs back, and the parameters' gradients."""
        self._gradients = {key: (len(users), None, "") for key, users in self._users.items()}
        for layer in reversed(self.topology.layers):
            in_place = [top for top in dict.fromkeys(layer.tops) if top in layer.bottoms]
            for top in dict.fromkeys(layer.tops):
                if top not in in_place:
                    yield from self._finish(top)
            try:
                for blob in in_place:
                    self._pass_through(layer, blob)
                if not in_place:
                    self._pass_back(layer)
            except UnknownBlobError as error:
                self._unknown(layer, str(error))
            yield from self._done(layer)
        for blob in self.topology.blobs:
            first = self.topology.writers[blob][:1]
            if not first or blob in first[0].bottoms:
                yield from self._finish(blob)

    def _pass_back(self, layer: Layer) -> None:
        wanted = [self._wants(layer, i) for i in range(len(layer.bottoms))]
        diffs = [self._known_diff(top) for top in layer.tops]
        for top, diff in zip(layer.tops, diffs, strict=True):
            if diff is None and top in self._blocked:
                raise UnknownBlobError(self._blocked[top])
        if all(diff is None for diff in diffs):
            return
        if is_random(layer, self.phase):
            if not any(diff is not None and bool(diff.value.any()) for diff in diffs):
                return  # 0, whatever was drawn
            raise UnknownBlobError(f"layer '{layer.name}' draws random numbers")
        bottoms = [self.seen(bottom) for bottom in layer.bottoms]
        found, gradients = self.calculator.backward(layer, bottoms, diffs, wanted)
        for bottom, term in zip(layer.bottoms, found, strict=True):
            if term is not None:
                self._sums.setdefault(bottom, []).append(term)
        self._add_gradients(layer, gradients)

    def _finish(self, blob: str) -> Iterator[Result]:
        """The diff of what the blob's first writer made: the sum of what came back."""
        terms = self._sums.pop(blob, [])
        chain = self._chain(blob)
        if blob in self._blocked:
            drawn = any(is_random(layer, self.phase) for layer in chain)
            yield Result("diff", blob, None, self._blocked[blob], drawn)
            return
        if blob in self.seeds and not chain:
            terms.append(Term(self._tensor(self.seeds[blob])))
        total = None if blob in self.without_diff else total_of(terms)
        yield Result("diff", blob, total)
        if blob not in self.values.diffs and total is not None:
            self.values.filled_diffs[blob] = total.value.float()
            if total.variance is not None:
                self.values.diff_variance[blob] = FILLED**2 * total.variance

    def _pass_through(self, layer: Layer, blob: str) -> None:
        """Passes the diff of a blob back through a layer that works in place on it."""
        if blob in self._blocked:
            raise UnknownBlobError(self._blocked[blob])
        chain, terms = self._chain(blob), self._sums.pop(blob, [])
        place = [other.name for other in chain].index(layer.name)
        if blob in self.seeds and layer.name == chain[-1].name:
            terms.append(Term(self._tensor(self.seeds[blob])))
        total = total_of(terms)
        if total is None or blob in self.without_diff:
            return
        if layer.name == chain[-1].name:
            self._between[blob] = self._before(blob, chain)
        before, decides = self._between[blob][place], fact(layer, "kink_at_zero")
        if decides and all(later.type == "Dropout" for later in chain[place + 1 :]):
            seen = self.seen(blob).value.reshape(before.value.shape)
            before = replace(before, value=_on_side_of(before.value, seen))
        own = Term(before.value, None if decides else before.variance)
        bottoms = [own if b == blob else self.seen(b) for b in layer.bottoms]
        diffs = [total if top == blob else self._known_diff(top) for top in layer.tops]
        wanted = [b == blob or self._wants(layer, i) for i, b in enumerate(layer.bottoms)]
        back, gradients = self.calculator.backward(layer, bottoms, diffs, wanted)
        self._add_gradients(layer, gradients)
        for bottom, term in zip(layer.bottoms, back, strict=True):
            if term is not None:
                self._sums.setdefault(bottom, []).append(term)

    def _before(self, blob: str, chain: tuple[Layer, ...]) -> list[Term]:
        """The blob before each layer of the chain."""
        # what passes a diff on or not, by its own sign, needs no errors
        exact = all(fact(layer, "kink_at_zero") or layer.type == "Dropout" for layer in chain)
        known = None if exact else self._errors.get(blob)
        plain = exact or known is not None
        calculator = PlainCalculator(self.calculator.bench) if plain else self.calculator
        terms, _ = self._written(blob, calculator)
        if known is not None:
            terms = [replace(term, variance=v) for term, v in zip(terms, known, strict=True)]
        return terms[-len(chain) - 1 : -1]

    def _chain(self, blob: str) -> tuple[Layer, ...]:
        writers = self.topology.writers[blob]
        return writers[0 if writers and blob in writers[0].bottoms else 1 :]

    def _wants(self, layer: Layer, index: int) -> bool:
        needed = getattr(layer, "bottom_needs_backward", None)
        bottom = layer.bottoms[index]
        if bottom in self.without_diff:
            return False
        return True if needed is None or bottom in self.values.diffs else bool(needed[index])

    def _known_diff(self, blob: str) -> Term | None:
        if blob in self.without_diff:
            return None
        if blob in self.values.diffs:
            known = self.values.diffs[blob]
            if known.size != self._sizes.get(blob, known.size):
                raise UnknownBlobError(f"the diff of '{blob}' has another size than the blob")
            return Term(self._tensor(known))
        if blob in self.values.filled_diffs:
            value = self.values.filled_diffs[blob].to(self.calculator.bench.dtype)
            return Term(value, self.values.diff_variance.get(blob))
        return None

    # parameters

    def _add_gradients(self, layer: Layer, gradients: list[Term | None]) -> None:
        own = self._own(layer)
        for param, term in zip(own, gradients, strict=True):
            left, known, missing = self._gradients[id(param)]
            total = total_of([t for t in (known, term) if t is not None])
            self._gradients[id(param)] = (left, total, missing)

    def _unknown(self, layer: Layer, reason: str) -> None:
        for bottom in layer.bottoms:
            self._blocked.setdefault(bottom, reason)
        for param in self._own(layer):
            left, known, _ = self._gradients[id(param)]
            self._gradients[id(param)] = (left, known, reason)

    def _done(self, layer: Layer) -> Iterator[Result]:
        """Gradients to which no further layer adds."""
        for param in self._own(layer):
            left, total, missing = self._gradients[id(param)]
            self._gradients[id(param)] = (left - 1, total, missing)
            if left == 1:
                for key in self._users[id(param)]:
                    yield Result("pdiff", key, None if missing else total, missing)


def _on_side_of(value: Tensor, seen: Tensor) -> Tensor:
    """The value, moved to the side of 0 on which the run saw it; only where it is nearly 0."""
    differs = (value > 0) != (seen > 0)
    near = value.abs() <= TIE_OF_PEAK * value.abs().max() if value.numel() else differs
    return torch.where(differs & near, seen, value)


def of_whole_net(net: Net, inputs: Mapping[str, Floats]) -> dict[str, Term]:
    """Every blob with the error that a float32 run of the whole net may have there.

    For a run that cannot be looked into, such as another engine's. Errors add up layer by layer:
    each blob is filled in by the port, whose own rounding counts too. The values are exact results
    on filled-in numbers; compare with the net in float64 instead.

    Args:
        net: it is copied.
        inputs: blob name -> float32 array.
    """
    topology = study(net.spec, frozenset(inputs))
    exact = ExactCalculator(Bench(net, torch.float64))
    plain = PlainCalculator(Bench(net, torch.float32))
    values, phase = Values(dict(inputs), {}), net.spec.phase
    walk = Walk(exact, plain, topology, phase, inputs, values, {}, frozenset(), frozenset())
    return {str(result.key): result.term for result in walk.forward() if result.term is not None}
