"""ONNX: convolutions, fully connected layers, pooling and resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.export.graph import Node
from caffe_port.export.module_filters import check_unpooling
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_sizes import Size, product, reshape, vector
from caffe_port.layers.resizing import taps
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.filters import Convolution, Filtered, Im2col, InnerProduct, Window
from caffe_port.spec.ops.pooling import SPP, Pooling
from caffe_port.spec.ops.resampling import Crop, Interp, Padding, Upsample
from caffe_port.spec.ops.resizing import Reorg, Resized

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


@ONNX_RULES.add("Reorg")
def reorg(node: Node, code: OnnxCode) -> list[str]:
    """Not ONNX's SpaceToDepth, whose order differs."""
    op, (n, c, h, w) = node.layer.options(Reorg), code.sizes()
    s, fewer = op.stride, c // op.stride**2
    _, order = op.moves(node.layer.bottom_shapes[0])
    axes: list[Size | int] = [n, s, s, fewer, h, w] if op.reverse else [n, fewer, h, s, w, s]
    top = [n, fewer, h * s, w * s] if op.reverse else [n, c * s**2, h // s, w // s]
    moved = code.op("Transpose", reshape(code, code.x, axes, [n]), perm=order)
    return [reshape(code, moved, top, [n])]


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


_LOWEST = float(np.finfo(np.float32).min)
_FLOAT = 1  # onnx.TensorProto.FLOAT


@ONNX_RULES.add("Pooling")
def pooling(node: Node, code: OnnxCode) -> list[str]:
    op, masked = node.layer.options(Pooling), len(node.tops) == 2
    if op.kernel is None and not masked:
        return [code.op("GlobalMaxPool" if op.method == "MAX" else "GlobalAveragePool", code.x)]
    if op.method == "AVE":
        return [ave_pool(code, code.x, code.sizes(), op)]
    return max_pool(code, op, masked)


def window_of(op: Pooling, sizes: list[Size]) -> tuple[int, int]:
    """The kernel, which in ONNX is a number."""
    if op.kernel:
        return op.kernel
    height, width = (size.fixed("its windows depend on the bottom's size") for size in sizes[2:])
    return height, width


def frame(op: Pooling, sizes: list[Size]) -> list[Size]:
    """What is added above, left, below and right so that Caffe's windows lie inside.

    Sizes are rounded down then, so what no window covers need not be cut off.
    """
    kernel = window_of(op, sizes)
    padded = max(op.pad) > 0
    behind = []
    for size, k, stride, pad in zip(sizes[2:], kernel, op.stride, op.pad, strict=True):
        if not op.ceil or stride == 1:
            behind.append(size.always(pad))
            continue
        last = (size + (2 * pad - k + stride - 1)) // stride  # windows before the last
        if padded and pad > k - stride:  # it starts inside of the bottom or its left padding
            last = last.at_most((size + (pad - 1)) // stride)
        behind.append((last * stride + (k - pad) - size).at_least(0))
    return [sizes[2].always(op.pad[0]), sizes[3].always(op.pad[1]), *behind]


def max_pool(code: OnnxCode, op: Pooling, masked: bool) -> list[str]:
    """MaxPool's own padding never wins either, but it must be below the kernel size.

    ONNX counts the indices through the whole batch, without padding; Caffe in each plane.
    """
    x, sizes = code.x, code.sizes()
    kernel, pads = window_of(op, sizes), frame(op, sizes)
    options: dict[str, Any] = {"kernel_shape": kernel, "strides": op.stride}
    free = any(pad.is_free for pad in pads)
    plain = all(pad <= k - s for pad, k, s in zip(op.pad, kernel, op.stride, strict=True))
    if free and plain:  # rounding up is the same in Caffe and ONNX: no window is left out
        options |= {"pads": op.pad * 2, "ceil_mode": 1}
    elif free or any(pad.value >= side for pad, side in zip(pads, kernel * 2, strict=True)):
        if masked:
            raise ValueError("windows lie wholly outside of the bottom, where ONNX has no index")
        x = _pad(code, x, pads, _LOWEST)
    else:
        options["pads"] = [pad.value for pad in pads]
    found = code.ops("MaxPool", x, outputs=2 if masked else 1, **options)
    if masked:
        plane = (sizes[2] * sizes[3]).vector
        found[1] = code.op("Cast", code.op("Mod", found[1], plane), to=_FLOAT)
    return found


def ave_pool(code: OnnxCode, x: str, sizes: list[Size], op: Pooling) -> str:
    """Pad and pool, then the divisor: ONNX divides by the kernel, Caffe by the part that counts.

    That part is the window less what lies beyond the padding. The part of a window wholly outside
    is below 0, its sum is 0.
    """
    kernel, pads = window_of(op, sizes), frame(op, sizes)
    if any(pad.is_free or pad.value for pad in pads):
        x = _pad(code, x, pads, 0.0)
    y = code.op("AveragePool", x, kernel_shape=kernel, strides=op.stride)
    padded = [
        (size + 2 * pad, size + before + behind)
        for size, pad, before, behind in zip(sizes[2:], op.pad, pads[:2], pads[2:], strict=True)
    ]
    if all(pad.equals(pad.always(p)) for pad, p in zip(pads, op.pad * 2, strict=True)):
        return y  # every window lies within the padding
    sides = [
        _counted(code, *ends, k, stride)
        for ends, k, stride in zip(padded, kernel, op.stride, strict=True)
    ]
    area = float(kernel[0] * kernel[1])
    rows, columns = sides
    if not isinstance(rows, str) and not isinstance(columns, str):
        return code.op("Mul", y, code.constant(area / (rows[:, None] * columns)))
    rows, columns = (s if isinstance(s, str) else code.constant(s) for s in sides)
    rows = code.op("Unsqueeze", rows, code.integers([1]))
    part = code.op("Div", code.constant(area), code.op("Mul", rows, columns))
    return code.op("Mul", y, part)


def _counted(
    code: OnnxCode, padded: Size, framed: Size, kernel: int, stride: int
) -> str | npt.NDArray[np.float32]:
    """How much of each window along an axis counts: the values, or the name of a vector.

    Args:
        code: what nodes are added to.
        padded: the axis with Caffe's padding.
        framed: the axis with all that was added.
        kernel, stride: of the windows.
    """
    stop = ((framed - kernel) // stride + 1) * stride
    if not padded.is_free:
        starts = np.arange(0, stop.value, stride)
        return (np.minimum(starts + kernel, padded.value) - starts).astype(np.float32)
    scalars = [code.constant(value, np.int64) for value in (0, stride)]
    end = code.op("Squeeze", stop.vector, code.integers([0]))
    start = code.op("Range", scalars[0], end, scalars[1])
    last = code.op("Min", code.op("Add", start, code.integers([kernel])), padded.vector)
    return code.op("Cast", code.op("Sub", last, start), to=_FLOAT)


def _pad(code: OnnxCode, x: str, pads: list[Size], value: float) -> str:
    around = vector(code, [0, 0, *pads[:2], 0, 0, *pads[2:]])
    return code.op("Pad", x, around, code.constant(value), mode="constant")


@ONNX_RULES.add("SPP")
def spp(node: Node, code: OnnxCode) -> list[str]:
    op, sizes = node.layer.options(SPP), code.sizes()
    for size in sizes[2:]:
        size.fixed("its windows depend on the bottom's size")
    pooled = [
        ave_pool(code, code.x, sizes, level) if op.method == "AVE"
        else max_pool(code, level, masked=False)[0]
        for level in op.levels(code.shape)
    ]  # fmt: skip
    if len(pooled) == 1:
        return pooled
    return [code.op("Concat", *(code.op("Flatten", level, axis=1) for level in pooled), axis=1)]
