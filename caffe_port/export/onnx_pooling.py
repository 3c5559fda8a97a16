"""ONNX: pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.export.graph import Node
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_sizes import Size, vector
from caffe_port.spec.ops.pooling import SPP, Pooling

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
