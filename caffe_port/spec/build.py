"""Builds the spec of a net from its message: rules, splits, shapes, parameters, backward flags.

Source: BVLC/caffe net.cpp, Init.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caffe_port.errors import (
    DialectWarning,
    LayerError,
    NetError,
    UsageError,
    option,
    shapes_option,
)
from caffe_port.proto import UnknownField, caffe_pb2
from caffe_port.proto.dialects import INT8, Plain, why_refused
from caffe_port.spec.coordinates import Alignment
from caffe_port.spec.netspec import LayerSpec, NetSpec
from caffe_port.spec.ops import BUILTIN, Op, ParamShape, Shape, op_class
from caffe_port.spec.ops.inputs import FedData
from caffe_port.spec.ops.python_layer import published, warn_of_published
from caffe_port.spec.rules import (
    filter_layers,
    included,
    is_fed,
    left_out,
    places,
    refuse_unknown,
    unique_names,
    unread,
)
from caffe_port.spec.sharing import Sharing, insert_splits, mark_backward

AUTOMATIC = "(automatic)"
_SHOWN = 3  # layers in one message
MAX_ELEMENTS = 2**31 - 1  # Caffe's own limits on a blob: its counts are 32-bit,
MAX_AXES = 32  # and blob.hpp, kMaxBlobAxes


@dataclass(frozen=True)
class Setting:
    """The arguments of ``NetSpec.build`` besides the message."""

    phase: str
    dialect: str
    level: int
    stages: tuple[str, ...]
    input_shapes: Mapping[str, Sequence[int]]

    @property
    def state(self) -> caffe_pb2.NetState:
        """The state that include and exclude rules test."""
        return caffe_pb2.NetState(phase=self.phase, level=self.level, stage=self.stages)

    def check(self) -> None:
        """Raises UsageError for a phase or a level that Caffe cannot have."""
        if self.phase not in ("TRAIN", "TEST"):
            raise UsageError(f"phase is {self.phase!r}; expected 'TRAIN' or 'TEST'")
        if not -(2**31) <= self.level < 2**31:
            raise UsageError(f"level is {self.level}; expected a 32-bit number")


def build(
    cls: type[NetSpec],
    message: caffe_pb2.NetParameter,
    setting: Setting,
    unknown: Sequence[UnknownField],
    text: str,
) -> NetSpec:
    """Does the work of ``NetSpec.build``."""
    setting.check()
    state = setting.state
    connected = insert_splits(
        filter_layers(message, state), lambda blob: _made_elsewhere(message, state, blob)
    )
    connected = [published(layer) for layer in connected]
    for layer in connected:
        if layer.type == "BatchNorm" and message.bn_stats_batch_size:
            layer.batch_norm_param.stats_batch_size = message.bn_stats_batch_size
    warn_of_published(connected)
    refuse_unknown(connected, setting.input_shapes)
    connector = _Connector(setting, unknown, places(message, state))
    for layer in connected:
        connector.add(layer)
    if connector.unused_shapes:
        names = ", ".join(sorted(connector.unused_shapes))
        raise UsageError(f"a shape is given for {names}, which no Input or data layer makes")
    _warn_of_crops(connector.alignment.doubtful)
    _warn_of_int8(unknown, connector.layers)
    shared = connector.sharing.settled(_named(connector.layers))
    layers = mark_backward(shared, message.force_backward)
    sources = [layer for layer in layers if layer.op.kind == "source"]
    return cls(
        name=message.name,
        phase=setting.phase,
        dialect=setting.dialect,
        layers=tuple(layers),
        shapes=connector.shapes,
        inputs=tuple(top for layer in sources if layer.type == "Input" for top in layer.tops),
        sources=tuple(top for layer in sources for top in layer.tops),
        outputs=tuple(sorted(connector.available)),
        force_backward=message.force_backward,
        level=setting.level,
        stages=setting.stages,
        input_shapes=connector.input_shapes,
        unknown=unread(message, unknown),
        text=text,
    )


def _made_elsewhere(message: caffe_pb2.NetParameter, state: caffe_pb2.NetState, blob: str) -> str:
    """For a message: the layers that make a blob in another state, and how to get them."""
    makers = [
        f"layer '{layer.name}' ({layer.type}) has {left_out(state, layer)}"
        for layer in message.layer
        if blob in layer.top and not included(state, layer)
    ]
    stages = "".join(f", stage '{stage}'" for stage in state.stage)
    where = f" in phase {caffe_pb2.Phase.Name(state.phase)}{stages}" if makers else ""
    return where + "".join(f"; {maker}" for maker in makers[:_SHOWN])


def _warn_of_int8(unknown: Sequence[UnknownField], layers: Sequence[LayerSpec]) -> None:
    names = {field.layer for field in unknown if field.field == INT8}
    found = [layer.name for layer in layers if layer.name in names]
    if found:
        message = (
            f"{len(found)} layers with {INT8}, such as '{found[0]}', are computed in float, as by "
            "the CAFFE engine of Intel's fork. Its MKL-DNN engine rounds them to int8"
        )
        warnings.warn(message, DialectWarning, stacklevel=4)


def _warn_of_crops(doubtful: Sequence[tuple[str, Sequence[int]]]) -> None:
    if doubtful:
        found = ", ".join(f"'{name}' {' x '.join(map(str, offset))}" for name, offset in doubtful)
        message = (
            "Crop layers without crop_param are cut at 0, as BVLC's Caffe does. The forks of HED, "
            f"DSS, CRF-RNN and U-Net cut them where the layers before say: {found}. For HED and "
            f"DSS give {option('dialect', 'hed')}, for other nets of those forks "
            f"{option('dialect', 'longjon')}; crop_param {{}} says that 0 is meant"
        )
        warnings.warn(message, DialectWarning, stacklevel=4)


def _named(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    """The layers with names of their own; see ``unique_names``.

    Raises:
        NetError: two layers of one name own parameters, which weight files address by name.
    """
    owners: set[str] = set()
    for layer in layers:
        if any(param.owner is None for param in layer.params):
            if layer.name in owners:
                raise NetError(
                    f"two layers with parameters are named '{layer.name}'; weight files address "
                    "layers by name: rename one of the two"
                )
            owners.add(layer.name)
    names = unique_names([la.name for la in layers], [bool(la.params) for la in layers])
    return [
        layer if layer.name == name else replace(layer, name=name)
        for layer, name in zip(layers, names, strict=True)
    ]


class _Connector:
    """Connects layers one by one, as Caffe's Init does."""

    def __init__(
        self, setting: Setting, unknown: Sequence[UnknownField], places: Mapping[str, list[int]]
    ) -> None:
        self.setting = setting
        self.places = {name: iter(taken) for name, taken in places.items()}
        self.layers: list[LayerSpec] = []
        self.shapes: dict[str, Shape] = {}
        self.available: set[str] = set()
        self.sharing = Sharing()
        self.alignment = Alignment(setting.dialect)
        self.input_shapes = {k: tuple(int(d) for d in v) for k, v in setting.input_shapes.items()}
        self.unused_shapes = set(self.input_shapes)
        self.unknown: dict[tuple[str, int], list[UnknownField]] = {}
        for field in unknown:
            self.unknown.setdefault((field.layer, field.nth), []).append(field)

    def add(self, message: caffe_pb2.LayerParameter) -> None:
        if not message.HasField("phase"):
            message.phase = caffe_pb2.TRAIN if self.setting.phase == "TRAIN" else caffe_pb2.TEST
        fields = self._fields(message.name)
        kind = self._kind(message, fields)
        bottoms, tops = tuple(message.bottom), self._tops(message, kind)
        extra = _plain(fields)
        try:
            if message.type in BUILTIN and kind is not FedData:
                _refuse_fork_fields(fields)
            _check_counts(kind, len(bottoms), len(tops))
            bottom_shapes = tuple(self.shapes[blob] for blob in bottoms)
            placed = list(zip(bottoms, bottom_shapes, strict=True))
            op = self.alignment.settled(
                message, kind.read(message, extra).fitted(bottom_shapes), placed
            )
            top_shapes = self._top_shapes(op, tops, bottom_shapes)
            shapes = _params(op, bottom_shapes)
            frozen = [op.frozen(i) for i in range(len(shapes))]
            params = self.sharing.params(message, len(self.layers), shapes, frozen)
            weights = _loss_weights(message, kind, len(tops))
            propagate = _propagate_down(message)
        except (ValueError, OverflowError) as error:
            raise LayerError(message.name, message.type, str(error)) from error
        self.alignment.add(op, placed, tops)
        self._connect(message, bottoms, tops, top_shapes)
        self.layers.append(
            LayerSpec(
                name=message.name,
                type=message.type,
                phase=self.setting.phase,
                dialect=self.setting.dialect,
                bottoms=bottoms,
                tops=tuple(tops),
                op=op,
                params=params,
                bottom_shapes=bottom_shapes,
                top_shapes=tuple(top_shapes),
                loss_weights=weights,
                propagate_down=propagate,
                bottom_needs_backward=propagate,
                needs_backward=True,
                extra=extra,
                message=message,
            )
        )

    def _kind(self, message: caffe_pb2.LayerParameter, fields: Sequence[UnknownField]) -> type[Op]:
        own = any(why_refused(field) is not None for field in fields)
        return FedData if is_fed(message, self.input_shapes, own) else op_class(message.type)

    def _tops(self, message: caffe_pb2.LayerParameter, kind: type[Op]) -> list[str]:
        """The layer's tops, with those that Caffe adds to a loss."""
        tops = list(message.top)
        while kind.auto_top and len(tops) < kind.tops[0]:
            # Caffe gives all of them this name; blob names here are unique
            more = (f"{AUTOMATIC} of {message.name}", f"{AUTOMATIC} 2 of {message.name}")
            tops.append(next(t for t in (AUTOMATIC, *more) if t not in {*self.shapes, *tops}))
        return tops

    def _fields(self, layer: str) -> list[UnknownField]:
        """The fields of the next layer of that name that the schema does not have."""
        return self.unknown.get((layer, next(self.places.get(layer, iter(())), 0)), [])

    def _top_shapes(self, op: Op, tops: Sequence[str], bottoms: Sequence[Shape]) -> list[Shape]:
        if op.kind == "source" and all(top in self.input_shapes for top in tops):
            shapes = [self.input_shapes[top] for top in tops]
        else:
            try:
                shapes = op.top_shapes(bottoms)[: len(tops)]
            except ValueError as error:
                raise ValueError(f"{error}{self._or_shapes(op, tops)}") from error
            if op.kind == "source":
                shapes = [self.input_shapes.get(t, s) for t, s in zip(tops, shapes, strict=True)]
        self.unused_shapes.difference_update(tops if op.kind == "source" else ())
        for top, shape in zip(tops, shapes, strict=True):
            _check_size(f"top '{top}'", shape)
        return shapes

    def _or_shapes(self, op: Op, tops: Sequence[str]) -> str:
        """For a message about a data layer: the option that gives the shapes that it lacks."""
        names = [top for top in tops if top not in self.input_shapes and top[:1] != AUTOMATIC[:1]]
        given = shapes_option(names) if op.kind == "source" and names else ""
        return f"; or give shapes: {given}" if given else ""

    def _connect(
        self,
        message: caffe_pb2.LayerParameter,
        bottoms: Sequence[str],
        tops: Sequence[str],
        shapes: Sequence[Shape],
    ) -> None:
        self.available.difference_update(bottoms)
        for i, (top, shape) in enumerate(zip(tops, shapes, strict=True)):
            in_place = i < len(bottoms) and bottoms[i] == top
            if top in self.shapes and not in_place:
                raise NetError(
                    f"layer '{message.name}' ({message.type}): top '{top}' is made by an earlier "
                    "layer too; only the bottom at the same place may be written again"
                )
            self.shapes[top] = shape
            if not top.startswith(AUTOMATIC):  # Caffe does not list it as an output
                self.available.add(top)


def _plain(fields: Sequence[UnknownField]) -> dict[str, Plain | list[Plain]]:
    """Fields by name; one given several times is a list."""
    given: dict[str, list[Plain]] = {}
    for field in fields:
        given.setdefault(field.field, []).append(field.value)
    return {name: found[0] if len(found) == 1 else found for name, found in given.items()}


def _refuse_fork_fields(fields: Sequence[UnknownField]) -> None:
    for field in fields:
        if (why := why_refused(field)) is not None:
            raise ValueError(f"line {field.line}: {why}" if field.line else why)


def _params(op: Op, bottoms: Sequence[Shape]) -> list[ParamShape]:
    shapes = op.params(bottoms)
    for shape in shapes:
        _check_size(f"parameter '{shape.name}'", shape.shape)
    return shapes


def _check_size(what: str, shape: Shape) -> None:
    if len(shape) > MAX_AXES:
        raise ValueError(f"{what} would have {len(shape)} axes; Caffe allows {MAX_AXES}")
    count = 1
    for size in shape:
        count *= size
    # one axis alone may be too long too, in a blob that another one makes empty
    if min(shape, default=0) < 0 or max(count, *shape, 0) > MAX_ELEMENTS:
        raise ValueError(
            f"{what} would have shape {shape}, {count} elements; Caffe allows {MAX_ELEMENTS}"
        )


def _check_counts(kind: type[Op], bottoms: int, tops: int) -> None:
    for what, count, (low, high) in (("bottom", bottoms, kind.bottoms), ("top", tops, kind.tops)):
        if count < low or (high is not None and count > high):
            allowed = f"{low}" if high == low else f"{low} to {high}" if high else f"{low} or more"
            raise ValueError(f"{count} {what} blobs; expected {allowed}")


def _loss_weights(
    message: caffe_pb2.LayerParameter, kind: type[Op], tops: int
) -> tuple[float, ...]:
    """1 for the only top of a loss layer unless set (layer.hpp, SetLossWeights)."""
    given = tuple(message.loss_weight)
    if given:
        if len(given) != tops:
            raise ValueError(f"{len(given)} loss_weight for {tops} tops; expected one each or none")
        return given
    loss = kind.auto_top and kind.kind != "source"
    if loss and tops > 1:
        raise ValueError(f"a loss with {tops} tops and no loss_weight; expected one per top")
    return ((1.0,) if loss else (0.0,)) * tops


def _propagate_down(message: caffe_pb2.LayerParameter) -> tuple[bool, ...]:
    given = tuple(message.propagate_down)
    if given and len(given) != len(message.bottom):
        raise ValueError(
            f"{len(given)} propagate_down for {len(message.bottom)} bottoms; expected one each"
        )
    return given or (True,) * len(message.bottom)
