"""Makes the rows of the parity table: every recorded array with its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from caffe_port.parity import ties
from caffe_port.parity.compare import Comparison, Verdict, compare, compare_equal
from caffe_port.parity.isolate import run_isolated
from caffe_port.parity.meta import Array
from caffe_port.parity.recording import Recording
from caffe_port.parity.run import Net, Run, array, copy_as, run, tensor
from caffe_port.parity.tolerance import (
    LAYER,
    LAYER_PARAMETER_GRADIENT,
    NET,
    NET_PARAMETER_GRADIENT,
    TIE,
)
from caffe_port.parity.topology import Layer, Topology, is_random

Kind = Literal["param", "data", "after", "diff", "pdiff"]


@dataclass(frozen=True)
class Row:
    """One line of the parity table.

    Args:
        kind: "param" (weights used), "data", "after" (changed by the pass), "diff", "pdiff".
        name: the blob, or "<layer>/<i>" for parameters.
        layers: whose work it is: for data the layers that write it, for a diff those that read it.
        comparison: the verdict and its figures.
    """

    kind: Kind
    name: str
    layers: tuple[str, ...]
    comparison: Comparison


class Judge:
    """Makes the rows, one kind after the other."""

    def __init__(self, net: Net, recording: Recording, topology: Topology, isolate: bool) -> None:
        runner = run_isolated if isolate else run
        self.net = copy_as(net, torch.float32)
        self.phase = net.spec.phase
        self.recording, self.topology, self.isolate = recording, topology, isolate
        self.port: Run
        self.exact: Run
        self.runner = runner
        single = isolate or topology.is_single_layer
        self.tolerance = LAYER if single else NET
        self.gradient_tolerance = LAYER_PARAMETER_GRADIENT if single else NET_PARAMETER_GRADIENT
        self.e_caffe: dict[str, float] = {}

    def rows(self) -> Iterator[Row]:
        yield from self.param_rows()
        runs = [
            self.runner(copy_as(self.net, dtype), self.recording, self.topology, dtype)
            for dtype in (torch.float32, torch.float64)
        ]
        self.port, self.exact = runs
        yield from self.data_rows()
        yield from self.after_rows()
        yield from self.diff_rows()
        yield from self.pdiff_rows()

    def param_rows(self) -> Iterator[Row]:
        """Weights must be Caffe's, bit for bit, or nothing else means anything."""
        known = {layer.name for layer in self.net.spec.layers}
        for (layer, index), caffe in self.recording.params.items():
            params = self.net.layer_params(layer) if layer in known else ()
            port = array(params[index]) if index < len(params) else None
            yield Row("param", f"{layer}/{index}", (layer,), compare_equal(port, caffe))

    def data_rows(self) -> Iterator[Row]:
        for blob in self.topology.blobs:
            layers = self.topology.writers[blob]
            names = tuple(layer.name for layer in layers)
            yield Row("data", blob, names, self.judge_data(blob, layers))
        for blob in self.recording.data:
            if blob not in self.topology.writers:
                comparison = compare_equal(None, self.recording.data[blob])
                yield Row("data", blob, (), comparison)

    def judge_data(self, blob: str, layers: tuple[Layer, ...]) -> Comparison:
        if unjudged := self.unjudged(blob, layers):
            return unjudged
        port, caffe = self.port.data.get(blob), self.recording.data[blob]
        if not layers:
            return compare_equal(port, caffe)
        maker = layers[0]
        if ties.is_choice(maker, maker.tops.index(blob)):
            plain = compare_equal(port, caffe)
            if port is None or plain.differing in (None, 0):
                return plain
            return compare_equal(
                port, caffe, tied=self.tied_choices(maker, port.reshape(caffe.shape), caffe)
            )
        result = compare(port, self.exact.data.get(blob), caffe, self.tolerance)
        if result.verdict is Verdict.PASS:
            self.e_caffe[blob] = result.e_caffe or 0.0
        if result.verdict is Verdict.FAIL and maker.type in ties.COUNTING:
            return self.forgive_counts(maker, blob, result)
        return result

    def unjudged(self, blob: str, layers: tuple[Layer, ...]) -> Comparison | None:
        drawn = [layer.name for layer in layers if is_random(layer, self.phase)]
        if drawn or (not self.isolate and blob in self.topology.random_data):
            return Comparison(Verdict.RANDOM, _random_reason(drawn))
        if blob not in self.recording.data:
            if layers and layers[0].type == "Split":
                return Comparison(Verdict.NOT_RECORDED, "a copy for readers Caffe's net had not")
            if self.recording.meta.complete:
                return Comparison(Verdict.FAIL, "Caffe, which kept every blob, has no such blob")
            return Comparison(Verdict.NOT_RECORDED, "not among the blobs chosen to be recorded")
        if ("data", blob) in self.port.skipped:
            return Comparison(Verdict.NOT_RECORDED, self.port.skipped["data", blob])
        return None

    def tied_choices(self, layer: Layer, port: Array, caffe: Array) -> ties.Places | None:
        scores = layer.bottoms[0]
        if scores not in self.recording.data:
            return None
        error = 0.0 if self.isolate else TIE * self.e_caffe.get(scores, 0.0)
        return ties.choice_ties(layer, self.recording.data[scores], port, caffe, error)

    def forgive_counts(self, layer: Layer, blob: str, failed: Comparison) -> Comparison:
        """An accuracy may differ by scores that tie, if the layer itself counts as Caffe does."""
        scores, labels = layer.bottoms[:2]
        if self.isolate or scores not in self.recording.data or labels not in self.recording.data:
            return failed
        bottoms = [tensor(self.recording.data[b], torch.float32) for b in layer.bottoms]
        alone = array(self.net.run_layer(layer.name, bottoms)[layer.tops.index(blob)])
        tied = ties.count_ties(
            self.recording.data[scores],
            self.recording.data[labels],
            TIE * self.e_caffe.get(scores, 0.0),
        )
        if tied == 0 or compare_equal(alone, self.recording.data[blob]).differing != 0:
            return failed
        reason = f"differs by ties of Caffe's scores ({tied}); equal on Caffe's own bottoms"
        return replace(failed, verdict=Verdict.PASS, reason=reason, ties=tied, where=None)

    def after_rows(self) -> Iterator[Row]:
        for (layer, index), caffe in self.recording.after.items():
            key = (layer, index)
            if self.isolate:
                reason = "only a run of the whole net changes it as Caffe's did"
                result = Comparison(Verdict.NOT_RECORDED, reason)
            elif self.touches_random(layer):
                result = Comparison(Verdict.RANDOM, _random_reason([]))
            else:
                port, exact = self.port.after.get(key), self.exact.after.get(key)
                result = compare(port, exact, caffe, self.tolerance)
            yield Row("after", f"{layer}/{index}", (layer,), result)

    def diff_rows(self) -> Iterator[Row]:
        known = [blob for blob in reversed(self.topology.blobs) if blob in self.recording.diffs]
        extra = [blob for blob in self.recording.diffs if blob not in self.topology.writers]
        for blob in known + extra:
            readers = self.topology.readers.get(blob, ()) + self.topology.writers.get(blob, ())[1:]
            names = tuple(layer.name for layer in readers)
            yield Row("diff", blob, names, self.judge_diff(blob))

    def judge_diff(self, blob: str) -> Comparison:
        if not self.isolate and blob in self.topology.random_diffs:
            return Comparison(Verdict.RANDOM, _random_reason([]))
        if ("diff", blob) in self.port.skipped:
            return Comparison(Verdict.NOT_RECORDED, self.port.skipped["diff", blob])
        port, caffe = self.port.diffs.get(blob), self.recording.diffs[blob]
        if self.isolate and port is None and blob in self.topology.outputs:
            return Comparison(Verdict.NOT_RECORDED, "an output: its diff is set, not computed")
        result = compare(port, self.exact.diffs.get(blob), caffe, self.tolerance)
        if result.verdict is Verdict.FAIL and port is not None and port.any() and not caffe.any():
            return replace(result, reason="Caffe computes no diff here (all 0), the port does")
        return result

    def pdiff_rows(self) -> Iterator[Row]:
        for (layer, index), caffe in self.recording.param_diffs.items():
            name, key = f"{layer}/{index}", (layer, index)
            if ("pdiff", name) in self.port.skipped:
                result = Comparison(Verdict.NOT_RECORDED, self.port.skipped["pdiff", name])
            elif not self.isolate and self.touches_random(layer):
                result = Comparison(Verdict.RANDOM, _random_reason([]))
            else:
                port, exact = self.port.param_diffs.get(key), self.exact.param_diffs.get(key)
                result = compare(port, exact, caffe, self.gradient_tolerance)
            yield Row("pdiff", name, (layer,), result)

    def touches_random(self, name: str) -> bool:
        """A blob of the layer, or the diff of one of its tops, depends on a random draw."""
        for layer in self.topology.layers:
            if layer.name == name:
                blobs = {*layer.bottoms, *layer.tops}
                found = blobs & self.topology.random_data
                return bool(found or set(layer.tops) & self.topology.random_diffs)
        return False


def _random_reason(drawn: list[str]) -> str:
    if drawn:
        return f"layer '{drawn[0]}' draws random numbers"
    return "depends on a layer that draws random numbers"
