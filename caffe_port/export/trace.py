"""Following the blobs of a net through the layers that are exported."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffe_port.plan import Node, Numbering
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Shape


@dataclass(frozen=True)
class Value:
    """One writing of a blob: which blob, by which layer, of what shape."""

    blob: str
    layer: str
    shape: Shape


def follow(spec: NetSpec) -> Trace:
    """Goes through the layers of a net in order."""
    trace = Trace()
    for layer in spec.layers:
        trace.add(layer)
    return trace


def _why_left_out(layer: LayerSpec) -> str:
    """Why a layer is not exported; "" where it is."""
    if layer.op.auto_top:
        return "a loss"
    if layer.op.kind == "sink":
        return "it only reports or writes files"
    if layer.type == "DenseCRF":
        return "run caffe_port.crf.DenseCRF on the scores instead"
    if layer.type == "MultiStageMeanfield":
        return "its lattice has no counterpart there; run the net here for the refined scores"
    return ""


@dataclass
class Trace:
    """The result of following a net's layers.

    Attributes:
        values: every writing of a blob.
        nodes: the layers that are kept.
        given: values of Input and data layers.
        left_out: one message per layer that is not kept.
    """

    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    _numbers: Numbering = field(default_factory=Numbering)
    _read: set[int] = field(default_factory=set)
    _labels: set[int] = field(default_factory=set)
    _results: set[int] = field(default_factory=set)
    _copies: set[str] = field(default_factory=set)

    def add(self, layer: LayerSpec) -> None:
        """Adds the next layer."""
        missing = [blob for blob in layer.bottoms if blob not in self._numbers.current]
        if layer.op.kind == "source":
            self._source(layer)
        elif why := _why_left_out(layer):
            self._leave_out(layer, why)
        elif missing:
            self._leave_out(layer, f"it reads '{missing[0]}', which is left out")
        elif layer.type == "Split":
            self._split(layer)
        else:
            self.nodes.append(self._connect(layer))
            self._read.update(self.nodes[-1].bottoms)

    def outputs(self) -> dict[str, int]:
        """Blobs of kept layers that no kept layer reads, without labels."""
        inner = self._read | self.given | (self._labels - self._results)
        return {
            blob: value
            for blob, value in self._numbers.current.items()
            if value not in inner and blob not in self._copies
        }

    def _source(self, layer: LayerSpec) -> None:
        self.given.update(self._connect(layer).tops)
        if layer.type != "Input":
            self.left_out.append(
                f"{_title(layer)} is left out: its tops that are read are inputs now"
            )

    def _leave_out(self, layer: LayerSpec, why: str) -> None:
        self.left_out.append(f"{_title(layer)} is left out: {why}")
        for i, blob in enumerate(layer.bottoms):
            if blob in self._numbers.current:
                # of a layer such as SegAccuracy both bottoms get no diff; the first is the score
                label = i > 0 and i in layer.op.fixed_bottoms
                (self._labels if label else self._results).add(self._numbers.current[blob])
        for blob in layer.tops:
            self._numbers.current.pop(blob, None)

    def _split(self, layer: LayerSpec) -> None:
        self._numbers.rename(layer)
        if layer.is_inserted:  # these names are not in the prototxt
            self._copies.update(layer.tops)

    def _connect(self, layer: LayerSpec) -> Node:
        shapes = zip(layer.tops, layer.top_shapes, strict=True)
        self.values += [Value(blob, layer.name, shape) for blob, shape in shapes]
        return self._numbers.connect(layer)


def _title(layer: LayerSpec) -> str:
    return f"layer '{layer.name}' ({layer.type})"
