"""The graph that is exported, the table of rules by layer type, and how blobs are followed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from caffe_port import plan
from caffe_port.errors import LayerError, UnsupportedLayerError, UsageError, counted, option
from caffe_port.plan import Numbering, needed
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
    if layer.type == "DetectionOutput":
        return "decode its bottoms with caffe_port.layers.boxes, or run the net here for the boxes"
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
    nodes: list[plan.Node] = field(default_factory=list)
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

    def latest(self, blobs: Collection[str]) -> dict[str, int]:
        """The last value of each of these blobs.

        Raises:
            UsageError: a layer that is left out makes one of them.
        """
        for blob in sorted(blobs):
            if blob not in self._numbers.current:
                raise UsageError(f"'{blob}' is not a blob of the layers that can be exported")
        return {blob: self._numbers.current[blob] for blob in sorted(blobs)}

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
                label = i > 0 and i in layer.op.fixed_bottoms and layer.type != "DetectionOutput"
                (self._labels if label else self._results).add(self._numbers.current[blob])
        for blob in layer.tops:
            self._numbers.current.pop(blob, None)

    def _split(self, layer: LayerSpec) -> None:
        self._numbers.rename(layer)
        if layer.is_inserted:  # these names are not in the prototxt
            self._copies.update(layer.tops)

    def _connect(self, layer: LayerSpec) -> plan.Node:
        shapes = zip(layer.tops, layer.top_shapes, strict=True)
        self.values += [Value(blob, layer.name, shape) for blob, shape in shapes]
        return self._numbers.connect(layer)


def _title(layer: LayerSpec) -> str:
    return f"layer '{layer.name}' ({layer.type})"


class ExportWarning(UserWarning):
    """A part of the net that cannot be exported and is left out."""


@dataclass(frozen=True)
class Node:
    """One layer, connected by values.

    Attributes:
        layer: its spec.
        bottoms, tops: names of values.
    """

    layer: LayerSpec
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The layers of a net that are exported, connected by values.

    A blob that layers in place write again is several values: the last has the blob's name, the
    earlier ones are called `<blob>/<layer>`.

    Attributes:
        name: of the net.
        nodes: in order, without Splits, whose tops are other names of one value.
        inputs: blobs the caller gives, which are values too.
        outputs: blob -> value.
        shapes: value -> shape, for the net's own input shapes.
        blobs: value -> blob.
        left_out: one message per part of the net that is missing here.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape]
    blobs: Mapping[str, str]
    left_out: tuple[str, ...]


def make_graph(spec: NetSpec, keep: Collection[str] | None = None) -> Graph:
    """The part of a net that is exported.

    Left out are layers that only read files, train, score or write: data layers (their tops become
    inputs), losses, metrics, MatWrite, DenseCRF, and layers that read their results. Their bottoms
    become outputs, except labels and what is computed for labels only.

    Args:
        spec: the net.
        keep: the blobs that become outputs, and what they need is all that is exported; None for
            those that no exported layer reads.
    Raises:
        UsageError: the net is of phase TRAIN, nothing is left of it, or a blob in ``keep`` is
            made by a layer that is left out.
    """
    if spec.phase != "TEST":
        raise UsageError(
            f"the net is of phase {spec.phase}; only phase TEST can be exported, where nothing is "
            f"drawn at random: load it with {option('phase', 'TEST')}"
        )
    trace = follow(spec)
    outputs = trace.outputs() if keep is None else trace.latest(keep)
    if not outputs:
        raise UsageError("nothing of the net can be exported: no layer that is kept has an output")
    nodes = needed(trace.nodes, outputs.values())
    names = _names(trace)
    used = {value for node in nodes for value in node.bottoms}
    return Graph(
        name=spec.name,
        nodes=tuple(
            Node(n.layer, tuple(names[v] for v in n.bottoms), tuple(names[v] for v in n.tops))
            for n in nodes
        ),
        inputs=tuple(names[value] for value in sorted(trace.given & used)),
        outputs={blob: names[value] for blob, value in outputs.items()},
        shapes={names[i]: value.shape for i, value in enumerate(trace.values)},
        blobs={names[i]: value.blob for i, value in enumerate(trace.values)},
        left_out=tuple(trace.left_out),
    )


def _names(trace: Trace) -> dict[int, str]:
    """Value -> name; all names differ, whatever blobs and layers are called."""
    last = {value.blob: i for i, value in enumerate(trace.values)}
    names = {i: blob for blob, i in last.items()}
    taken = set(last)
    for i, value in enumerate(trace.values):
        if i not in names:
            name = f"{value.blob}/{value.layer}"
            while name in taken:
                name += "'"
            taken.add(name)
            names[i] = name
    return names


FAMILIES = ("filters", "neurons", "shapes")
Writer = TypeVar("Writer")
Result = TypeVar("Result")


class Rules(Generic[Writer, Result]):
    """Layer type -> function (node, writer) that writes it.

    A rule raises ValueError where it cannot express a layer's options; the layer's name is added
    here.

    Args:
        output: the kind of output, for messages.
        other: advice where a type has no rule, for messages.
        modules: those with the rules of the built-in types, imported when one is needed.
    """

    def __init__(self, output: str, other: str, modules: Sequence[str]) -> None:
        self._output, self._other, self._modules = output, other, tuple(modules)
        self._rules: dict[str, Callable[[Node, Writer], Result]] = {}

    def add(
        self, *types: str
    ) -> Callable[[Callable[[Node, Writer], Result]], Callable[[Node, Writer], Result]]:
        """Decorator: makes a function the rule of these types.

        Raises:
            ValueError: one of them has a rule already.
        """

        def decorate(
            rule: Callable[[Node, Writer], Result],
        ) -> Callable[[Node, Writer], Result]:
            if rule.__module__ not in self._modules:
                self._load()
            for type in types:
                if type in self._rules:
                    raise ValueError(f"layer type '{type}' has a rule for {self._output} already")
                self._rules[type] = rule
            return rule

        return decorate

    def _load(self) -> None:
        for module in self._modules:
            importlib.import_module(module)

    def types(self) -> list[str]:
        """The types with a rule, sorted."""
        self._load()
        return sorted(self._rules)

    def check(self, graph: Graph) -> None:
        """Checks that every layer has a rule.

        Raises:
            UnsupportedLayerError: one has none; its message counts all such types.
        """
        self._load()
        lacking = [node.layer for node in graph.nodes if node.layer.type not in self._rules]
        if lacking:
            types = [layer.type for layer in lacking]
            also = f". All that cannot: {counted(types)}" if len(types) > 1 else ""
            raise UnsupportedLayerError(
                lacking[0].name,
                lacking[0].type,
                f"this type cannot be written as {self._output}{also}. {self._other} "
                "docs/export.md lists the types that can",
            )

    def apply(self, node: Node, writer: Writer) -> Result:
        """Runs the rule of a node.

        Raises:
            LayerError: the layer's options cannot be expressed.
        """
        try:
            return self._rules[node.layer.type](node, writer)
        except ValueError as error:
            message = f"cannot be written as {self._output}: {error}"
            raise LayerError(node.layer.name, node.layer.type, message) from error
