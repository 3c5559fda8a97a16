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
        bottoms = values[len(layer.spec.params) :]
        layer.fill(layer.bottoms, bottoms)
        with users_code(layer.what):
            layer.code.reshape(layer.bottoms, layer.tops)
            layer.code.forward(layer.bottoms, layer.tops)
        layer.write_back(bottoms)
        device = values[0].device if values else torch.device("cpu")
        tops = tuple(torch.from_numpy(top.data.copy()).to(device) for top in layer.tops)
        ctx.layer = layer
        ctx.save_for_backward(*values, *tops)
        return tops

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        layer = ctx.layer
        params = layer.bind()
        values, tops = ctx.saved_tensors[: -len(diffs)], ctx.saved_tensors[-len(diffs) :]
        layer.fill(layer.bottoms, values[len(params) :])  # another call may have come between
        layer.fill(layer.tops, tops)
        for blob in params:
            blob.diff[...] = 0
        for top, diff in zip(layer.tops, diffs, strict=True):
            top.diff[...] = diff.cpu().numpy()
        needed = ctx.needs_input_grad[1:]
        with named(layer.spec), users_code(layer.what):
            layer.code.backward(layer.tops, list(needed[len(params) :]), layer.bottoms)
        found = [blob.diff for blob in (*params, *layer.bottoms)]
        return None, *(
            torch.from_numpy(diff.copy()).to(value) if wanted else None
            for diff, value, wanted in zip(found, values, needed, strict=True)
        )


@register_layer("Python")
class Python(Layer):
    """Calls the user's object with blobs, as pycaffe did; its blobs are this layer's parameters.

    The object's ``reshape`` runs before each ``forward``. Its ``backward`` writes bottoms' diffs
    and, for parameters, ``self.blobs[i].diff``. Other readers of a bottom see what its ``forward``
    writes into it.

    Attributes:
        code: the user's object.
        what: its class and module, for messages.
        bottoms, tops: the blobs with which all its methods are called.
    Source: BVLC/caffe python_layer.hpp.
    """

    fills_itself: ClassVar[bool] = True
    writes_bottoms: ClassVar[bool] = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.options(Options)
        self.what = f"class '{options.layer}' of module '{options.module}'"
        made = options.code.take(spec.bottom_shapes)
        self.code: Any = made.layer
        self.bottoms, self.tops = made.bottoms, made.tops
        with torch.no_grad():
            for param, blob in zip(self.parameters(), self.code.blobs, strict=True):
                param.copy_(torch.from_numpy(blob.data))
        self.code.blobs.belongs_to(self)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        self.bind()
        params = [self.get_parameter(param.name) for param in self.spec.params]
        return _Call.apply(self, *params, *bottoms)  # type: ignore[no-any-return,no-untyped-call]

    def bind(self) -> BlobVec:
        """Makes the object's blobs those of the present parameters; returns them.

        Parameters are replaced: by another layer's when shared, on a device, in a copy of the net.
        """
        from caffe_port.live.blob import ParamBlob

        blobs: BlobVec = self.code.blobs
        blobs.refresh()
        for i, spec in enumerate(self.spec.params):
            param, blob = self.get_parameter(spec.name), blobs[i]
            if not (isinstance(blob, ParamBlob) and blob.holds(param)):
                blobs.rebind(i, ParamBlob(param))
        return blobs

    def fill(self, blobs: Sequence[Blob], values: Sequence[Tensor]) -> None:
        """Gives blobs the values, shape and dtype of tensors."""
        kinds = [value.detach().cpu().numpy().dtype for value in values]
        for blob in self.tops if kinds else ():
            blob.retype(kinds[0])
        for blob, value, kind in zip(blobs, values, kinds, strict=True):
            blob.retype(kind)
            blob.assign(value)

    def write_back(self, bottoms: Sequence[Tensor]) -> None:
        """Copies what the object wrote into its bottoms to the tensors that other layers read.

        Autograd does not notice: as in Caffe, backward of earlier layers reads the new values.
        """
        for blob, value in zip(self.bottoms, bottoms, strict=True):
            if any(blob is top for top in self.tops):
                continue
            written = torch.from_numpy(blob.data).to(value.device).view(value.shape)
            if not torch.equal(written, value.detach()):
                value.data.copy_(written)
