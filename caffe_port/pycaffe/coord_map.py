"""Maps between the coordinates of tops, and the Crop that aligns them.

A map is (axis, scale, shift): ``coordinate in the bottom = scale * coordinate in the top + shift``
per spatial axis, from ``axis + 1`` on; axis None is the identity.

Source: BVLC/caffe python/caffe/coord_map.py.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from caffe_port.pycaffe.net_spec import Function, Top, layers
from caffe_port.spec.ops import BUILTIN, is_known, op_class

Map: TypeAlias = tuple[int | None, Any, Any]

# Caffe's list, which scripts may read and extend
PASS_THROUGH_LAYERS = [
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN",
    "Power", "ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold",
]  # fmt: skip
_IDENTITY: Map = (None, 1, 0)
_BY_SIDE = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}


class UndefinedMapException(Exception):  # noqa: N818 - the name scripts catch
    """A layer type without a coordinate map."""


class AxisMismatchException(Exception):  # noqa: N818 - the name scripts catch
    """Two maps of different axes."""


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, effective kernel and pad of a Convolution, Deconvolution, Im2col or Pooling.

    Raises:
        AssertionError: options of one side, such as pad_h.
    """
    options = fn.params.get("convolution_param", fn.params)
    assert not _BY_SIDE & set(fn.params), "cropping does not know pad_h, kernel_w and so on"
    kernel = np.array(options["kernel_size"], ndmin=1)
    dilation = np.array(options.get("dilation", 1), ndmin=1)
    stride = np.array(options.get("stride", 1), ndmin=1)
    pad = np.array(options.get("pad", 0), ndmin=1)
    return options.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, Any]:
    """First cropped axis and offsets of a Crop."""
    options = fn.params.get("crop_param", fn.params)
    return options.get("axis", 2), np.array(options.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """The map of one layer.

    Raises:
        UndefinedMapException: its type has none.
    """
    own = fn.type_name not in BUILTIN and is_known(fn.type_name)
    if fn.type_name in PASS_THROUGH_LAYERS or (own and op_class(fn.type_name).keeps_places):
        return _IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    raise UndefinedMapException(f"a layer of type {fn.type_name} does not map coordinates")


def compose(base: Map, then: Map) -> Map:
    """Composes two maps.

    Raises:
        AxisMismatchException: they are of different axes.
    """
    if None not in (base[0], then[0]) and base[0] != then[0]:
        raise AxisMismatchException(f"maps over the axes {base[0]} and {then[0]}")
    axis = then[0] if base[0] is None else base[0]
    return axis, base[1] * then[1], base[1] * then[2] + base[2]


def inverse(map: Map) -> Map:
    """The inverse map."""
    axis, scale, shift = map
    return axis, 1 / scale, -shift / scale


def _below(top: Top) -> dict[Top, Map]:
    """The bottoms with a map of the layer that makes ``top``, each with that map."""
    try:
        step = coord_map(top.fn)
    except UndefinedMapException:
        return {}
    # of its second bottom a Crop uses the size only
    bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
    return dict.fromkeys(bottoms, step)


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map between two tops, through a common ancestor.

    Raises:
        RuntimeError: no path of spatial layers connects them.
    """
    maps: dict[Top, Map] = {top_from: _IDENTITY}
    frontier = [top_from]
    while frontier:
        top = frontier.pop()
        for bottom, step in _below(top).items():
            maps[bottom] = compose(maps[top], step)
            frontier.append(bottom)
    back: dict[Top, Map] = {top_to: _IDENTITY}
    frontier = [top_to]
    while frontier:
        top = frontier.pop()
        if top in maps:
            return compose(back[top], inverse(maps[top]))
        for bottom, step in _below(top).items():
            back[bottom] = compose(back[top], step)
            frontier.append(bottom)
    raise RuntimeError("no spatial layers connect these tops, so their coordinates have no map")


def crop(top_from: Top, top_to: Top) -> Top:
    """Makes a Crop of one top to the size and position of another.

    Raises:
        AssertionError: they differ in scale, or the offset is negative or not a whole number.
        RuntimeError: no path connects them.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    assert np.all(scale == 1), f"the tops differ in scale: {scale}"
    assert np.all(shift <= 0), f"the offset would be negative: {-shift}"
    assert np.all(np.round(shift) == shift), f"the offset is not a whole number: {-shift}"
    assert axis is not None
    offset = [int(value) for value in -np.round(np.atleast_1d(shift))]
    result: Top = layers.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
    return result
