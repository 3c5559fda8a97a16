"""ONNX: convolutions, fully connected layers, pooling and resizing."""

from __future__ import annotations

import math

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.spec.ops import Shape
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.filters import Filtered, Im2col, InnerProduct, Window
from caffe_port.spec.ops.pooling import SPP, Pooling
from caffe_port.spec.ops.resampling import Crop, Interp

_INT64 = 7  # onnx.TensorProto.INT64
_LOWEST = float(np.finfo(np.float32).min)


@ONNX_RULES.add("Convolution", "Deconvolution")
def filtered(node: Node, code: OnnxCode) -> list[str]:
    """Axes before the channel axis become one batch axis."""
    op, shape, top = node.layer.options(Filtered), code.shape, node.layer.top_shapes[0]
    window, axis = op.window(shape), op.channel_axis(shape)
    if not window.kernel:
        raise ValueError("no spatial axes; an InnerProduct computes the same")
    kind = "Conv" if node.layer.type == "Convolution" else "ConvTranspose"
    pads = _pads(window, shape[axis + 1 :]) if kind == "Conv" else window.pad * 2
    params = [code.param(i) for i in range(len(node.layer.params))]
    results = []
    for bottom in code.bottoms:
        x = bottom if axis == 1 else code.reshape(bottom, [-1, *shape[axis:]])
        y = code.op(
            kind, x, *params, kernel_shape=window.kernel, strides=window.stride,
            pads=pads, dilations=window.dilation, group=op.group,
        )  # fmt: skip
        results.append(y if axis == 1 else code.reshape(y, code.sized(top)))
    return results


def _pads(window: Window, sizes: Shape) -> list[int]:
    """Zeros before and behind each spatial axis, so that a window larger than it fits."""
    behind = [pad + window.overhang(sizes[i], i) for i, pad in enumerate(window.pad)]
    return [*window.pad, *behind]


@ONNX_RULES.add("InnerProduct")
def inner_product(node: Node, code: OnnxCode) -> list[str]:
    op, top = node.layer.options(InnerProduct), node.layer.top_shapes[0]
    axis = axis_index(op.axis, len(code.shape))
    length = node.layer.params[0].shape[0 if op.transpose else 1]
    flat = len(code.shape) == 2 and axis == 1
    rows = code.x if flat else code.reshape(code.x, [-1, length])
    params = [code.param(i) for i in range(len(node.layer.params))]
    y = code.op("Gemm", rows, *params, transB=0 if op.transpose else 1)
    return [y if len(top) == 2 else code.reshape(y, code.sized(top))]


@ONNX_RULES.add("Pooling")
def pooling(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(Pooling)
    if op.method == "AVE":
        return [ave_pool(code, code.x, code.shape, op)]
    return max_pool(code, op, masked=len(node.tops) == 2)


def frame(op: Pooling, shape: Shape) -> list[int]:
    """What is added above, left, below and right so that Caffe's windows lie inside.

    Sizes are rounded down then, so what no window covers need not be cut off.
    """
    kernel, out = op.window(shape), op.top_shapes([shape])[0][2:]
    behind = [
        max((out[i] - 1) * op.stride[i] + kernel[i] - shape[2 + i] - op.pad[i], 0) for i in (0, 1)
    ]
    return [*op.pad, *behind]


def max_pool(code: OnnxCode, op: Pooling, masked: bool) -> list[str]:
    """MaxPool's own padding never wins either, but it must be below the kernel size.

    ONNX counts the indices through the whole batch, without padding; Caffe in each plane.
    """
    pads, x, kernel = frame(op, code.shape), code.x, op.window(code.shape)
    beyond = any(pad >= side for pad, side in zip(pads, kernel * 2, strict=True))
    if beyond:
        if masked:
            raise ValueError("windows lie wholly outside of the bottom, where ONNX has no index")
        x, pads = _pad(code, x, pads, _LOWEST), [0, 0, 0, 0]
    found = code.ops(
        "MaxPool", x, outputs=2 if masked else 1, kernel_shape=kernel, strides=op.stride, pads=pads
    )
    if masked:
        plane = code.integers([code.shape[2] * code.shape[3]])
        found[1] = code.op("Cast", code.op("Mod", found[1], plane), to=1)
    return found


def ave_pool(code: OnnxCode, x: str, shape: Shape, op: Pooling) -> str:
    """Pad and pool, then the divisor: ONNX divides by the kernel, Caffe by the part that counts.

    The part of a window wholly outside is below 0, its sum is 0.
    """
    kernel, out, pads = op.window(shape), op.top_shapes([shape])[0][2:], frame(op, shape)
    if any(pads):
        x = _pad(code, x, pads, 0.0)
    y = code.op("AveragePool", x, kernel_shape=kernel, strides=op.stride)
    sides = []
    for i in (0, 1):
        start = np.arange(out[i]) * op.stride[i]
        sides.append(np.minimum(start + kernel[i], shape[2 + i] + 2 * op.pad[i]) - start)
    part = kernel[0] * kernel[1] / (sides[0][:, None] * sides[1][None, :])
    return y if (part == 1).all() else code.op("Mul", y, code.constant(part))


def _pad(code: OnnxCode, x: str, pads: list[int], value: float) -> str:
    around = code.integers([0, 0, *pads[:2], 0, 0, *pads[2:]])
    return code.op("Pad", x, around, code.constant(value), mode="constant")


@ONNX_RULES.add("SPP")
def spp(node: Node, code: OnnxCode) -> list[str]:
    """Its windows are those of the net's own input."""
    op = node.layer.options(SPP)
    pooled = [
        ave_pool(code, code.x, code.shape, level) if op.method == "AVE"
        else max_pool(code, level, masked=False)[0]
        for level in op.levels(code.shape)
    ]  # fmt: skip
    if len(pooled) == 1:
        return pooled
    return [code.op("Concat", *(code.op("Flatten", level, axis=1) for level in pooled), axis=1)]


@ONNX_RULES.add("Upsample")
def upsample(node: Node, code: OnnxCode) -> list[str]:
    """Of several values for one place, the runtime chooses which stays."""
    top, plane = node.layer.top_shapes[0], math.prod(code.shape[2:])
    values, mask = (code.reshape(bottom, [-1, plane]) for bottom in code.bottoms)
    rows = code.op("Shape", values, start=0, end=1)
    size = code.op("Concat", rows, code.integers([math.prod(top[2:])]), axis=0)
    places = code.op("ConstantOfShape", size), code.op("Cast", mask, to=_INT64)
    return [code.reshape(code.op("ScatterElements", *places, values, axis=1), code.sized(top))]


@ONNX_RULES.add("Im2col")
def im2col(node: Node, code: OnnxCode) -> list[str]:
    """A convolution, each of whose filters takes one place of one channel."""
    op, shape, top = node.layer.options(Im2col), code.shape, node.layer.top_shapes[0]
    window, axis = op.window(shape), op.channel_axis(shape)
    places, channels = math.prod(window.kernel), shape[axis]
    filters = np.tile(np.eye(places, dtype=np.float32), (channels, 1))
    x = code.x if axis == 1 else code.reshape(code.x, [-1, *shape[axis:]])
    y = code.op(
        "Conv", x, code.constant(filters.reshape(channels * places, 1, *window.kernel)),
        kernel_shape=window.kernel, strides=window.stride, pads=_pads(window, shape[axis + 1 :]),
        dilations=window.dilation, group=channels,
    )  # fmt: skip
    return [y if axis == 1 else code.reshape(y, code.sized(top))]


@ONNX_RULES.add("Interp")
def interp(node: Node, code: OnnxCode) -> list[str]:
    """Resize with corner on corner is DeepLab's; its sizes are those of the net's own input."""
    op, top = node.layer.options(Interp), node.layer.top_shapes[0]
    starts = [-op.pad_beg] * 2
    sizes = [size + op.pad_beg + op.pad_end for size in code.shape[2:]]
    x = _slice(code, code.x, [2, 3], starts, sizes) if op.pad_beg or op.pad_end else code.x
    if tuple(sizes) == top[2:]:
        return [x]
    return [
        code.op(
            "Resize", x, "", "", code.integers(top[2:]), mode="linear",
            coordinate_transformation_mode="align_corners", axes=[2, 3],
        )
    ]  # fmt: skip


@ONNX_RULES.add("Crop")
def crop(node: Node, code: OnnxCode) -> list[str]:
    """The reference's sizes are those of the net's own input."""
    op = node.layer.options(Crop)
    kept = op.ranges(*node.layer.bottom_shapes)
    axes = [i for i, (start, size) in enumerate(kept) if (start, size) != (0, code.shape[i])]
    if not axes:
        return [code.x]
    starts, sizes = ([kept[i][part] for i in axes] for part in (0, 1))
    return [_slice(code, code.x, axes, starts, sizes)]


def _slice(code: OnnxCode, x: str, axes: list[int], starts: list[int], sizes: list[int]) -> str:
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return code.op("Slice", x, code.integers(starts), code.integers(ends), code.integers(axes))
