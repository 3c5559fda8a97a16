"""The parameters that a solver updates, wherever they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from caffe_port.live.blob import Blob
from caffe_port.live.net import Net


class Learnable:
    """A parameter that the solver updates.

    Attributes:
        blob: its data and diff.
        lr_mult, decay_mult: its factors.
        away: the parameter, while it is on a GPU and the blob waits.
    """

    def __init__(self, blob: Blob, lr_mult: float, decay_mult: float) -> None:
        self.blob, self.lr_mult, self.decay_mult = blob, lr_mult, decay_mult
        self.away: Parameter | None = None

    @property
    def data(self) -> Tensor:
        """Its values, live."""
        return self.away.detach() if self.away is not None else torch.from_numpy(self.blob.data)

    @property
    def diff(self) -> Tensor:
        """Its diff, live."""
        if self.away is None:
            return torch.from_numpy(self.blob.diff)
        if self.away.grad is None:
            self.away.grad = torch.zeros_like(self.away)
        return self.away.grad

    def come_home(self) -> None:
        """Takes the diff back into the blob."""
        self.blob.take_diff(self.diff.cpu())
        self.away = None


def learnable(net: Net) -> list[Learnable]:
    """A net's parameters in order, shared ones once."""
    return [
        Learnable(net._own_params[layer.name][i], param.lr_mult, param.decay_mult)
        for layer in net._net.spec.layers
        for i, param in enumerate(layer.params)
        if param.owner is None
    ]
