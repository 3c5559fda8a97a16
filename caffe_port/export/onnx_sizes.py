"""ONNX: which sizes are free, and arithmetic with sizes that are known only when the file runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from caffe_port.export.graph import Graph
from caffe_port.spec.ops import Shape

if TYPE_CHECKING:
    from caffe_port.export.onnx_code import OnnxCode

#: value -> axis -> what it depends on: one of ``KINDS`` of the inputs, or the number of items that
#: a Filter has 'selected'
FreeAxes = Mapping[str, Mapping[int, str]]
#: sizes of the inputs, and by how much each is enlarged to see whether the net takes other sizes
_STEPS = {
    "batch": (1,),
    "steps": (1,),
    "streams": (1,),
    "height": (32, 64, 1),
    "width": (32, 64, 1),
}
KINDS = tuple(_STEPS)
_RECURRENT = ("LSTM", "RNN", "LSTMUnit")


class FixedSizeError(ValueError):
    """A layer can be written for known sizes only."""


def free_axes(graph: Graph, kinds: Collection[str] = KINDS) -> FreeAxes:
    """Which axes of each value change when the inputs have another size.

    A size is free if the net takes others with the same parameters and numbers of axes. Height and
    width are those of the inputs with four axes. The inputs of a net with recurrent layers have
    steps and streams in place of a batch.

    Args:
        graph: what is written.
        kinds: which of ``KINDS`` may be free.
    """
    found: dict[str, dict[int, str]] = {value: {} for value in graph.shapes}
    for kind in kinds:
        axes = _input_axes(graph, kind)
        if len({graph.shapes[blob][axis : axis + 1] for blob, axis in axes.items()} - {()}) != 1:
            continue
        tries = (_shapes_with(graph, axes, step) for step in _STEPS[kind])
        _mark(graph, next((shapes for shapes in tries if shapes), {}), kind, found)
    if any(node.layer.type == "Filter" for node in graph.nodes):
        _mark(graph, _shapes_with(graph, {}, selected=1), "selected", found)
    return found


def _input_axes(graph: Graph, kind: str) -> dict[str, int]:
    """At which axis each input has this size."""
    if any(node.layer.type in _RECURRENT for node in graph.nodes):
        if kind in ("batch", "steps", "streams"):
            return _sequence_axes(graph, kind)
    elif kind in ("steps", "streams"):
        return {}
    elif kind == "batch":
        return dict.fromkeys(graph.inputs, 0)
    images = [b for b in graph.inputs if len(graph.shapes[b]) == 4]
    # (N, 2, 1, 1) is not an image, but perhaps the sizes of images
    images = [b for b in images if graph.shapes[b][2:] != (1, 1)] or images
    return dict.fromkeys(images, 2 if kind == "height" else 3)


def _sequence_axes(graph: Graph, kind: str) -> dict[str, int]:
    """The axis of steps or of streams in each input of a net with recurrent layers."""
    found: dict[str, int] = {}
    for node in (node for node in graph.nodes if node.layer.type in _RECURRENT):
        steps, streams = node.layer.bottom_shapes[0][:2]
        static = node.bottoms[2:3] if getattr(node.layer.op, "static", False) else ()
        unrolled = node.layer.type == "LSTMUnit"
        for blob in graph.inputs:
            shape = graph.shapes[blob]
            sequence = blob in node.bottoms[:2] or shape[:2] == (steps, streams)
            state = blob in node.bottoms and (unrolled or blob not in (*node.bottoms[:2], *static))
            if kind == "streams" and (sequence or state) and blob not in static:
                found[blob] = 1
            elif kind == "streams" and (blob in static or shape[:1] == (streams,)):
                found.setdefault(blob, 0)
            elif kind == "steps" and sequence and not state and blob not in static:
                found[blob] = 0
    return found


def _mark(
    graph: Graph, shapes: Mapping[str, Shape], kind: str, found: dict[str, dict[int, str]]
) -> None:
    for value, shape in shapes.items():
        for i, (size, other) in enumerate(zip(graph.shapes[value], shape, strict=True)):
            if size != other:
                found[value][i] = kind if kind == "selected" else found[value].get(i, kind)


def _shapes_with(
    graph: Graph, axes: Mapping[str, int], step: int = 0, selected: int = 0
) -> dict[str, Shape]:
    """Every value's shape for larger inputs; {} where the net does not take them.

    Args:
        graph: the net.
        axes: the inputs that are larger, and where.
        step: by how much.
        selected: how many more items each Filter selects.
    """
    shapes = {blob: graph.shapes[blob] for blob in graph.inputs}
    for blob, axis in axes.items():
        shape = shapes[blob]
        if axis >= len(shape):
            return {}
        shapes[blob] = (*shape[:axis], shape[axis] + step, *shape[axis + 1 :])
    found = shapes_for(graph, shapes, selected)
    same = all(len(shape) == len(graph.shapes[value]) for value, shape in found.items())
    return found if same else {}


def shapes_for(graph: Graph, inputs: Mapping[str, Shape], selected: int = 0) -> dict[str, Shape]:
    """Every value's shape for these inputs; {} where the net does not take them.

    Args:
        graph: the net.
        inputs: the shape of each input.
        selected: how many more items each Filter selects.
    """
    shapes = dict(inputs)
    for node in graph.nodes:
        op, bottoms = node.layer.op, [shapes[value] for value in node.bottoms]
        try:
            tops = op.top_shapes(bottoms)[: len(node.tops)]
            params = [param.shape for param in op.params(bottoms)]
        except ValueError:
            return {}
        if params != [param.shape for param in node.layer.params]:
            return {}
        if node.layer.type == "Filter":
            tops = [(shape[0] + selected, *shape[1:]) for shape in tops]
        shapes |= zip(node.tops, tops, strict=True)
    return shapes


class Size:
    """The size of an axis: a number, or what nodes compute when the file runs.

    Args:
        code: what the nodes are added to.
        value: for the net's own inputs.
        make: adds the nodes, and gives the name of a vector with the size as its only element;
            None if the size is always ``value``.
    """

    def __init__(self, code: OnnxCode, value: int, make: Callable[[], str] | None = None) -> None:
        self._code, self.value, self._make, self._name = code, value, make, ""

    @property
    def is_free(self) -> bool:
        """Whether other inputs change it."""
        return self._make is not None

    @property
    def vector(self) -> str:
        """The name of a vector with the size as its only element."""
        if not self._name:
            self._name = self._make() if self._make else self._code.integers([self.value])
        return self._name

    def fixed(self, why: str) -> int:
        """The number.

        Raises:
            FixedSizeError: it is free.
        """
        if self.is_free:
            raise FixedSizeError(why)
        return self.value

    def always(self, value: int) -> Size:
        """A number in place of this size."""
        return Size(self._code, value)

    def equals(self, other: Size) -> bool:
        """Whether they are the same for all inputs, as far as can be seen here."""
        known = not (self.is_free or other.is_free)
        return self is other or (known and self.value == other.value)

    def _with(self, type: str, other: Size | int, value: int) -> Size:
        other = other if isinstance(other, Size) else Size(self._code, other)
        if not self.is_free and not other.is_free:
            return Size(self._code, value)
        made = other
        return Size(self._code, value, lambda: self._code.op(type, self.vector, made.vector))

    def __add__(self, other: Size | int) -> Size:
        number = _number(other)
        return self if number == 0 else self._with("Add", other, self.value + _value(other))

    def __sub__(self, other: Size | int) -> Size:
        number = _number(other)
        return self if number == 0 else self._with("Sub", other, self.value - _value(other))

    def __mul__(self, other: Size | int) -> Size:
        number = _number(other)
        if isinstance(other, Size) and not self.is_free and self.value == 1:
            return other
        return self if number == 1 else self._with("Mul", other, self.value * _value(other))

    def __floordiv__(self, other: int) -> Size:
        """The quotient of a size that is not negative, rounded down."""
        return self if other == 1 else self._with("Div", other, self.value // other)

    def at_least(self, other: int) -> Size:
        """The larger of the two."""
        return self._with("Max", other, max(self.value, other))

    def at_most(self, other: Size) -> Size:
        """The smaller of the two."""
        return self._with("Min", other, min(self.value, other.value))


def _value(size: Size | int) -> int:
    return size.value if isinstance(size, Size) else size


def _number(size: Size | int) -> int | None:
    """What a size is always; None if it is free."""
    if isinstance(size, Size):
        return None if size.is_free else size.value
    return size


def product(sizes: Sequence[Size]) -> Size | int:
    """The product of sizes; 1 of none."""
    free = [size for size in sizes if size.is_free]
    number = math.prod(size.value for size in sizes if not size.is_free)
    if not free:
        return number
    whole = free[0]
    for size in free[1:]:
        whole = whole * size
    return whole * number


def vector(code: OnnxCode, sizes: Sequence[Size | int]) -> str:
    """The name of a vector of sizes."""
    parts: list[str] = []
    known: list[int] = []
    for size in sizes:
        number = _number(size)
        if number is not None:
            known.append(number)
            continue
        assert isinstance(size, Size)
        parts += [code.integers(known)] if known else []
        parts.append(size.vector)
        known = []
    parts += [code.integers(known)] if known or not parts else []
    return parts[0] if len(parts) == 1 else code.op("Concat", *parts, axis=0)


def reshape(code: OnnxCode, x: str, new: Sequence[Size | int], old: Sequence[Size] = ()) -> str:
    """Reshapes, without nodes for sizes where at most one is computed.

    Args:
        code: what the node is added to.
        x: what is reshaped.
        new: its new sizes; -1 at most once, for what is left.
        old: its present sizes: one that stays at its axis is written as 0, which keeps it.
    """
    found: list[Size | int] = []
    for i, size in enumerate(new):
        number = _number(size)
        if number is not None:
            found.append(number)
        else:
            found.append(0 if i < len(old) and old[i] is size else size)
    open_ = [i for i, size in enumerate(found) if isinstance(size, Size)]
    if open_ and -1 not in found:
        found[open_[-1]] = -1
    return code.op("Reshape", x, vector(code, found))
