"""Python: the user's own class, run on blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.python_layer import Python as Options
from caffe_port.spec.ops.python_layer import users_code

if TYPE_CHECKING:
    from caffe_port.live.blob import Blob, BlobVec


class _Call(torch.autograd.Function):
    """The user's ``forward`` and ``backward``, as one step of autograd."""

    @staticmethod
    def forward(ctx: Any, layer: Python, *values: Tensor) -> tuple[Tensor, ...]:
        count = len(layer.spec.params)
        ctx.layer, ctx.like = layer, values
        ctx.bottoms = [_blob(value) for value in values[count:]]
        ctx.tops = layer.make_tops(ctx.bottoms)
        with users_code(layer.what):
            layer.code.reshape(ctx.bottoms, ctx.tops)
            layer.code.forward(ctx.bottoms, ctx.tops)
        device = values[0].device if values else torch.device("cpu")
        # copies: the blobs stay as they are for backward
        return tuple(torch.from_numpy(top.data.copy()).to(device) for top in ctx.tops)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        layer = ctx.layer
        params = layer.bind()
        for blob in params:
            blob.diff[...] = 0
        for top, diff in zip(ctx.tops, diffs, strict=True):
            top.diff[...] = diff.cpu().numpy()
        needed = ctx.needs_input_grad[1:]
        with named(layer.spec), users_code(layer.what):
            layer.code.backward(ctx.tops, list(needed[len(params) :]), ctx.bottoms)
        found = [blob.diff for blob in (*params, *ctx.bottoms)]
        return None, *(
            torch.from_numpy(diff.copy()).to(value) if wanted else None
            for diff, value, wanted in zip(found, ctx.like, needed, strict=True)
        )


def _blob(value: Tensor) -> Blob:
    from caffe_port.live.blob import Blob

    blob = Blob((0,), value.detach().cpu().numpy().dtype)
    blob.assign(value.detach().cpu())
    return blob


@register_layer("Python")
class Python(Layer):
    """Calls the user's object with blobs, as pycaffe did; its blobs are this layer's parameters.

    The object's ``reshape`` runs before each ``forward``. Its ``backward`` writes bottoms' diffs
    and, for parameters, ``self.blobs[i].diff``.

    Attributes:
        code: the user's object.
        what: it, for messages.
    Source: BVLC/caffe python_layer.hpp.
    """

    fills_itself: ClassVar[bool] = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.options(Options)
        self.what = f"class '{options.layer}' of module '{options.module}'"
        self.code: Any = options.code.take(spec.bottom_shapes)
        with torch.no_grad():
            for param, blob in zip(self.parameters(), self.code.blobs, strict=True):
                param.copy_(torch.from_numpy(blob.data))

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        self.bind()
        params = [self.get_parameter(param.name) for param in self.spec.params]
        return _Call.apply(self, *params, *bottoms)  # type: ignore[no-any-return,no-untyped-call]

    def bind(self) -> BlobVec:
        """Makes the object's blobs those of the present parameters; returns them.

        Parameters move: to another layer's when shared, to a device, into a copy of the net.
        """
        from caffe_port.live.blob import ParamBlob

        blobs: BlobVec = self.code.blobs
        for i, spec in enumerate(self.spec.params):
            param, blob = self.get_parameter(spec.name), blobs[i]
            if not (isinstance(blob, ParamBlob) and blob.holds(param)):
                blobs[i] = ParamBlob(param)
        return blobs

    def make_tops(self, bottoms: Sequence[Blob]) -> list[Blob]:
        """Fresh blobs for the tops; in place they are the bottoms."""
        from caffe_port.live.blob import Blob

        known = dict(zip(self.spec.bottoms, bottoms, strict=True))
        like = bottoms[0].data.dtype if bottoms else None
        return [known.get(name) or Blob((0,), like) for name in self.spec.tops]
