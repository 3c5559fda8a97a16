"""HDF5Output: a file with two datasets."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.hdf5_output import HDF5Output as Options


@register_layer("HDF5Output")
class HDF5Output(Layer):
    """Writes the bottoms as the datasets `data` and `label`, with four axes each.

    Source: BVLC/caffe hdf5_output_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.data.hdf5 import write_pair

        op = self.spec.options(Options)
        data, label = (blob.detach().float().cpu().numpy() for blob in bottoms)
        write_pair(op.file_name, data, label)
        return ()
