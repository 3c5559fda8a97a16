"""Filters in oneDNN's own layout, one copy for all convolutions that share them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from caffe_port.spec.ops.filters import Window


def can_pack(x: Tensor) -> bool:
    """Whether oneDNN convolves this bottom with packed filters."""
    types = (torch.float32, torch.bfloat16, torch.float16)
    return x.device.type == "cpu" and x.dtype in types and _available()


def _available() -> bool:
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]
        return False
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class Store:
    """What was made of a net's parameters, by what it was made of.

    The branches of a multi-scale net have one set of filters between them, and it stays one: the
    packed layout depends on the size of the bottom, so a second copy is kept only where it differs.
    """

    def __init__(self) -> None:
        self._packed: dict[Hashable, list[tuple[bytes, Tensor]]] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returned when the key was first seen."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def packed(
        self, key: Hashable, weight: Tensor, window: Window, group: int, size: tuple[int, ...]
    ) -> Tensor:
        """A filter as ``mkldnn._convolution_pointwise`` likes it best.

        Args:
            key: of the filter's values.
            weight: (O, C / group, h, w), dense.
            size: the bottom's shape.
        """
        reordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight, window.pad, window.stride, window.dilation, group, list(size)
        )
        layout = _layout(reordered)
        copies = self._packed.setdefault((key, weight.dtype), [])
        for known, tensor in copies:
            if known == layout:
                return tensor
        copies.append((layout, reordered))
        return reordered


def _layout(packed: Tensor) -> bytes:
    describe = getattr(torch.ops.mkldnn, "_get_mkldnn_serialized_md", None)
    return b"" if describe is None else describe(packed).numpy().tobytes()
