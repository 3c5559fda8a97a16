"""NetSpec: the immutable description of a net, without tensors, dialects and torch."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from caffe_port.errors import NetError, escaped
from caffe_port.proto import UnknownField, caffe_pb2
from caffe_port.proto.dialects import Plain
from caffe_port.spec.ops import Op, Shape

if TYPE_CHECKING:
    from caffe_port.spec.side_effects import SideEffect

OpT = TypeVar("OpT", bound=Op)
OpClass: TypeAlias = type[OpT]  # LayerSpec has a field called type

_ENDS, _LETTERS = 4, 60  # a summary names so many inputs and outputs, by so much of a name


@dataclass(frozen=True)
class ParamSpec:
    """One parameter blob of a layer.

    Attributes:
        name: in the state dict, after the layer's name.
        shape: as Caffe stores it.
        lr_mult, decay_mult: factors on the solver's rate and decay.
        filler: how it starts, or None for zeros.
        owner: (layer, index) of the parameter whose storage this one shares, or None.
    """

    name: str
    shape: Shape
    lr_mult: float
    decay_mult: float
    filler: caffe_pb2.FillerParameter | None
    owner: tuple[str, int] | None


@dataclass(frozen=True)
class LayerSpec:
    """One layer, connected.

    Attributes:
        name: the prototxt's, unless another layer of the net has that one: see ``unique_names``.
        type, phase: as in the prototxt; phase is 'TRAIN' or 'TEST'.
        dialect: one of ``DIALECTS``, for the few layers that differ between them.
        bottoms, tops: blob names after splits; a top equal to a bottom is in place.
        op: its options.
        params: its parameter blobs.
        bottom_shapes, top_shapes: for the net's own input shapes.
        loss_weights: per top, 0 where it is no loss.
        propagate_down: per bottom, what the prototxt says (True where it says nothing, or where
            force_backward overrides it).
        bottom_needs_backward, needs_backward: what Caffe would propagate.
        extra: fields the schema does not have, by name; one given several times is a list.
        message: its prototxt.
    Examples:
        >>> from caffe_port import NetSpec
        >>> spec = NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> layer = spec.layer("conv1_1")
        >>> layer.type, layer.bottoms, layer.params[0].shape
        ('Convolution', ('data',), (8, 3, 3, 3))
    """

    name: str
    type: str
    phase: str
    dialect: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    op: Op
    params: tuple[ParamSpec, ...]
    bottom_shapes: tuple[Shape, ...]
    top_shapes: tuple[Shape, ...]
    loss_weights: tuple[float, ...]
    propagate_down: tuple[bool, ...]
    bottom_needs_backward: tuple[bool, ...]
    needs_backward: bool
    extra: Mapping[str, Plain | list[Plain]]
    message: caffe_pb2.LayerParameter = field(repr=False)

    def __deepcopy__(self, _memo: object) -> LayerSpec:
        return self  # nothing changes it; a net has hundreds, and is copied often

    def options(self, kind: OpClass[OpT]) -> OpT:
        """``op`` as an instance of the class that the layer's type has."""
        assert isinstance(self.op, kind)
        return self.op

    @property
    def in_place(self) -> bool:
        """Whether Caffe writes the first top over the first bottom."""
        return bool(self.tops) and self.tops[:1] == self.bottoms[:1]

    @property
    def shares_data(self) -> bool:
        """Whether its tops have the memory of its bottom in Caffe."""
        shared = self.op.shared_memory
        single = len(self.bottoms) == len(self.tops) == 1
        return shared == "data" or (shared == "data and diff" and single)

    @property
    def shares_diff(self) -> bool:
        """Whether its top has the diff of its bottom too, from set-up on."""
        return self.shares_data and self.op.shared_memory == "data and diff"

    @property
    def is_inserted(self) -> bool:
        """Whether it is a Split that ``insert_splits`` made, not one of the prototxt."""
        return self.type == "Split" and self.tops[0] == f"{self.prototxt_name}_0"

    @property
    def prototxt_name(self) -> str:
        """The name in the prototxt, in Caffe's log and in its files; other layers may share it."""
        return self.message.name

    @property
    def parameter_count(self) -> int:
        """Elements of its parameters, without those that another layer owns."""
        return sum(math.prod(param.shape) for param in self.params if param.owner is None)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass at the net's own input shapes."""
        return self.op.multiply_adds(self.bottom_shapes, self.top_shapes)

    def is_itemwise(self, count: int) -> bool:
        """Whether the layer computes ``count`` equal parts of a batch as it computes the whole."""
        bottoms = [_part(shape, count) for shape in self.bottom_shapes]
        tops = [_part(shape, count) for shape in self.top_shapes]
        if None in (*bottoms, *tops) or not bottoms or not self.op.is_itemwise(self.bottom_shapes):
            return False
        try:
            found = self.op.top_shapes([shape for shape in bottoms if shape is not None])
        except ValueError:
            return False
        return [tuple(shape) for shape in found][: len(tops)] == tops


def _part(shape: Shape, count: int) -> Shape | None:
    """The shape of one of ``count`` parts; None where there is none."""
    return (shape[0] // count, *shape[1:]) if shape and shape[0] % count == 0 else None


@dataclass(frozen=True)
class NetSpec:
    """A whole net in one phase.

    Attributes:
        name, phase, dialect: of the net.
        layers: in order, Split layers included.
        shapes: blob name -> shape; blobs in order of first appearance.
        inputs: tops of Input layers.
        sources: tops of all layers that make data: Input and data layers.
        outputs: blobs that no layer reads, sorted by name as Caffe lists them.
        force_backward: whether every blob gets a diff.
        level, stages, input_shapes: what the spec was built with.
        unknown: fields that the schema does not have.
        text: the prototxt it was made from, variables filled in.
    Examples:
        >>> from caffe_port import NetSpec
        >>> spec = NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> spec.outputs, spec.shapes["fc8_interp"]
        (('fc8_interp',), (1, 6, 161, 161))
    """

    name: str
    phase: str
    dialect: str
    layers: tuple[LayerSpec, ...]
    shapes: Mapping[str, Shape]
    inputs: tuple[str, ...]
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    force_backward: bool
    level: int
    stages: tuple[str, ...]
    input_shapes: Mapping[str, Shape]
    unknown: tuple[UnknownField, ...]
    text: str

    def __deepcopy__(self, _memo: object) -> NetSpec:
        return self  # nothing changes it

    def __repr__(self) -> str:
        return f"<NetSpec {self.summary}>"

    def _repr_html_(self) -> str:
        from caffe_port.reports.html import folded

        return folded(
            f"NetSpec {self.summary}",
            ("layer", "type", "bottoms", "tops", "shapes", "parameters", "multiply-adds"),
            self.layers,
            lambda x: (
                x.name, x.type, ", ".join(x.bottoms), ", ".join(x.tops),
                ", ".join(map(str, x.top_shapes)), x.parameter_count, x.multiply_adds,
            ),
        )  # fmt: skip

    @property
    def summary(self) -> str:
        """The net in one line: name, phase, layers, parameters, inputs and outputs."""
        ends = [
            ", ".join([f"{escaped(blob[:_LETTERS])} {self.shapes[blob]}" for blob in blobs[:_ENDS]])
            + (", .." if len(blobs) > _ENDS else "")
            for blobs in (self.sources, self.outputs)
        ]
        count = sum(layer.parameter_count for layer in self.layers)
        what = f"{escaped(self.name[:_LETTERS])!r} ({self.phase}, {self.dialect})"
        layers = f"{len(self.layers):,} layers, {count:,} parameters"
        return f"{what}: {layers}; {ends[0] or 'no input'} -> {ends[1] or 'no output'}"

    @functools.cached_property
    def side_effects(self) -> list[SideEffect]:
        """Where Caffe's numbers are not those of autograd; see ``find_side_effects``."""
        from caffe_port.spec.side_effects import find_side_effects

        return find_side_effects(self)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        phase: str = "TEST",
        variables: Mapping[str, str] | None = None,
        dialect: str | None = None,
        level: int = 0,
        stages: Sequence[str] = (),
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        allow_python_layers: bool = False,
        strict_text: bool = False,
    ) -> NetSpec:
        """Reads a prototxt; see ``build``, and ``caffe_port.load`` for ``strict_text``."""
        from caffe_port.proto import read_net_text
        from caffe_port.spec.rules import check_fields

        net = read_net_text(path, variables, dialect)
        check_fields(net, strict=strict_text, stacklevel=3)
        return cls.build(
            net.message, phase=phase, dialect=net.dialect, level=level, stages=stages,
            input_shapes=input_shapes, unknown=net.unknown, text=net.text,
            allow_python_layers=allow_python_layers,
        )  # fmt: skip

    @classmethod
    def build(
        cls,
        message: caffe_pb2.NetParameter,
        *,
        phase: str = "TEST",
        dialect: str = "bvlc",
        level: int = 0,
        stages: Iterable[str] = (),
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        unknown: Sequence[UnknownField] = (),
        text: str = "",
        allow_python_layers: bool = False,
    ) -> NetSpec:
        """Filters, splits and connects the layers of an upgraded net.

        Args:
            message: of generation V2 (``caffe_port.proto.read_net`` upgrades).
            phase: 'TRAIN' or 'TEST'.
            dialect: one of ``DIALECTS``.
            level, stages: what NetState holds besides the phase. As in Caffe, the stages of the
                net's own `state` are added, its phase and level are not.
            input_shapes: shapes that replace those of Input and data layers, by top.
            unknown: what the reader did not know, given to the layers as ``extra``.
            text: remembered with the spec.
            allow_python_layers: whether the code that Python layers name may be imported and run.
        Raises:
            NetError: blobs or names that do not fit together, or a required field that lacks.
            LayerError: a layer with wrong options or bottoms.
            UnsupportedLayerError: a type that is not known.
            UsageError: a phase other than TRAIN and TEST, or input_shapes for other blobs.
        """
        from caffe_port.spec.build import Setting, build
        from caffe_port.spec.ops.python_layer import python_layers

        typed: Any = message  # its stub lacks the method
        if lacking := typed.FindInitializationErrors():
            raise NetError(f"required fields are missing: {', '.join(lacking)}; set them")
        every_stage = tuple(dict.fromkeys((*message.state.stage, *stages)))
        setting = Setting(phase, dialect, level, every_stage, dict(input_shapes or {}))
        with python_layers(allow_python_layers):
            return build(cls, message, setting, unknown, text)

    @property
    def prototxt(self) -> str:
        """The text it was made from; of a spec without one, that of its message."""
        from google.protobuf import text_format

        return self.text or text_format.MessageToString(self.message())

    def settings(self) -> dict[str, str]:
        """What, besides the text, is needed to build this spec again; as strings."""
        shapes = {name: list(shape) for name, shape in self.input_shapes.items()}
        return {
            "phase": self.phase,
            "dialect": self.dialect,
            "level": str(self.level),
            "stages": json.dumps(list(self.stages)),
            "input_shapes": json.dumps(shapes),
        }

    def saved_message(self) -> caffe_pb2.NetParameter:
        """What Caffe writes into a caffemodel: the name, and the layers as their set-up left them.

        Source: BVLC/caffe net.cpp, Net::ToProto; loss_layer.cpp and batch_norm_layer.cpp,
        LayerSetUp.
        """
        net = caffe_pb2.NetParameter(name=self.name)
        for layer in self.layers:
            saved = net.layer.add()
            saved.CopyFrom(layer.message)
            saved.ClearField("blobs")
            if not saved.loss_weight and any(layer.loss_weights):
                saved.loss_weight.extend(layer.loss_weights)
            if layer.op.frozen_params:
                for i in range(len(saved.param), len(layer.params)):
                    saved.param.add(**({"lr_mult": 0} if layer.op.frozen(i) else {}))
        return net

    def message(self) -> caffe_pb2.NetParameter:
        """The net's prototxt: this phase's layers with their splits, without blobs."""
        net = caffe_pb2.NetParameter(name=self.name, force_backward=self.force_backward)
        net.state.phase = caffe_pb2.TRAIN if self.phase == "TRAIN" else caffe_pb2.TEST
        net.layer.extend(layer.message for layer in self.layers)
        for layer in net.layer:
            layer.ClearField("blobs")
        return net

    def layer(self, name: str) -> LayerSpec:
        """The layer of that name.

        Raises:
            KeyError: there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)
