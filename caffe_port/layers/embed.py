"""Embed."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.embed import Embed as Options


@register_layer("Embed")
class Embed(Layer):
    """Source: BVLC/caffe embed_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Looks up whole-numbered indices of any shape.

        Raises:
            LayerError: an index outside of the table.
        """
        op = self.spec.options(Options)
        index = bottoms[0].detach().long()
        wrong = (index < 0) | (index >= op.input_dim)
        if bool(wrong.any()):
            message = f"index {int(index[wrong][0])}; expected 0 to {op.input_dim - 1}"
            raise LayerError(self.spec.name, self.spec.type, message)
        rows, bias = functional.embedding(index, self.param("weight")), self.blob(1)
        return (rows if bias is None else rows + bias,)
