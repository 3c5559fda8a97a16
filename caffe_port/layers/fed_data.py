"""A data layer that cannot be run here."""

from __future__ import annotations

from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer


class FedData(Layer):
    """Never runs: a net leaves it out where one of its tops is given."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        tops = ", ".join(f"'{top}'" for top in self.spec.tops)
        message = f"its code is not run here: give the data of its tops {tops} as inputs"
        raise LayerError(self.spec.name, self.spec.type, message)
