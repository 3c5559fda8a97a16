"""What a tracing rule is, and the registry of rules by layer type."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from caffe_port.errors import UnsupportedLayerError, counted
from caffe_port.layers import Layer
from caffe_port.spec import LayerSpec

Shift = Literal["full_shift", "no_shift", "partial_shift"]
"""Where a point goes in a convolution's window: moved to the chosen input, kept, or in part."""

# file of this folder -> the types with rules in it
_FILES = {
    "filters": (
        "Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution",
        "InnerProduct", "Pooling",
    ),
    "shapes": (
        "AutoCrop", "Axpy", "Concat", "Crop", "Eltwise", "Interp", "Padding", "Permute", "Reorg",
        "ResizeBilinear", "ResizeNearestNeighbor", "Slice", "Unpooling", "Upsample",
    ),
}  # fmt: skip
BUILTIN = {type: file for file, types in _FILES.items() for type in types}


@dataclass(frozen=True)
class Passage:
    """A layer that points are traced through, after a forward pass.

    Attributes:
        module: the layer with its parameters; its options are ``module.spec.op``.
        bottoms, tops: its blobs; one written in place holds what its last writer wrote.
        top: the index of the top that the points are in.
        shift: the place within a window: see ``caffe_port.unravel.trace``.
        k: number of channels of a window that are followed.
    """

    module: Layer
    bottoms: tuple[Tensor, ...]
    tops: tuple[Tensor, ...]
    top: int
    shift: Shift
    k: int


class Link(NamedTuple):
    """Points of one bottom, and the points of the top that they come from.

    Attributes:
        bottom: the index of the bottom.
        source: (M,) int64, indices into the given points; each may be there several times or never.
        target: (M,) int64, flat indices into that bottom.
    """

    bottom: int
    source: Tensor
    target: Tensor


# (passage, (P,) int64 flat indices into the top, unique, P > 0) -> links
Rule = Callable[[Passage, Tensor], list[Link]]
_rules: dict[str, Rule] = {}


def register_rule(*types: str) -> Callable[[Rule], Rule]:
    """Function decorator: registers a rule for layer types.

    Raises:
        ValueError: a type has a rule already.
    Examples:
        >>> import torch
        >>> from caffe_port.unravel import Link, register_rule
        >>> @register_rule("Halve")
        ... def halve(passage, points):
        ...     return [Link(0, torch.arange(len(points)), points)]  # each to the same place
    """

    def decorate(rule: Rule) -> Rule:
        for type in types:
            home = f"{__package__}.{BUILTIN.get(type)}"
            if type in _rules or (type in BUILTIN and rule.__module__ != home):
                raise ValueError(f"layer type '{type}' has a tracing rule already")
            _rules[type] = rule
        return rule

    return decorate


def has_rule(layer: LayerSpec) -> bool:
    """Whether points can be traced through a layer."""
    return layer.type in BUILTIN or layer.type in _rules or layer.op.keeps_index


def find_rule(layer: LayerSpec) -> Rule:
    """The rule of a layer that has one; see ``expect_rules``."""
    if layer.type in BUILTIN and layer.type not in _rules:
        importlib.import_module(f"{__package__}.{BUILTIN[layer.type]}")
    return _rules.get(layer.type, same_index)


def same_index(passage: Passage, points: Tensor) -> list[Link]:
    """The same flat index in the first bottom, for ops with ``keeps_index``.

    Neurons, BatchNorm, Scale and Dropout act on each value alone. LRN, MVN, Normalize and Softmax
    divide by neighbouring values, but the value comes from its own channel and place. Flatten and
    Reshape keep the order of the values.

    Source: Seg-Unravel for ReLU, BatchNorm, Scale, Dropout and LRN; the others are ours.
    """
    return [Link(0, torch.arange(len(points), device=points.device), points)]


def expect_rules(layers: Sequence[LayerSpec]) -> None:
    """Checks that points can be traced through all layers.

    Raises:
        UnsupportedLayerError: the type of one has no rule; its message counts all such types.
    """
    lacking = [layer for layer in layers if not has_rule(layer)]
    if lacking:
        types = [layer.type for layer in lacking]
        also = f"; of this net's types also not: {counted(types)}" if len(types) > 1 else ""
        raise UnsupportedLayerError(
            lacking[0].name,
            lacking[0].type,
            f"points cannot be traced through this type{also}. "
            "caffe_port.unravel.register_rule adds a rule for a type; one whose points keep their "
            "flat index needs keeps_index = True in its Op only",
        )
