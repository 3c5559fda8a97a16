"""Input: the net hands over what the caller gave."""

from __future__ import annotations

from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer, register_layer


@register_layer("Input")
class Input(Layer):
    """Has nothing to compute. Source: BVLC/caffe input_layer.hpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Raises LayerError: its tops have to be given to the net."""
        tops = ", ".join(f"'{top}'" for top in self.spec.tops)
        raise LayerError(self.spec.name, self.spec.type, f"no data given for {tops}")
