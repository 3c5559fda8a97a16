"""Which layers and bottoms Caffe walks backwards.

A blob needs a diff when something that learns lies before it and a loss lies after it;
``force_backward`` gives every blob one.

Source: BVLC/caffe net.cpp, Init, AppendBottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caffe_port.spec.netspec import LayerSpec


def mark_backward(layers: Sequence[LayerSpec], force: bool) -> list[LayerSpec]:
    """Fills in ``bottom_needs_backward`` and ``needs_backward``.

    Args:
        layers: connected, in order; ``propagate_down`` as the prototxt says it.
        force: the net's force_backward.
    """
    marked = _towards_learning(layers)
    marked = _towards_loss(marked)
    return [_forced(layer) for layer in marked] if force else marked


def _towards_learning(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    needs: dict[str, bool] = {}
    result = []
    for layer in layers:
        explicit = bool(layer.message.propagate_down)
        bottoms = tuple(
            wanted if explicit else needs[blob]
            for blob, wanted in zip(layer.bottoms, layer.propagate_down, strict=True)
        )
        learns = any(param.lr_mult != 0 for param in layer.params)
        walks = learns or any(needs[blob] for blob in layer.bottoms)
        for top in layer.tops:
            needs[top] = needs.get(top, False) or walks
        result.append(replace(layer, bottom_needs_backward=bottoms, needs_backward=walks))
    return result


def _towards_loss(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    under_loss: set[str] = set()
    skipped: set[str] = set()
    result = []
    for layer in reversed(layers):
        lossy = any(layer.loss_weights) or not under_loss.isdisjoint(layer.tops)
        skip = all(top in skipped for top in layer.tops)
        bottoms, walks = layer.bottom_needs_backward, layer.needs_backward
        if (walks and skip) or not lossy:
            bottoms, walks = (False,) * len(bottoms), False
        if lossy:
            under_loss.update(layer.bottoms)
        skipped.update(b for b, needed in zip(layer.bottoms, bottoms, strict=True) if not needed)
        result.append(replace(layer, bottom_needs_backward=bottoms, needs_backward=walks))
    return result[::-1]


def _forced(layer: LayerSpec) -> LayerSpec:
    fixed = layer.op.fixed_bottoms
    bottoms = tuple(
        needed or i not in fixed for i, needed in enumerate(layer.bottom_needs_backward)
    )
    # it also overrides propagate_down: false
    down = tuple(given or i not in fixed for i, given in enumerate(layer.propagate_down))
    return replace(layer, bottom_needs_backward=bottoms, needs_backward=True, propagate_down=down)
