"""Draws nets of several layers: chains, layers in place, shared parameters, several losses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import Op, Shape, Values, known_types, op_class
from tools.differential.accepted import SHARED_OTHERWISE, may_share_memory
from tools.differential.drafts import Draft, DraftLayer
from tools.differential.layers import Drawn, LayerDrawer
from tools.differential.options import Option, Schema, layer_of, options_of, unknown_options

_BOXES = "it needs boxes that fit one another, not any numbers; it has recordings of its own"
_LEFT_OUT = {
    "AutoCrop": "its offset follows from the layers before",
    "ConvolutionDepthwise": "its channels follow from its bottom",
    "DetectionEvaluate": _BOXES, "DetectionOutput": _BOXES, "MultiBoxLoss": _BOXES,
    "Proposal": _BOXES, "Input": "every net has it", "Python": "it runs code of the user's",
    "RPNAnchorTarget": _BOXES, "RPNProposal": _BOXES, "RPNProposalTarget": _BOXES,
    "BoxOutput": _BOXES, "DetectionLoss": _BOXES, "BoxAnnotatorOHEM": _BOXES,
    "SmoothL1LossOHEM": "it needs a loss_weight for each top, which is drawn for nets only",
}  # fmt: skip
_RECENT = 4  # number of the last blobs, which are read most often


@dataclass
class Catalogue:
    """The layer types that are drawn.

    Attributes:
        kinds: type -> (its Op, its options).
        left_out: known types that are not drawn, and why.
        unknown_options: of drawn types, options that only that Caffe has, as 'block.field'.
    """

    kinds: dict[str, tuple[type[Op], list[Option]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unknown_options: list[str] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """All of them, sorted."""
        return sorted(self.kinds)


def catalogue_of(
    schema: Schema, theirs: Sequence[str] | None, only: Sequence[str] = ()
) -> Catalogue:
    """What can be drawn for a Caffe.

    Args:
        schema: of that Caffe, as ``other_side.describe`` gives it.
        theirs: its layer types; None if it does not list them.
        only: the types wanted; all without any.
    """
    found = Catalogue()
    for type in known_types():
        kind = op_class(type)
        if reason := _why_not(type, kind, theirs):
            found.left_out[type] = reason
        elif not only or type in only:
            found.kinds[type] = (kind, options_of(kind, schema))
    unknown = {name for kind, _ in found.kinds.values() for name in unknown_options(kind, schema)}
    found.unknown_options = sorted(unknown)
    if not found.kinds:
        wanted = f"--types {','.join(only)}: " if only else ""
        raise UsageError(f"{wanted}no layer type is left that both sides have and that is drawn")
    return found


def _why_not(type: str, kind: type[Op], theirs: Sequence[str] | None) -> str:
    if type in _LEFT_OUT:
        return _LEFT_OUT[type]
    if theirs is not None and type not in theirs:
        return "this Caffe does not have it"
    if kind.kind == "source" or (kind.kind == "sink" and kind.tops == (0, 0)):
        return "it makes data, or writes files"
    return ""


@dataclass(eq=False)
class _Blob:
    name: str
    shape: Shape
    reads: int = 0
    is_input: bool = False
    is_view: bool = False  # Caffe keeps it in the memory of another blob


class NetDrawer:
    """Adds layers to a net, one by one.

    Args:
        catalogue: what may be drawn.
        rng: of the case.
    """

    def __init__(self, catalogue: Catalogue, rng: random.Random) -> None:
        self.kinds: Mapping[str, tuple[type[Op], list[Option]]] = catalogue.kinds
        self.types = catalogue.types
        self.rng = rng
        self.layers: list[DraftLayer] = []
        self.blobs: list[_Blob] = []  # numbers that further layers may read
        self.losses = 0
        self._labelled = False  # a layer reads labels or the like
        self._inputs = 0

    def draft(self) -> Draft:
        """The net as it is now: its backward pass is forced, or leads from losses to parameters.

        Where it is forced, Caffe ends the process for layers that read labels or indices; their
        nets get a parameter behind each input and a weight on each output instead.
        """
        rng = self.rng
        if "Bias" not in self.kinds or rng.random() < (0.05 if self._labelled else 0.7):
            return Draft(tuple(self.layers), rng.random() < (0.4 if self.losses else 0.9))
        layers = list(self._learning()) if rng.random() < 0.9 else self.layers
        return Draft(tuple(layers), rng.random() < (0.02 if self._labelled else 0.2))

    def _learning(self) -> Iterator[DraftLayer]:
        """The layers, with a Bias after each input of numbers, and weights on the outputs."""
        numbers = {blob.name for blob in self.blobs if blob.is_input and blob.shape}
        read = {name for layer in self.layers for name in layer.message.bottom}
        for layer in self.layers:
            moved, message = layer.changed()
            for names in [] if layer.is_input else [message.bottom, message.top]:
                for i, name in enumerate(names):
                    if name in numbers:
                        names[i] = f"{name}_moved"
            if not (layer.is_input or message.loss_weight) and self._ends(layer, read):
                message.loss_weight.extend(self._weight() for _ in message.top)
            yield moved
            if layer.is_input and message.top[0] in numbers:
                yield self._moved(message.top[0])

    def _ends(self, layer: DraftLayer, read: set[str]) -> bool:
        kind = self.kinds[layer.message.type][0]
        unread = bool(layer.message.top) and read.isdisjoint(layer.message.top)
        return unread and kind.has_backward() and not kind.auto_top

    def _moved(self, name: str) -> DraftLayer:
        message = caffe_pb2.LayerParameter(
            name=f"{name}_moved", type="Bias", bottom=[name], top=[f"{name}_moved"]
        )
        message.bias_param.axis = message.bias_param.num_axes = 0
        return DraftLayer(message)

    def add(self, type: str) -> bool:
        """Adds a layer of a type, and at times a second one that shares its parameters.

        Returns:
            whether one was found that the port accepts; otherwise nothing was added.
        """
        kind, options = self.kinds[type]
        first = None if self.rng.random() < 0.25 else self._recent()
        for shape in ([first.shape] if first else []) + [None] * 3:
            drawn = LayerDrawer(kind, options, self.rng).draw(shape)
            if drawn.accepted:
                break
        else:
            return False
        bottoms = self._bottoms(kind, drawn, first)
        self._append(kind, drawn, bottoms)
        rarely = type in SHARED_OTHERWISE
        if drawn.params and self.rng.random() < (0.02 if rarely else 0.25):
            self._share(kind, drawn, bottoms)
        return True

    def add_refused(self, type: str) -> None:
        """Adds a layer that the port refuses, on inputs of its own."""
        kind, options = self.kinds[type]
        drawer = LayerDrawer(kind, options, self.rng)
        drawn = drawer.refused()
        names = [self._input(shape).name for shape in drawn.bottoms]
        tops = [f"y{i}" for i in range(drawer.top_count)]
        layer, message = layer_of(type, drawn.settings, names, tops).changed()
        message.name = f"{type.lower()}{len(self.layers)}"
        self.layers.append(layer)

    def _recent(self) -> _Blob | None:
        if not self.blobs:
            return None
        few = self.blobs[-_RECENT:] if self.rng.random() < 0.8 else self.blobs
        return self.rng.choice(few)

    def _bottoms(self, kind: type[Op], drawn: Drawn, first: _Blob | None) -> list[_Blob]:
        """A blob for every bottom: one that is there, or a new input."""
        names = [f"b{i}" for i in range(len(drawn.bottoms))]
        tops = [f"t{i}" for i in range(len(drawn.tops))]
        layer = layer_of(kind.type, drawn.settings, names, tops)
        op = kind.read(layer.message, layer.extra)
        found: list[_Blob] = []
        for index, shape in enumerate(drawn.bottoms):
            free = op.bottom_values(index, drawn.bottoms) == Values()
            self._labelled |= bool(kind.fixed_bottoms) or (index > 0 and not free)
            fitting = [blob for blob in self.blobs if blob.shape == shape] if free else []
            if index == 0 and first in fitting:
                assert first is not None
                found.append(first)
            elif fitting and self.rng.random() < 0.7:
                found.append(self.rng.choice(fitting))
            else:
                found.append(self._input(shape, real=free))
        return found

    def _input(self, shape: Shape, real: bool = True) -> _Blob:
        name, self._inputs = f"x{self._inputs}", self._inputs + 1
        message = caffe_pb2.LayerParameter(name=name, type="Input", top=[name])
        message.input_param.shape.add().dim.extend(shape)
        self.layers.append(DraftLayer(message))
        blob = _Blob(name, shape, is_input=True)
        if real:
            self.blobs.append(blob)
        return blob

    def _append(
        self,
        kind: type[Op],
        drawn: Drawn,
        bottoms: Sequence[_Blob],
        params: Sequence[caffe_pb2.ParamSpec] = (),
    ) -> None:
        rng, name = self.rng, f"{kind.type.lower()}{len(self.layers)}"
        tops = [name if i == 0 else f"{name}_{i}" for i in range(len(drawn.tops))]
        free = kind.in_place and bottoms and drawn.tops and drawn.tops[0] == bottoms[0].shape
        fits = free and not bottoms[0].reads and bottoms.count(bottoms[0]) == 1
        if fits and rng.random() < (0.02 if bottoms[0].is_view else 0.35):
            tops[0] = bottoms[0].name
        names = [blob.name for blob in bottoms]
        layer, message = layer_of(kind.type, drawn.settings, names, tops).changed()
        message.name = name
        self._set_weights(kind, message)
        message.param.extend(params or self._param_specs(kind, len(drawn.params)))
        if rng.random() < 0.04 and bottoms:
            message.propagate_down.extend(rng.random() < 0.6 for _ in bottoms)
        self.layers.append(layer)
        for blob in bottoms:
            blob.reads += blob.name not in tops
        # Caffe ends in the backward pass where a loss lies behind a layer that has none
        if kind.has_backward() or rng.random() < 0.1:
            view = may_share_memory(kind.type)
            self.blobs += [
                _Blob(top, shape, is_view=view)
                for top, shape in zip(tops, drawn.tops, strict=True)
                if top not in names and shape
            ]

    def _set_weights(self, kind: type[Op], message: caffe_pb2.LayerParameter) -> None:
        rng, count = self.rng, len(message.top)
        if kind.auto_top:
            self.losses += 1
            if count > 1:
                message.loss_weight.extend([self._weight()] + [0.0] * (count - 1))
            elif rng.random() < 0.4:
                message.loss_weight.append(self._weight())
            elif rng.random() < 0.1 and all(x.message.top for x in self.layers):
                del message.top[:]  # Caffe adds one; pycaffe cannot tell two of them apart
        elif count and kind.has_backward() and rng.random() < 0.06:
            self.losses += 1
            message.loss_weight.extend(rng.choice((0.0, self._weight())) for _ in range(count))

    def _weight(self) -> float:
        return self.rng.choice((1.0, 0.5, 2.0, -1.0, round(self.rng.uniform(0.1, 3), 2)))

    def _param_specs(self, kind: type[Op], count: int) -> list[caffe_pb2.ParamSpec]:
        rng = self.rng
        if rng.random() < 0.7 or kind.frozen_params:
            return []
        specs = [caffe_pb2.ParamSpec() for _ in range(rng.randint(0, count))]
        for spec in specs:
            if rng.random() < 0.6:
                spec.lr_mult = rng.choice((0.0, 1.0, 2.0, 0.5))
            if rng.random() < 0.6:
                spec.decay_mult = rng.choice((0.0, 1.0, 2.0))
        return specs

    def _share(self, kind: type[Op], drawn: Drawn, bottoms: Sequence[_Blob]) -> None:
        """A second layer with the same options, whose parameters are the first one's."""
        owner, message = self.layers[-1].changed()
        del message.param[:]
        specs = [caffe_pb2.ParamSpec(name=f"{message.name}_{i}") for i in range(len(drawn.params))]
        if not kind.frozen_params and self.rng.random() < 0.3:
            specs[0].lr_mult = self.rng.choice((0.5, 2.0))
        if kind.frozen_params:
            learned = 2 if len(specs) == 5 else 0  # NVCaffe's scale and bias, after the statistics
            for spec in specs[: len(specs) - learned]:
                spec.lr_mult = 0
        message.param.extend(specs)
        self.layers[-1] = owner
        again = [
            self._input(blob.shape, real=False)
            if blob.is_input and self.rng.random() < 0.5 and index == 0
            else self._still_there(blob)
            for index, blob in enumerate(bottoms)
        ]
        self._append(kind, drawn, again, params=specs)

    def _still_there(self, blob: _Blob) -> _Blob:
        """The blob, or another of its shape at times."""
        same = [other for other in self.blobs if other.shape == blob.shape]
        return self.rng.choice(same) if same and self.rng.random() < 0.5 else blob
