"""The base class of ops (a layer type's options and shapes, without torch), and their registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

from caffe_port.proto import caffe_pb2

Shape = tuple[int, ...]
# (scale, shift) along one axis: place in the bottom = scale * place in the top + shift
AxisMap: TypeAlias = tuple[Fraction, Fraction]
IDENTITY: AxisMap = (Fraction(1), Fraction(0))


class Reads(IntEnum):
    """What a layer's backward pass in Caffe reads of a blob that its forward pass read or wrote."""

    NOTHING = 0  # forward has kept what backward needs
    SIGN = 1  # whether each element is above 0, for that element's diff
    ELEMENTS = 2  # each element, for that element's diff
    EVERYTHING = 3  # elements, also for the diffs of other elements


class Writes(IntEnum):
    """How a layer in place changes the elements to whose diffs it adds; others may be anything."""

    NOTHING = 0  # no element changes, with a diff or without
    SAME = 1  # those elements do not change
    SAME_SIGN = 2  # those above 0 stay above 0, and no other comes above it
    ANYTHING = 3

    def spoils(self, reads: Reads) -> bool:
        """Whether Caffe's backward pass of a layer that reads the blob then gives other diffs."""
        allowed = {Reads.SIGN: Writes.SAME_SIGN, Reads.ELEMENTS: Writes.SAME}
        return reads != Reads.NOTHING and self > allowed.get(reads, Writes.NOTHING)


@dataclass(frozen=True)
class Values:
    """The values of a blob that are valid for the layer that reads it.

    Attributes:
        low, high: the range, both ends included; None is no limit.
        whole: whether only whole numbers are valid (labels, indices, sizes).
        also: further single values, such as an ignored label.
    """

    low: float | None = None
    high: float | None = None
    whole: bool = False
    also: tuple[float, ...] = ()


@dataclass(frozen=True)
class ParamShape:
    """A parameter blob of a layer.

    Attributes:
        name: its name in the state dict, such as 'weight'.
        shape: its axes as Caffe stores them.
        filler: how it starts; None is all zeros.
        values: the valid ones.
    """

    name: str
    shape: Shape
    filler: caffe_pb2.FillerParameter | None = None
    values: Values = Values()


@dataclass(frozen=True)
class Op:
    """The options of one layer, and the facts that follow from them.

    Subclasses are frozen dataclasses. Their options are annotated; the class attributes below are
    set by plain assignment.

    Class attributes:
        type: the layer type, as `type: "..."` says it.
        bottoms, tops: smallest and largest number; None is unbounded.
        fields: names of fields of the layer that the schema does not have and ``read`` takes from
            ``extra``, such as 'my_param'; they are not reported as unknown.
        kind: 'plain'; 'source' makes data without bottoms; 'sink' only reports or writes, so that
            its bottoms still count as outputs of the net.
        auto_top: a top is added when none is given (Caffe's AutoTopBlobs, of loss layers).
        fixed_bottoms: bottoms that never get a diff (labels, sizes), by index.
        remark: what is refused here, or differs from upstream; shown in docs/LAYERS.md.
        frozen_params: parameters hold statistics that the forward pass may change; see ``frozen``.
        in_place: whether Caffe's layer works when its top is its bottom.
        option_ranges: option -> (low, high), where `parse` accepts numbers with which the layer's
            formula has no value or overflows; random tests draw from this range.
        sums_products: each top element is a sum of products of one bottom's and one parameter's
            elements (plus a bias); the verification bounds its rounding by these products.
        discrete: the tops are labels, counts or ratios of counts, which no rounding moves.
        chooses_rows: a comparison of the bottoms' values decides which rows the tops have, in what
            order; values that are equal within rounding may give other rows.
        draws: the tops are a random sample, in any phase.
        kink_at_zero: elementwise, keeps the sign, and its derivative changes at 0.
        chooses: a comparison of the bottoms' values decides which elements get the diffs.
        itemwise: each item of a batch is computed alone, and nothing is drawn at random, so
            that processes may share a batch; see ``is_itemwise``.
        keeps_places: height and width of the tops are those of the first bottom, place by place;
            see ``axis_map``.
        keeps_index: each value of the first bottom is the origin of the value at the same flat
            index of the first top; points are traced through such a layer without a rule.
        outside_torch: draws or computes outside of torch, so that torch.compile leaves it out.
        backward_bottoms, backward_tops: what Caffe's backward pass reads of each bottom and top;
            ``reads_bottom`` and ``reads_top`` where it depends on options.
        kept_bottoms: bottoms, by index, of which it reads nothing, because forward keeps a copy.
        shared_memory: what a top has in common with its bottom in Caffe: 'data', 'data and diff'
            (only where there is one bottom and one top), 'parameter' (with the layer's parameter),
            or nothing.

    Methods raise ValueError with what was found and expected; the caller adds layer and type.

    Examples:
        >>> from dataclasses import dataclass
        >>> import caffe_port as cp
        >>> @cp.register_op
        ... @dataclass(frozen=True)
        ... class SumOptions(cp.Op):
        ...     type = "SumOverChannels"
        ...     def top_shapes(self, bottoms):
        ...         n, _, *rest = bottoms[0]
        ...         return [(n, 1, *rest)]
    """

    type: ClassVar[str] = ""
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    fields: ClassVar[frozenset[str]] = frozenset()
    kind: ClassVar[str] = "plain"
    auto_top: ClassVar[bool] = False
    fixed_bottoms: ClassVar[frozenset[int]] = frozenset()
    remark: ClassVar[str] = ""
    frozen_params: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    option_ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    sums_products: ClassVar[bool] = False
    discrete: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    chooses_rows: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    kink_at_zero: ClassVar[bool] = False
    itemwise: ClassVar[bool] = False
    keeps_places: ClassVar[bool] = False
    keeps_index: ClassVar[bool] = False
    outside_torch: ClassVar[bool] = False
    backward_bottoms: ClassVar[Reads] = Reads.EVERYTHING
    backward_tops: ClassVar[Reads] = Reads.NOTHING
    kept_bottoms: ClassVar[frozenset[int]] = frozenset()
    shared_memory: ClassVar[Literal["", "data", "data and diff", "parameter"]] = ""

    @classmethod
    def has_backward(cls) -> bool:
        """Whether some bottom, or a parameter, gets a diff."""
        most = cls.bottoms[1]
        all_fixed = most is not None and set(range(most)) <= cls.fixed_bottoms
        learns = cls.params is not Op.params
        return cls.kind == "plain" and (learns or not all_fixed)

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Op:
        """Reads the options from a layer's message."""
        return cls()

    @classmethod
    def read(cls, layer: caffe_pb2.LayerParameter, extra: Mapping[str, object]) -> Op:
        """Reads the options, also from fields that the schema does not have.

        Args:
            layer: the layer's message.
            extra: its unknown fields, as ``LayerSpec.extra`` keeps them.
        """
        return cls.parse(layer)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of all tops this type can give, in order, for these bottoms."""
        return [bottoms[0]]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        """Parameter blobs, in Caffe's order."""
        return []

    def fitted(self, bottoms: Sequence[Shape]) -> Op:
        """The options for these bottoms, where some follow from their shapes."""
        return self

    def frozen(self, index: int) -> bool:
        """Whether parameter ``index`` is never learned: its lr_mult is 0 whatever is given."""
        return self.frozen_params

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        """The valid values of bottom ``index``; by default 0 and 1 for one without a diff."""
        return Values(0, 1, whole=True) if index and index in self.fixed_bottoms else Values()

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        """What the backward pass of Caffe's layer reads of a bottom, in place or not."""
        return Reads.NOTHING if index in self.kept_bottoms else self.backward_bottoms

    def reads_top(self, index: int, in_place: bool) -> Reads:
        """What the backward pass of Caffe's layer reads of a top, in place or not."""
        return self.backward_tops

    def writes(self, phase: str) -> Writes:
        """What the layer makes of its bottom where it works in place."""
        return Writes.ANYTHING

    def renews(self, index: int) -> bool:
        """Whether a source writes that top at each forward pass, not only at set-up."""
        return True

    def refilled(self, bottoms: Sequence[Shape]) -> list[str]:
        """Parameters that Caffe fills again, in order, without use, which costs random draws."""
        return []

    def is_itemwise(self, bottoms: Sequence[Shape]) -> bool:
        """Whether these options treat each item of a batch alone."""
        return self.itemwise

    def axis_map(self, bottom: Shape, i: int) -> AxisMap | None:
        """How places in a top relate to places in the first bottom, for the centres of windows.

        Args:
            bottom: (N, C, H, W), the shape of the first bottom.
            i: 0 for height, 1 for width.
        Returns:
            Scale and shift; None where places do not correspond.
        """
        return IDENTITY if self.keeps_places else None

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-adds of one forward pass."""
        return 0

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        """How many numbers are added for one top element, outside of sums of products.

        A loss adds one number for each label, or for each score where it has no labels.
        """
        if self.auto_top and bottoms:
            return math.prod(bottoms[1] if len(bottoms) > 1 else bottoms[0])
        return 1


def off_first_axis(op: Any, bottoms: Sequence[Shape]) -> bool:
    """``is_itemwise`` of ops that work along one axis: it is not the one of the items."""
    return op.axis is None or bool(op.axis % max(len(bottoms[0]), 1))


def above_zero(scale: float, shift: float) -> Values:
    """Values x for which shift + scale x is well above 0."""
    if scale == 0:
        return Values()
    edge = (0.05 - shift) / scale
    return Values(low=edge) if scale > 0 else Values(high=edge)


OpType = TypeVar("OpType", bound=type[Op])
_ops: dict[str, type[Op]] = {}


def register_op(op: OpType) -> OpType:
    """Class decorator: registers the op under its ``type``.

    Raises:
        ValueError: the type has no name or is registered already.
    Examples:
        >>> from dataclasses import dataclass
        >>> import caffe_port as cp
        >>> @cp.register_op
        ... @dataclass(frozen=True)
        ... class Halve(cp.Op):
        ...     type = "Halve"
    """
    from caffe_port.spec.ops import BUILTIN

    # the family of a built-in type may not have been imported yet
    built_in = op.type in BUILTIN and op.__module__ != f"caffe_port.spec.ops.{BUILTIN[op.type]}"
    if not op.type or op.type in _ops or built_in:
        raise ValueError(f"op type {op.type!r} is empty or registered already")
    _ops[op.type] = op
    return op


def registered_ops() -> dict[str, type[Op]]:
    """The ops registered so far, by type."""
    return _ops


def expect(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def axis_index(axis: int, dims: int) -> int:
    """Turns a possibly negative axis into an index (Caffe's CanonicalAxisIndex)."""
    expect(-dims <= axis < dims, f"axis {axis} is outside of a blob with {dims} axes")
    return axis % dims
