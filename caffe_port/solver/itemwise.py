"""Which layers treat each item of a batch by itself, so that a part of a batch is enough for them.

All others, and types that are not known here, get the whole batch: that is always right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from caffe_port.layers._registry import Layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops._base import Shape

_Rule = Callable[[Any, LayerSpec], bool]


def _always(op: Any, layer: LayerSpec) -> bool:
    return True


def _off_the_batch(op: Any, layer: LayerSpec) -> bool:
    """Its axis is not the one of the items."""
    return op.axis is None or bool(op.axis % max(len(layer.bottom_shapes[0]), 1))


def _one_bottom(op: Any, layer: LayerSpec) -> bool:
    return len(layer.bottoms) == 1 and _off_the_batch(op, layer)


def _keeps_items(op: Any, layer: LayerSpec) -> bool:
    return not op.order or op.order[0] == 0


_ALWAYS = (
    "AbsVal", "BNLL", "BatchNorm", "BiasChannel", "Clip", "DenseCRF", "DomainTransform", "Dropout",
    "ELU", "Eltwise", "Embed", "Exp", "Flatten", "Interp", "LRN", "Log", "MVN", "Normalize",
    "PReLU", "Pooling", "Power", "ReLU", "Reshape", "SPP", "ShuffleChannel", "Sigmoid", "Silence",
    "SpatialProduct", "Split", "Swish", "TanH", "Threshold", "Upsample",
)  # fmt: skip
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_ALWAYS, _always),
    **dict.fromkeys(
        ("ArgMax", "Concat", "Convolution", "Crop", "Deconvolution", "Im2col", "InnerProduct",
         "Reduction", "Slice", "Softmax", "Tile"), _off_the_batch,
    ),
    "Bias": _one_bottom,
    "Scale": _one_bottom,
    "Permute": _keeps_items,
}  # fmt: skip


def is_itemwise(module: Layer, parts: tuple[bool, ...], count: int) -> bool:
    """Whether a layer may run on parts of its bottoms.

    Args:
        module: the layer.
        parts: per bottom, whether it is there in parts.
        count: how many parts.
    """
    layer = module.spec
    rule = _RULES.get(layer.type)
    if rule is None or not parts or not all(parts) or not rule(layer.op, layer):
        return False
    tops = [_part(shape, count) for shape in layer.top_shapes]
    bottoms = [_part(shape, count) for shape in layer.bottom_shapes]
    if None in tops or None in bottoms:
        return False
    try:
        found = layer.op.top_shapes([shape for shape in bottoms if shape is not None])
    except ValueError:
        return False
    return [tuple(shape) for shape in found][: len(tops)] == tops


def _part(shape: Shape, count: int) -> Shape | None:
    """The shape of one of ``count`` parts; None where there is none."""
    if not shape or shape[0] % count:
        return None
    return (shape[0] // count, *shape[1:])
