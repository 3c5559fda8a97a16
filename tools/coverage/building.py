"""Reads, builds and runs one net; shapes of data that is not there are given by rules."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from caffe_port.errors import CaffePortError
from caffe_port.net import Net
from caffe_port.proto import NetText, caffe_pb2, parse_net
from caffe_port.spec import NetSpec
from caffe_port.spec.rules import filter_layers

MOST_WORK = 2_000_000_000  # multiply-adds of a net that is run
MOST_VALUES = 100_000_000  # parameters and blobs of a net that is run
_SIDES = (
    (224, 224),
    (227, 227),
    (321, 321),
    (360, 480),
    (32, 32),
    (28, 28),
)  # tried in this order where the text names no size
_MANY = 30  # a batch that may be cut into segments
_MADE_HERE = {"DummyData", "Parameter"}
_FIXED = {  # tops whose shape their name says, by item
    "im_info": (3,), "gt_boxes": (5,), "rois": (5,), "data_dim": (1, 1, 2), "bbox_targets": (84,),
    "bbox_inside_weights": (84,), "bbox_outside_weights": (84,), "bbox_loss_weights": (84,),
}  # fmt: skip
_EQUAL_SHAPES = {"EuclideanLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss"}
_TRUTH = {"MultiBoxLoss": 3, "DetectionEvaluate": 1}  # which bottom has the true boxes
_CELLS = {"DetectionLoss", "DetectionAccuracy"}  # MS-CNN's: six numbers for each cell
_COMPARED = (
    _CELLS
    | _EQUAL_SHAPES
    | set(_TRUTH)
    | {"SoftmaxWithLoss", "Accuracy", "SegAccuracy", "HingeLoss"}
)
_LABELS = re.compile(r"label|gt|target|truth|mask|sim|clip|cont|weight", re.IGNORECASE)

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Outcome:
    """What became of a net.

    Attributes:
        stage: 'parsed', 'built' or 'run', the last that succeeded; '' for none.
        reason: why the next one failed; '' where nothing failed.
        shapes: whether shapes of data had to be given.
        too_large: it was not run, for its size.
        warnings: of the reader.
    """

    stage: str = ""
    reason: str = ""
    shapes: bool = False
    too_large: bool = False
    warnings: list[str] = field(default_factory=list)


def try_net(text: str, run: bool = True, variables: Mapping[str, str] | None = None) -> Outcome:
    """Reads a net's text by the default rules, builds it in its phases, and runs it.

    Args:
        text: prototxt.
        run: whether it is run; else it is only read and built.
        variables: values of a template's ``${NAME}``.
    """
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net = parse_net(text, variables=variables)
        except CaffePortError as error:
            outcome.reason = short(error)
            return outcome
        outcome.stage = "parsed"
        specs = []
        for state in states(net.message):
            spec, given, reason = build(net, state)
            if spec is None:
                outcome.reason = reason
                return outcome
            outcome.shapes |= bool(given)
            specs.append(spec)
        outcome.stage = "built"
        if not run:
            return outcome
        _run(specs[-1], outcome)
    return outcome


def states(message: caffe_pb2.NetParameter) -> list[caffe_pb2.NetState]:
    """Where the net has data: the phases and stages that its data layers name, else TEST."""
    found = {
        (rule.phase, tuple(rule.stage))
        for layer in message.layer if layer.top and not layer.bottom
        for rule in layer.include if rule.HasField("phase")
    } or {
        (layer.phase, ()) for layer in message.layer
        if layer.top and not layer.bottom and layer.HasField("phase")
    }  # fmt: skip
    return [
        caffe_pb2.NetState(phase=phase, stage=stages)
        for phase, stages in sorted(found or {(caffe_pb2.TEST, ())})
    ]


def build(net: NetText, state: caffe_pb2.NetState) -> tuple[NetSpec | None, Shapes, str]:
    """The net in a state, the shapes that were given for it, and why it fails without success."""
    reason = ""
    for guess in itertools.chain([{}], guesses(net, state)):
        shapes = guess | _labels(net, state, guess) if guess else guess
        try:
            spec = _build(net, net.message, state, shapes)
        except (CaffePortError, ImportError) as error:
            found = short(error)
            if shapes and found.startswith(("layer type", "a Python layer")):
                return None, {}, found
            # the first guess is the likeliest, and says more than that data is missing
            if not reason or (shapes and not reason.startswith("*")):
                reason = ("*" if shapes else "") + found
        else:
            return spec, shapes, ""
    return None, {}, reason.removeprefix("*")


def _build(
    net: NetText, message: caffe_pb2.NetParameter, state: caffe_pb2.NetState, shapes: Shapes
) -> NetSpec:
    return NetSpec.build(
        message, phase=caffe_pb2.Phase.Name(state.phase), stages=state.stage,
        dialect=net.dialect, unknown=net.unknown, text=net.text, input_shapes=shapes,
    )  # fmt: skip


def _labels(net: NetText, state: caffe_pb2.NetState, given: Shapes) -> Shapes:
    """Shapes of given labels that fit the scores which losses compare them with."""
    rest = caffe_pb2.NetParameter()
    rest.CopyFrom(net.message)
    compared = [
        layer for layer in net.message.layer
        if layer.type in _COMPARED and len(layer.bottom) > 1
        and layer.bottom[_TRUTH.get(layer.type, 1)] in given
    ]  # fmt: skip
    del rest.layer[:]
    rest.layer.extend(layer for layer in net.message.layer if layer not in compared)
    try:
        shapes = _build(net, rest, state, given).shapes
    except (CaffePortError, ImportError):
        return {}
    found: Shapes = {}
    for layer in compared:
        scores = shapes.get(layer.bottom[0], ())
        if layer.type in _TRUTH:
            found[layer.bottom[_TRUTH[layer.type]]] = (1, 1, 4, 8)  # boxes
        elif layer.type in _CELLS and len(scores) == 4:
            found[layer.bottom[1]] = (scores[0], 6, *scores[2:])
        elif layer.type in _EQUAL_SHAPES:
            found |= {blob: tuple(scores) for blob in layer.bottom[1:] if blob in given}
        elif len(scores) > 1:
            found[layer.bottom[1]] = (scores[0], 1, *scores[2:])
    return {label: shape for label, shape in found.items() if shape}


def guesses(net: NetText, state: caffe_pb2.NetState) -> Iterator[Shapes]:
    """Shapes for the tops of the state's data layers: sizes of the text, else usual ones."""
    layers = [
        layer for layer in filter_layers(net.message, state)
        if layer.top and not layer.bottom and layer.type not in _MADE_HERE
        and not (layer.type == "Input" and layer.input_param.shape)
    ]  # fmt: skip
    if not layers:
        return
    known = [side for layer in layers for side in _sides(layer)]
    known += [*_resized(net), *_enlarged(net.message)]
    sides = dict.fromkeys(known) if known else dict.fromkeys(_SIDES)
    for own, size, channels, dense in itertools.product(
        (False, True), sides, (3, 1, 2, 6), (False, True)
    ):
        yield {
            top: _shape(top, i, _batch(layer, own), channels, size, dense)
            for layer in layers
            for i, top in enumerate(layer.top)
        }


def _sides(layer: caffe_pb2.LayerParameter) -> Iterator[tuple[int, int]]:
    transform, image = layer.transform_param, layer.image_data_param
    if transform.crop_size:
        yield transform.crop_size, transform.crop_size
    if transform.crop_height and transform.crop_width:
        yield transform.crop_height, transform.crop_width
    if image.new_height and image.new_width:
        yield image.new_height, image.new_width
    dense = layer.dense_image_data_param
    if dense.new_height and dense.new_width:
        yield dense.new_height, dense.new_width


def _resized(net: NetText) -> Iterator[tuple[int, int]]:
    """The sizes that SSD's data layers state."""
    for unknown in net.unknown:
        if unknown.field == "transform_param.resize_param" and isinstance(unknown.value, dict):
            side = [unknown.value.get(name, [0])[0] for name in ("height", "width")]
            if all(isinstance(length, int) and length > 0 for length in side):
                yield int(str(side[0])), int(str(side[1]))


def _enlarged(message: caffe_pb2.NetParameter) -> list[tuple[int, int]]:
    """Sizes of images that fit the sizes which Upsample layers state: those, doubled repeatedly."""
    stated = [
        (options.upsample_h, options.upsample_w)
        for layer in message.layer if layer.type == "Upsample"
        for options in [layer.upsample_param] if options.upsample_h
    ]  # fmt: skip
    most = max(stated, default=(0, 0))
    return [(most[0] << n, most[1] << n) for n in (3, 2, 1, 4)] if most[0] else []


def _batch(layer: caffe_pb2.LayerParameter, own: bool) -> int:
    """Two, or the text's number: results do not depend on it, and time does."""
    if any(top in ("im_info", "gt_boxes") for top in layer.top):
        return 1
    given = (layer.data_param, layer.image_data_param, layer.dense_image_data_param,
             layer.hdf5_data_param, layer.memory_data_param)  # fmt: skip
    stated = max(options.batch_size for options in given)
    return (stated or _MANY) if own else 2


def _shape(
    top: str, index: int, batch: int, channels: int, size: tuple[int, int], dense: bool
) -> tuple[int, ...]:
    if top in _FIXED:
        return (batch, *_FIXED[top])
    if (index and _LABELS.search(top)) or index == 1:
        return (batch, 1, *size) if dense else (batch, 1, 1, 1)
    return (batch, channels, *size)


def _run(spec: NetSpec, outcome: Outcome) -> None:
    work = sum(layer.multiply_adds for layer in spec.layers)
    values = sum(layer.parameter_count for layer in spec.layers) + sum(
        torch.Size(shape).numel() for shape in spec.shapes.values()
    )
    if work > MOST_WORK or values > MOST_VALUES:
        outcome.too_large = True
        return
    try:
        net = Net(spec)
        fed = {
            top: _values(spec.shapes[top], i)
            for layer in spec.layers if not layer.bottoms and layer.type not in _MADE_HERE
            for i, top in enumerate(layer.tops)
        }  # fmt: skip
        with torch.inference_mode():
            net(fed)
    except (CaffePortError, RuntimeError, ValueError, NotImplementedError) as error:
        outcome.reason = short(error)
    else:
        outcome.stage = "run"


def _values(shape: tuple[int, ...], index: int) -> torch.Tensor:
    """Random images, labels of 0, and boxes of class 1 that have an area."""
    if index == 0:
        return torch.rand(shape)
    values = torch.zeros(shape)
    if len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == 8:
        values[..., 1] = 1
        values[..., 5:7] = 0.5
    return values


def short(error: Exception) -> str:
    """The kind of a reason, without names and numbers of the one net."""
    text = str(error).split(": to ")[0]
    unknown = re.search(r"\((\w+)\): this type is not known", text)
    if unknown:
        return f"layer type {unknown[1]}"
    option = re.search(r"'([\w.]+)' is a fork's option", text)
    if option:
        return f"option {option[1]} of a fork"
    code = re.search(r"names class '([^']*)' of module '([^']*)'", text)
    if code and "Python" in text:
        return f"a Python layer, {code[2]}.{code[1]}, whose code is not run"
    text = re.sub(r"^.*?\((\w+)\): ", r"\1: ", text)
    text = re.sub(r"^(line )?\d+(, column \d+)?:\s*", "", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    text = re.sub(r"\(\d+(, \d+)*,?\)", "(...)", text)
    return re.sub(r"\d+", "N", text)[:110]
