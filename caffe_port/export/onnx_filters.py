"""ONNX: convolutions, fully connected layers and resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.module_filters import check_unpooling
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_sizes import Size, product, reshape, vector
from caffe_port.layers.resizing import taps
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.filters import Convolution, Filtered, Im2col, InnerProduct, Window
from caffe_port.spec.ops.resampling import Crop, Interp, Padding, Upsample
from caffe_port.spec.ops.resizing import Resized

_INT64 = 7  # onnx.TensorProto.INT64
_END = 2**31 - 1  # of a Slice: to the end of the axis


@ONNX_RULES.add("Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution")
def filtered(node: Node, code: OnnxCode) -> list[str]:
    """Axes before the channel axis become one batch axis."""
    op = node.layer.options(Filtered)
    window, axis = op.window(code.shape), op.channel_axis(code.shape)
    if not window.kernel:
        raise ValueError("no spatial axes; an InnerProduct computes the same")
    kind = "Conv" if isinstance(op, Convolution) else "ConvTranspose"
    params = [code.param(i) for i in range(len(node.layer.params))]
    results = []
    for i in range(len(code.bottoms)):
        pads = _pads(window, code.sizes(i)[axis + 1 :]) if kind == "Conv" else window.pad * 2
        results.append(
            _convolved(
                code, i, axis, kind, params, kernel_shape=window.kernel, strides=window.stride,
                pads=pads, dilations=window.dilation, group=op.group,
            )
        )  # fmt: skip
    return results


def _convolved(
    code: OnnxCode, bottom: int, axis: int, kind: str, params: list[str], **options: Any
) -> str:
    """A convolution of a bottom whose channels are any axis."""
    x, sizes = code.bottoms[bottom], code.sizes(bottom)
    if axis == 1:
        return code.op(kind, x, *params, **options)
    y = code.op(kind, reshape(code, x, [-1, *sizes[axis:]]), *params, **options)
    value, top = code.node.tops[bottom], code.node.layer.top_shapes[bottom]
    free = [i - axis + 1 for i in code.free[value] if i > axis]
    spatial = code.sizes_of(y, (0, *top[axis:]), free)[2:]
    return reshape(code, y, [*sizes[:axis], top[axis], *spatial])


def _pads(window: Window, sizes: list[Size]) -> list[int]:
    """Zeros before and behind each spatial axis, so that a window larger than it fits."""
    over = [window.overhang(size.value, i) for i, size in enumerate(sizes)]
    for size, more in zip(sizes, over, strict=True):
        if more:
            size.fixed("its window is larger than the bottom")
    return [*window.pad, *(pad + more for pad, more in zip(window.pad, over, strict=True))]


@ONNX_RULES.add("InnerProduct")
def inner_product(node: Node, code: OnnxCode) -> list[str]:
    op, sizes = node.layer.options(InnerProduct), code.sizes()
    axis = axis_index(op.axis, len(sizes))
    length = node.layer.params[0].shape[0 if op.transpose else 1]
    flat = len(sizes) == 2 and axis == 1
    rows = code.x if flat else code.reshape(code.x, [-1, length])
    params = [code.param(i) for i in range(len(node.layer.params))]
    y = code.op("Gemm", rows, *params, transB=0 if op.transpose else 1)
    if axis == 1:
        return [y]
    outputs = node.layer.top_shapes[0][axis]
    return [reshape(code, y, [*sizes[:axis], outputs])]


@ONNX_RULES.add("Im2col")
def im2col(node: Node, code: OnnxCode) -> list[str]:
    """A convolution, each of whose filters takes one place of one channel."""
    op, shape = node.layer.options(Im2col), code.shape
    window, axis = op.window(shape), op.channel_axis(shape)
    places = math.prod(window.kernel)
    channels = code.sizes()[axis].fixed("its filters are as many as its channels")
    filters = np.tile(np.eye(places, dtype=np.float32), (channels, 1))
    weight = code.constant(filters.reshape(channels * places, 1, *window.kernel))
    y = _convolved(
        code, 0, axis, "Conv", [weight], kernel_shape=window.kernel, strides=window.stride,
        pads=_pads(window, code.sizes()[axis + 1 :]), dilations=window.dilation, group=channels,
    )  # fmt: skip
    return [y]


@ONNX_RULES.add("Upsample")
def upsample(node: Node, code: OnnxCode) -> list[str]:
    op, sizes = node.layer.options(Upsample), code.sizes()
    scaled = zip(sizes[2:], op.scale, op.less, strict=True)
    if op.size:
        top = [sizes[0].always(side) for side in op.size]
    else:
        top = [size * scale - less for size, scale, less in scaled]
    if len(code.bottoms) == 2:
        return _placed(node, code, top)
    repeated = code.op(
        "Resize", code.x, "", code.constant([1.0, 1.0, *map(float, op.scale)]), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    if not any(op.less):
        return [repeated]
    ends = [-less or _END for less in op.less]
    return [code.op("Slice", repeated, *map(code.integers, ([0, 0], ends, [2, 3])))]


@ONNX_RULES.add("Unpooling")
def unpooling(node: Node, code: OnnxCode) -> list[str]:
    op = check_unpooling(node)
    return _placed(node, code, [code.sizes()[0].always(side) for side in op.size])


def _placed(node: Node, code: OnnxCode, top: list[Size]) -> list[str]:
    """Each value at its mask's place. Of several for one place, the runtime chooses which stays."""
    sizes = code.sizes()
    plane = product(sizes[2:])
    values, mask = (reshape(code, bottom, [-1, plane]) for bottom in code.bottoms)
    cells = top[0] * top[1]
    rows = code.sizes_of(values, (sizes[0].value * sizes[1].value, 0), code.free[node.tops[0]])[0]
    zeros = code.op("ConstantOfShape", vector(code, [rows, cells]))
    places = code.op("Cast", mask, to=_INT64)
    filled = code.op("ScatterElements", zeros, places, values, axis=1)
    return [reshape(code, filled, [*sizes[:2], *top])]


@ONNX_RULES.add("Interp")
def interp(node: Node, code: OnnxCode) -> list[str]:
    """Resize with corner on corner is DeepLab's.

    It gets the sizes of all axes: OpenCV 5 reads no others.
    """
    op, sizes, x = node.layer.options(Interp), code.sizes(), code.x
    if op.nearest:
        raise ValueError("type: NearestNeighbor, whose positions are OpenCV's")
    cropped = [size + (op.pad_beg + op.pad_end) for size in sizes[2:]]
    if op.pad_beg or op.pad_end:
        ends = [op.pad_end or _END] * 2
        slots = (code.integers(part) for part in ([-op.pad_beg] * 2, ends, [2, 3]))
        x = code.op("Slice", x, *slots)
    top = (
        []
        if len(code.bottoms) == 2
        else [
            _interp_size(op, size, fixed)
            for size, fixed in zip(cropped, (op.height, op.width), strict=True)
        ]
    )
    if len(code.bottoms) == 2:
        top = code.sizes(1)[2:]
    if all(old.equals(new) for old, new in zip(cropped, top, strict=True)):
        return [x]
    return [
        code.op(
            "Resize", x, "", "", vector(code, [*sizes[:2], *top]), mode="linear",
            coordinate_transformation_mode="align_corners",
        )
    ]  # fmt: skip


def _interp_size(op: Interp, size: Size, fixed: int | None) -> Size:
    """As ``Interp.output_size``, of a size that may be free."""
    factors = op.shrink_factor, op.zoom_factor
    if (factors[0] is None) == (factors[1] is None) and None not in (op.height, op.width):
        assert fixed is not None
        return size.always(fixed)
    shrink, zoom = (factor or 1 for factor in factors)
    return size if shrink == zoom == 1 else (size - 1) // shrink * zoom + 1


@ONNX_RULES.add("ResizeBilinear", "ResizeNearestNeighbor")
def resized(node: Node, code: OnnxCode) -> list[str]:
    """Gathers the places of each axis, of which ONNX's Resize has others."""
    op, x = node.layer.options(Resized), code.x
    for axis in (op.first + 1, op.first):
        size = code.sizes()[axis].fixed("the places that are mixed depend on its size")
        first, second, share = taps(op, size, node.layer.top_shapes[0][axis])
        low = code.op("Gather", x, code.integers(first), axis=axis)
        if any(share):
            high = code.op("Gather", x, code.integers(second), axis=axis)
            weight = np.array(share, np.float32).reshape([-1] + [1] * (3 - axis))
            mixed = code.op("Mul", code.op("Sub", high, low), code.constant(weight))
            low = code.op("Add", low, mixed)
        x = low
    return [x]


@ONNX_RULES.add("Padding")
def padding(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Padding)
    if min(op.before, op.after) < 0:
        ends = [op.after or _END] * 2
        return [code.op("Slice", code.x, *map(code.integers, ([-op.before] * 2, ends, [2, 3])))]
    pads = [0, 0, op.before, op.before, 0, 0, op.after, op.after]
    return [code.op("Pad", code.x, code.integers(pads))]


@ONNX_RULES.add("AutoCrop", "Crop")
def crop(node: Node, code: OnnxCode) -> list[str]:
    op, shapes = node.layer.options(Crop), node.layer.bottom_shapes
    sizes, reference = code.sizes(), code.sizes(1)
    first = axis_index(op.axis, len(sizes))
    starts, ends, axes = [], [], []
    for axis, (start, size) in list(enumerate(op.ranges(*shapes)))[first:]:
        free = sizes[axis].is_free or reference[axis].is_free
        if free or (start, size) != (0, sizes[axis].value):
            starts.append(start)
            ends.append(reference[axis] + start)
            axes.append(axis)
    if not axes:
        return [code.x]
    slots = code.integers(starts), vector(code, ends), code.integers(axes)
    return [code.op("Slice", code.x, *slots)]
