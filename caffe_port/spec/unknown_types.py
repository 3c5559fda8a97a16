"""Layers of types that nothing here knows, and data layers whose shapes the caller gives.

A layer without bottoms makes data: where its tops have given shapes, its code is not needed.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from caffe_port.errors import UnsupportedLayerError, counted, shapes_option
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import is_known, known_types
from caffe_port.spec.ops.python_layer import is_allowed

_OTHER_NAMES = {"softmaxloss": "SoftmaxWithLoss"}


def makes_data(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether a layer has tops and no bottoms."""
    return bool(layer.top) and not layer.bottom


def is_fed(layer: caffe_pb2.LayerParameter, shapes: Collection[str]) -> bool:
    """Whether a layer's tops have given shapes, and its own code cannot be run here.

    Args:
        layer: it.
        shapes: the blobs that have given shapes.
    """
    can_run = is_known(layer.type) and (layer.type != "Python" or is_allowed())
    return makes_data(layer) and not can_run and all(top in shapes for top in layer.top)


def refuse_unknown(layers: Sequence[caffe_pb2.LayerParameter], shapes: Collection[str]) -> None:
    """Refuses a net with layers of unknown types, all of them at once.

    Args:
        layers: of the net.
        shapes: the blobs that have given shapes.
    Raises:
        UnsupportedLayerError: of the first such layer; its message counts the others.
    """
    unknown = [la for la in layers if not is_known(la.type) and not is_fed(la, shapes)]
    if not unknown:
        return
    first, types = unknown[0], [layer.type for layer in unknown]
    message = "this type is not known" + _similar(first.type)
    if len(types) > 1:
        message += f". Types of this net that are not known: {counted(types)}"
    message += (
        ". caffe_port.register_op and caffe_port.register_layer add a type of your fork: "
        "docs/own_layer.md; docs/LAYERS.md lists the known ones"
    )
    lacking = [top for la in unknown if makes_data(la) for top in la.top if top not in shapes]
    if lacking and (option := shapes_option(lacking)):
        message += f". A layer without bottoms makes data, and needs shapes only: {option}"
    raise UnsupportedLayerError(first.name, first.type, message)


def _similar(type: str) -> str:
    known = {name.lower(): name for name in known_types()} | _OTHER_NAMES
    found = difflib.get_close_matches(type.lower(), known, n=1, cutoff=0.9)
    return f" (did you mean {known[found[0]]}?)" if found else ""
