"""Makes the rows of the parity table: every recorded array with its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from caffe_port.parity import values
from caffe_port.parity.archives import Array
from caffe_port.parity.bench import HOST, Bench, Net, copy_as
from caffe_port.parity.calculators import Calculator, ExactCalculator, PlainCalculator
from caffe_port.parity.compare import Comparison, Exact, Verdict, compare, compare_equal
from caffe_port.parity.recording import Recording
from caffe_port.parity.tolerance import EXTREME, PER_ELEMENT, TIE_OF_PEAK
from caffe_port.parity.topology import Layer, Topology, fact
from caffe_port.parity.values import (
    Floats,
    PortRun,
    Values,
    array,
    check_inputs,
    has_backward,
    recorded_values,
    run_port,
    seeds,
)
from caffe_port.parity.walk import Result, Walk


@dataclass(frozen=True)
class Row:
    """One line of the parity table.

    Args:
        kind: "param" (weights used), "data", "after" (changed by the pass), "diff", "pdiff".
        name: the blob, or "<layer>/<i>" for parameters.
        layers: whose work it is: for data the layers that write it, for a diff those that read it.
        comparison: the verdict and its figures.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    comparison: Comparison


class RowMaker:
    """Makes the rows, one kind after the other.

    Caffe's run and the port's are each compared with the exact results of every layer on the
    numbers that the layer was given in that run.

    Args:
        net: the port; it is copied.
        recording: Caffe's run.
        topology: of the net.
        isolate: the port's run is one of single layers on Caffe's bottoms, not of the whole net.
        device: where the port runs; exact results are computed on the CPU.
    """

    def __init__(
        self,
        net: Net,
        recording: Recording,
        topology: Topology,
        isolate: bool,
        device: torch.device = HOST,
    ) -> None:
        check_inputs(net, recording)
        self.net, self.recording = net, recording
        self.topology, self.isolate, self.device = topology, isolate, device
        self.backward = has_backward(recording)
        self.exact = Bench(net, torch.float64)
        self.plain = PlainCalculator(Bench(net, torch.float32, device))
        self.caffe = recorded_values(recording)
        self.port: PortRun | None = None
        diffs = recording.diffs if self.backward else {}
        self.without_diff = frozenset(blob for blob in diffs if not diffs[blob].any())
        self.seeds = seeds(recording, topology) if self.backward else {}

    def rows(self) -> Iterator[Row]:
        yield from self.param_rows()
        if not self.isolate:
            copied = copy_as(self.net, torch.float32, self.device)
            self.port = run_port(copied, self.recording, self.topology, self.device)
        caffe = self.walk(ExactCalculator(self.exact), self.caffe, self.plain)
        if self.port is not None:
            port = self.walk(ExactCalculator(self.exact), self.port.values, None)
        else:
            port = self.walk(self.plain, Values(self.caffe.data, self.caffe.diffs), None)
        yield from self._of_walks(zip(caffe.forward(), port.forward(), strict=True))
        yield from self.unknown_data_rows()
        if self.backward:
            yield from self._of_walks(zip(caffe.backward(), port.backward(), strict=True))
            yield from self.unknown_diff_rows()

    def walk(self, calculator: Calculator, values: Values, filler: Calculator | None) -> Walk:
        return Walk(
            calculator,
            filler,
            self.topology,
            self.net.spec.phase,
            self.recording.inputs,
            values,
            self.seeds,
            frozenset(layer for layer, _ in self.recording.after),
            self.without_diff,
        )

    def param_rows(self) -> Iterator[Row]:
        """Weights must be Caffe's, bit for bit, or nothing else means anything."""
        known = {layer.name for layer in self.net.spec.layers}
        for (layer, index), caffe in self.recording.params.items():
            params = self.net.layer_params(layer) if layer in known else ()
            port = array(params[index]) if index < len(params) else None
            yield Row("param", f"{layer}/{index}", (layer,), compare_equal(port, caffe))

    def unknown_data_rows(self) -> Iterator[Row]:
        """What was fed, and what Caffe recorded but the net does not have."""
        for blob in self.recording.data:
            if not self.topology.writers.get(blob):
                port = self.recording.inputs.get(blob) if blob in self.topology.writers else None
                yield Row("data", blob, (), compare_equal(port, self.recording.data[blob]))

    def unknown_diff_rows(self) -> Iterator[Row]:
        for blob in self.recording.diffs:
            if blob not in self.topology.writers:
                reason = "the port has no such blob"
                yield Row("diff", blob, (), Comparison(Verdict.FAIL, reason))
        used = {layer.name for layer in self.topology.layers}
        for layer, index in self.recording.param_diffs:
            if layer not in used:
                failed = Comparison(Verdict.FAIL, "the port has no such parameter")
                yield Row("pdiff", f"{layer}/{index}", (layer,), failed)

    def _of_walks(self, results: Iterator[tuple[Result, Result]]) -> Iterator[Row]:
        for caffe, port in results:
            assert (caffe.kind, caffe.key) == (port.kind, port.key)
            name = caffe.key if isinstance(caffe.key, str) else "/".join(map(str, caffe.key))
            recorded = self._recorded(caffe)
            if recorded is None:
                comparison = self._not_recorded(caffe)
                if comparison is None:
                    continue
            else:
                comparison = self._comparison(caffe, port, recorded)
            yield Row(caffe.kind, name, self._layers(caffe), comparison)

    def _recorded(self, result: Result) -> Array | None:
        sources: dict[str, Mapping[Any, Array]] = {
            "data": self.recording.data, "diff": self.recording.diffs,
            "after": self.recording.after, "pdiff": self.recording.param_diffs,
        }  # fmt: skip
        source = sources[result.kind]
        if result.key not in source:
            return None
        # blobs and their diffs were just read by the walks, which keep them
        kept: Mapping[Any, Array] = {"data": self.caffe.data, "diff": self.caffe.diffs}.get(
            result.kind, source
        )
        return kept[result.key]

    def _layers(self, result: Result) -> tuple[str, ...]:
        if not isinstance(result.key, str):
            return (result.key[0],)
        writers = self.topology.writers[result.key]
        if result.kind == "data":
            return tuple(layer.name for layer in writers)
        readers = self.topology.readers.get(result.key, ()) + writers[1:]
        return tuple(layer.name for layer in readers)

    def _not_recorded(self, result: Result) -> Comparison | None:
        if result.kind != "data" or not isinstance(result.key, str):
            return None
        if self.topology.writers[result.key][0].type == "Split":
            return Comparison(Verdict.NOT_RECORDED, "a copy for readers Caffe's net had not")
        if self.recording.meta.complete:
            return Comparison(Verdict.FAIL, "Caffe, which kept every blob, has no such blob")
        return Comparison(Verdict.NOT_RECORDED, "not among the blobs chosen to be recorded")

    def _comparison(self, caffe: Result, port: Result, recorded: Array) -> Comparison:
        unknown = caffe if caffe.missing else port
        if unknown.missing:
            verdict = Verdict.RANDOM if unknown.random else Verdict.NOT_RECORDED
            return Comparison(verdict, unknown.missing)
        found = self._found(port, recorded)
        if caffe.kind == "diff" and caffe.term is None:
            return self._without_diff(found, recorded)
        exact = _exact(caffe, recorded)
        port_exact = exact
        if self.port is not None:
            port_exact = _exact(port, recorded)
        choice = self._choice(caffe)
        if choice is not None:
            result = self._compare_choice(choice, found, port_exact, recorded, exact)
        else:
            result = compare(found, port_exact, recorded, exact)
        return self._with_rows(
            caffe, self._with_distance(caffe, result, found, recorded), found, recorded
        )

    def _found(self, result: Result, recorded: Array) -> Floats | None:
        """What the port has."""
        if self.port is None:
            if result.term is None:
                return np.zeros_like(recorded)
            return array(result.term.value)
        run = self.port
        if isinstance(result.key, str):
            known = run.values.data if result.kind == "data" else run.values.diffs
            return known.get(result.key)
        return (run.after if result.kind == "after" else run.param_diffs).get(result.key)

    def _without_diff(self, found: Floats | None, recorded: Array) -> Comparison:
        if recorded.any():
            nothing = Exact(np.zeros(recorded.shape), np.zeros(recorded.shape))
            return compare(found, nothing, recorded, nothing)
        if self.isolate:
            return Comparison(Verdict.NOT_RECORDED, "Caffe computed no diff for it")
        if found is not None and found.any():
            reason = "Caffe computes no diff here (all 0), the port does"
            return Comparison(Verdict.FAIL, reason, recorded.shape)
        return compare_equal(found, recorded)

    def _choice(self, result: Result) -> Layer | None:
        """The layer, where the blob holds indices that it chose."""
        if result.kind != "data" or not isinstance(result.key, str):
            return None
        maker = self.topology.writers[result.key][0]
        return maker if values.is_choice(maker, maker.tops.index(result.key)) else None

    def _compare_choice(
        self, layer: Layer, found: Floats | None, port_exact: Exact, caffe: Array, exact: Exact
    ) -> Comparison:
        """Indices must be right for the very scores that they were chosen from."""
        scores = layer.bottoms[0]
        right = exact.value.astype(np.float32)
        tied = None
        if scores in self.caffe.variance:
            error = 2 * PER_ELEMENT * float(self.caffe.variance[scores].max().sqrt())
            chosen_from = array(self.caffe.filled[scores])
            tied = values.choice_ties(layer, chosen_from, right.reshape(caffe.shape), caffe, error)
        result = compare_equal(right, caffe, tied=tied)
        own = compare_equal(found, port_exact.value.astype(np.float32))
        if result.verdict is Verdict.PASS and own.verdict is Verdict.FAIL:
            result = own
        return result

    def _with_distance(
        self, result: Result, comparison: Comparison, found: Floats | None, recorded: Array
    ) -> Comparison:
        """Adds how far the port's blob is from Caffe's, and places that ties decided."""
        if found is None or found.size != recorded.size:
            return comparison
        found = found.reshape(recorded.shape)
        if self._choice(result) is not None:
            differing = int((found != recorded).sum())
            reason = comparison.reason
            if comparison.verdict is Verdict.PASS and differing:
                reason = f"{differing} places differ, all by scores equal within rounding"
                return replace(comparison, reason=reason, differing=differing, ties=differing)
            return comparison
        if isinstance(result.key, str) and result.key in self.topology.random_blobs(result.kind):
            return comparison
        finite = np.abs(recorded) < np.float32(EXTREME)
        gaps = np.abs(found.astype(np.float64) - recorded)[finite]
        comparison = replace(comparison, distance=float(gaps.max(initial=0.0)))
        if result.kind == "diff" and self.port is not None:
            return self._with_ties(str(result.key), comparison)
        return comparison

    def _with_rows(
        self, result: Result, comparison: Comparison, found: Floats | None, recorded: Array
    ) -> Comparison:
        """Says of rows that a layer chose, such as boxes, which values decide them."""
        if result.kind != "data" or not isinstance(result.key, str):
            return comparison
        maker = self.topology.writers[result.key][0]
        if found is None or not fact(maker, "chooses_rows") or not recorded.size:
            return comparison
        filled = [blob for blob in maker.bottoms if blob in self.caffe.variance]
        if comparison.verdict is Verdict.FAIL and filled:
            names = ", ".join(f"'{blob}'" for blob in filled)
            words = (
                f"{names} not recorded, and rows change where its values are equal within "
                "rounding: record it to compare them"
            )
            return replace(comparison, reason=f"{comparison.reason}; {words}")
        if comparison.verdict is not Verdict.PASS or found.size != recorded.size:
            return comparison
        width = recorded.shape[-1]
        gaps = np.abs(found.astype(np.float64) - recorded.reshape(found.shape)).reshape(-1, width)
        count = int((gaps.max(1) > TIE_OF_PEAK * np.abs(recorded).max()).sum())
        words = f"{count} rows differ, as values equal within rounding choose them"
        return replace(comparison, reason=words, ties=count) if count else comparison

    def _with_ties(self, blob: str, comparison: Comparison) -> Comparison:
        """Counts places where a layer takes another route in the port's run than in Caffe's."""
        assert self.port is not None
        found = values.routes_that_differ(
            self.plain.bench, self.topology, blob, self.caffe, self.port.values
        )
        if not found:
            return comparison
        words = f"{found.count} places decided by values equal within rounding, as {found.first}"
        reason = f"{comparison.reason}; {words}" if comparison.reason else words
        return replace(comparison, ties=found.count, reason=reason)


def _exact(result: Result, recorded: Array) -> Exact:
    term = result.term
    if term is None:
        zeros = np.zeros(recorded.shape)
        return Exact(zeros, zeros)
    return Exact(array(term.value), array(term.sigma), term.refine)
