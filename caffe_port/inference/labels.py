"""Label maps without all scores at full resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.errors import UsageError
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Op
from caffe_port.spec.ops.resampling import Interp

_TOGETHER = 4  # labels enlarged at a time


def scores_before(spec: NetSpec, blob: str) -> LayerSpec | None:
    """The Interp layer that enlarges small scores to this blob, None if there is none.

    Raises:
        UsageError: the net has no such blob.
    """
    if blob not in spec.shapes:
        raise UsageError(f"'{blob}' is no blob of the net")
    maker = [layer for layer in spec.layers if blob in layer.tops][-1]
    if not isinstance(maker.op, Interp) or blob in maker.bottoms:
        return None
    cropped = maker.op.pad_beg or maker.op.pad_end
    shape, top = maker.bottom_shapes[0], maker.top_shapes[0]
    return None if cropped or top[2] * top[3] <= shape[2] * shape[3] else maker


def label_map(scores: Tensor, op: Op | None, blob: str, size: tuple[int, int] | None) -> Tensor:
    """The best label of each pixel.

    Args:
        scores: (N, C, H, W).
        op: how they are to be enlarged, or None.
        blob: their name, for messages.
        size: (h, w) that is wanted of the result, or None for all.
    Returns:
        (N, h, w) uint8, or int64 above 256 labels.
    """
    if scores.dim() != 4:
        raise UsageError(f"'{blob}' has shape {tuple(scores.shape)}; expected (N, C, H, W)")
    full = scores.shape if op is None else op.top_shapes([tuple(scores.shape)])[0]
    height, width = size or (full[2], full[3])
    if not (0 < height <= full[2] and 0 < width <= full[3]):
        whole = f"{full[2]} x {full[3]}"
        raise UsageError(f"size is {height} x {width}; '{blob}' is {whole}")
    if op is None:
        return _narrow(scores[:, :, :height, :width].argmax(1), scores.shape[1])
    scores, enlarged = _needed(scores, (full[2], full[3]), (height, width))
    return _best(scores, enlarged)[:, :height, :width]


def _needed(
    scores: Tensor, full: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """The corner of the scores that a corner of the result needs, and what it is enlarged to.

    Where corner lies on corner and the distance of pixels is the same, so are the numbers.
    """
    kept, enlarged = [], []
    for axis in (0, 1):
        whole, top = scores.shape[2 + axis], full[axis]
        zoom, rest = divmod(top - 1, max(whole - 1, 1))
        if whole == 1 or rest or zoom == 0:
            kept.append(whole)
            enlarged.append(top)
            continue
        last = max(1, -(-(size[axis] - 1) // zoom))
        kept.append(last + 1)
        enlarged.append(last * zoom + 1)
    return scores[:, :, : kept[0], : kept[1]], (enlarged[0], enlarged[1])


def _best(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """argmax over the labels of the enlarged scores, a few at a time."""
    best: Tensor | None = None
    for first in range(0, scores.shape[1], _TOGETHER):
        some = scores[:, first : first + _TOGETHER].contiguous()
        some = functional.interpolate(some, size, mode="bilinear", align_corners=True)
        values, indices = some.max(1)
        found = _narrow(indices + first, scores.shape[1])
        if best is None:
            best, labels = values, found
        else:
            higher = values > best
            labels = torch.where(higher, found, labels)
            best = torch.maximum(best, values)
    return labels


def _narrow(labels: Tensor, count: int) -> Tensor:
    return labels.to(torch.uint8) if count <= 256 else labels
