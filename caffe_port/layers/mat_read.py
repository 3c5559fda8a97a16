"""MatRead: blobs read from MATLAB files."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.errors import CaffePortError, LayerError
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.mat_read import MatRead as Options


@register_layer("MatRead")
class MatRead(Layer):
    """Batches of what MatWrite wrote item by item: `<prefix><id>_blob_<i>.mat` for top i.

    Ids come from the list, which starts over at its end, or are iter_<n>; upstream's set-up crashes
    without a list.

    Source: DeepLab v2 mat_read_layer.cpp, matio_io.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.items = 0
        self.names: list[str] | None = None
        self.opened = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        if not self.opened:
            with named(self.spec):
                self.names = op.names()
            self.opened = True
        items = range(self.items, self.items + op.batch_size)
        tops = tuple(
            torch.cat([self._read(op.path(self.names, item, i), i) for item in items])
            for i in range(op.count)
        )
        self.items += op.batch_size
        return tops

    def _read(self, path: str, top: int) -> Tensor:
        from caffe_port.data.mat import read_mat

        try:
            blob = read_mat(path)
        except CaffePortError as error:
            raise LayerError(self.spec.name, self.spec.type, str(error)) from error
        wanted = (1, *self.spec.top_shapes[top][1:])
        if blob.shape != wanted:
            message = f"'{path}' holds a blob of shape {blob.shape}; expected {wanted}"
            raise LayerError(self.spec.name, self.spec.type, message)
        return torch.from_numpy(blob)
