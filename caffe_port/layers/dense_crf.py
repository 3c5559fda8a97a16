"""DenseCRF: mean field inference over the scores of a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.errors import LayerError, UsageError
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.dense_crf import DenseCRF as Options


@register_layer("DenseCRF")
class DenseCRF(Layer):
    """Has no backward, as in DeepLab. Source: DeepLab v2 densecrf_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.crf import CRFParameters
        from caffe_port.crf.layer_math import dense_crf_forward

        op = self.spec.options(Options)
        arrays = [b.detach().float().cpu().numpy() for b in bottoms]
        data = arrays[2] if len(arrays) == 3 else None
        try:
            parameters = CRFParameters(
                op.pos_w, op.pos_xy_std, op.bi_w, op.bi_xy_std, op.bi_rgb_std, op.max_iter
            )
            q = dense_crf_forward(arrays[0], arrays[1], data, parameters, op.output_probability)
        except UsageError as error:
            raise LayerError(self.spec.name, self.spec.type, str(error)) from error
        return (torch.from_numpy(q).to(bottoms[0]),)
