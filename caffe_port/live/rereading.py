"""Caffe's diffs of layers whose blobs were overwritten after their forward pass.

Some of Caffe's layers read bottoms and tops again in backward, including the changes that scripts
and layers in place have made since; others read buffers that forward has filled, such as the
positions of maxima, the mask of Dropout and the probabilities of a loss.

Source: BVLC/caffe, Backward_cpu of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.errors import LayerError
from caffe_port.labels import divisor
from caffe_port.layers._registry import Layer
from caffe_port.layers.losses import by_item
from caffe_port.layers.neurons import Elementwise
from caffe_port.layers.pooling import ave_pool
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.losses import SigmoidCrossEntropyLoss, Softmax
from caffe_port.spec.ops.normalization import MVN, Normalize
from caffe_port.spec.ops.pooling import LRN, Pooling
from caffe_port.spec.ops.recurrent import Recurrent


@dataclass(frozen=True)
class Reread:
    """A layer's data at its forward pass and at its backward pass.

    Attributes:
        layer, module: its spec, and itself.
        then, now: its bottoms at the forward pass, and at the backward pass.
        tops, diffs: its tops and their diffs at the backward pass.
    """

    layer: LayerSpec
    module: Layer
    then: Sequence[Tensor]
    now: Sequence[Tensor]
    tops: Sequence[Tensor]
    diffs: Sequence[Tensor]


def bottoms_read(layer: LayerSpec) -> list[int]:
    """Indices of the bottoms that a layer's backward reads again, except for RNN and LSTM."""
    if isinstance(layer.op, Recurrent):
        return []
    places = range(len(layer.bottoms))
    if layer.type == "InfogainLoss" and layer.dialect == "bvlc":
        return list(places[1:])  # its probabilities are kept; in forks they are the bottom
    return [i for i in places if layer.op.reads_bottom(i, layer.in_place)]


def transformed_bottoms(layer: LayerSpec) -> tuple[int, ...]:
    """The bottoms of RNN and LSTM that are read again, x and the static input.

    Autograd keeps these tensors, so their present values can be copied into them. They get diffs
    even if no layer needs them. Source: BVLC/caffe recurrent_layer.cpp, LayerSetUp.
    """
    return (0, 2)[: 1 + layer.op.static] if isinstance(layer.op, Recurrent) else ()


def formula(layer: LayerSpec, module: Layer) -> Callable[[Reread], list[Tensor]] | None:
    """The function that computes the bottoms' diffs from the present data.

    None if no top is read again: then autograd on the present bottoms computes the diffs.
    """
    if isinstance(module, Elementwise):
        return _elementwise
    reads_tops = any(layer.op.reads_top(i, layer.in_place) for i in range(len(layer.tops)))
    keeps_some = layer.type in ("LRN", "SigmoidCrossEntropyLoss")  # and reads the rest again
    return _FORMULAS.get(layer.type) if reads_tops or keeps_some else None


def _elementwise(call: Reread) -> list[Tensor]:
    module = call.module
    assert isinstance(module, Elementwise)
    # Swish keeps its sigmoid; the others read bottom and top
    x = call.then[0] if call.layer.type == "Swish" else call.now[0]
    factor = module.factor(x, call.tops[0])
    overwritten = module.in_place and module.overwrites_diff
    return [factor * (factor if overwritten else call.diffs[0])]


def _softmax(call: Reread) -> list[Tensor]:
    axis = call.layer.options(Softmax).axis
    (y,), (diff,) = call.tops, call.diffs
    return [y * (diff - (y * diff).sum(axis, keepdim=True))]


def _mvn(call: Reread) -> list[Tensor]:
    op, (y,), (diff,) = call.layer.options(MVN), call.tops, call.diffs
    axes = list(range(1 if op.across_channels else 2, y.dim()))
    x = call.then[0].reshape(y.shape)
    divisor = x.std(axes, correction=0, keepdim=True) + op.eps
    projection = y * (y * diff).mean(axes, keepdim=True)
    return [((diff - diff.mean(axes, keepdim=True) - projection) / divisor).view_as(call.then[0])]


def _lstm_unit(call: Reread) -> list[Tensor]:
    """Caffe reads its top c again, and uses cont f for f, also in 1 - f."""
    (cell, gates, cont), (c, _), (c_diff, h_diff) = call.now, call.tops, call.diffs
    i, f, o, g = gates.chunk(4, -1)
    i, f, o, g = i.sigmoid(), cont[..., None] * f.sigmoid(), o.sigmoid(), g.tanh()
    squashed = c.tanh()
    back = c_diff + h_diff * o * (1 - squashed * squashed)
    parts = [back * g * i * (1 - i), back * cell * f * (1 - f), h_diff * squashed * o * (1 - o),
             back * i * (1 - g * g)]  # fmt: skip
    return [back * f, torch.cat(parts, -1)]


def _lrn(call: Reread) -> list[Tensor]:
    op = call.layer.options(LRN)
    return [_lrn_within(call, op) if op.within else _lrn_across(call, op)]


def _lrn_across(call: Reread, op: LRN) -> Tensor:
    around = (op.local_size - 1) // 2
    frame = (0, 0, 0, 0, around, around)

    def sums(values: Tensor) -> Tensor:
        return functional.pad(values, frame).unfold(1, op.local_size, 1).sum(-1)

    scale = op.k + op.alpha / op.local_size * sums(call.then[0].square())
    ratio = sums(call.diffs[0] * call.tops[0] / scale)
    shrunk = call.diffs[0] * scale.pow(-op.beta)
    return shrunk - 2 * op.alpha * op.beta / op.local_size * call.now[0] * ratio


def _lrn_within(call: Reread, op: LRN) -> Tensor:
    """Caffe composes Power, AVE pooling, Power and a product; it keeps the tops of the powers."""
    x, (diff,) = call.now[0], call.diffs
    around = (op.local_size - 1) // 2
    window = Pooling("AVE", (op.local_size,) * 2, (1, 1), (around, around), ceil=True)
    with torch.enable_grad():
        squares = call.then[0].square().requires_grad_()
        pooled = ave_pool(squares, window)
    base = pooled.detach() * op.alpha + 1
    along = diff * x * base.pow(-op.beta - 1) * (-op.beta * op.alpha)
    (back,) = torch.autograd.grad(pooled, squares, along)
    return diff * base.pow(-op.beta) + 2 * x * back


def _normalize(call: Reread) -> list[Tensor]:
    """The norm is kept; the diff of the scale reads the top.

    Source: weiliu89/caffe normalize_layer.cpp, Backward_cpu.
    """
    op, (x,), (y,), (diff,) = call.layer.options(Normalize), call.now, call.tops, call.diffs
    axes = tuple(range(1, x.dim())) if op.across_spatial else (1,)
    scale = call.module.param("weight")
    square = call.then[0].square().sum(axes, keepdim=True) + op.eps
    along = x * (x * diff).sum(axes, keepdim=True) / square
    spread = scale if op.channel_shared else scale.reshape(-1, *[1] * (x.dim() - 2))
    by_channel = (y * diff).transpose(0, 1).flatten(1).sum(1)
    of_scale = (by_channel.sum() if op.channel_shared else by_channel) / scale
    return [(diff - along) / square.sqrt() * spread, of_scale]


def _quotients(call: Reread) -> list[Tensor]:
    return [call.tops[0] / x * call.diffs[0] for x in call.now]


def _by_mask(call: Reread) -> list[Tensor]:
    """MAX pooling whose second top has the positions of the maxima, and is read again."""
    shape, (_, mask) = call.then[0].shape, call.tops
    index, size = mask.long().flatten(2), shape[2] * shape[3]
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= size):
        found = f"{int(index.min())} to {int(index.max())}"
        message = f"the mask holds {found}; expected 0 to {size - 1}"
        raise LayerError(call.layer.prototxt_name, call.layer.type, message)
    diff = torch.zeros(*shape[:2], size).to(mask).scatter_add_(2, index, call.diffs[0].flatten(2))
    return [diff.view(shape)]


def _sigmoid_loss(call: Reread) -> list[Tensor]:
    """Sigmoid and divisor are kept, the targets are read again."""
    op = call.layer.options(SigmoidCrossEntropyLoss)
    x, old, target = call.then[0], call.then[1].view_as(call.then[0]), call.now[1]
    diff = (x.sigmoid() - target.view_as(x)) * call.diffs[0]
    if call.layer.dialect != "bvlc":
        return [diff / len(x)]
    old_counted, counted = (
        torch.ones_like(t, dtype=torch.bool) if op.ignore_label is None
        else t.long() != op.ignore_label for t in (old, target.view_as(x))
    )  # fmt: skip
    return [diff.masked_fill(~counted, 0) / divisor(op.normalization, old_counted, x)]


_FORMULAS: dict[str, Callable[[Reread], list[Tensor]]] = {
    "Eltwise": _quotients, "LRN": _lrn, "LSTMUnit": _lstm_unit, "MVN": _mvn,
    "Normalize": _normalize, "Pooling": _by_mask,
    "SigmoidCrossEntropyLoss": _sigmoid_loss, "Softmax": _softmax,
}  # fmt: skip


def hinge_margins(scores: Tensor, labels: Tensor) -> Tensor:
    """HingeLoss's first bottom's diff after forward: max(0, 1 - s), or 1 + s for other classes.

    Args:
        scores: (N, ...).
        labels: N whole numbers.
    """
    flat = by_item(scores)
    return (1 + _negated_at_labels(flat, labels)).clamp(min=0).view_as(scores)


def hinge_diff(left: Tensor, labels: Tensor, diff: float, norm: str) -> Tensor:
    """The diff of HingeLoss's first bottom, from the diff before backward."""
    signed = _negated_at_labels(by_item(left), labels)
    if norm == "L1":
        signed = signed.sign()
    return (signed * (diff / len(left) * (1 if norm == "L1" else 2))).view_as(left)


def _negated_at_labels(flat: Tensor, labels: Tensor) -> Tensor:
    index = labels.long().flatten()[:, None]
    return flat.scatter(1, index, -flat.gather(1, index))
