"""Where parameters, diffs and histories are while a training steps.

Between steps they are in the blobs' main memory, where scripts look at them. A training on a GPU
takes them there and brings them back, not at every step but at the ends of ``step``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.live.net import Net
from caffe_port.solver.learnable import Learnable


class Residence:
    """Takes a net's tensors to a device.

    Args:
        net: whose parameters and buffers.
        learnable, history: of its solver; the list is changed in place.
        device: where to.
    """

    def __init__(
        self, net: Net, learnable: list[Learnable], history: list[Tensor], device: torch.device
    ) -> None:
        self._net, self._learnable, self._history = net, learnable, history
        self.device = device
        self._home: list[tuple[Tensor, Tensor]] = []

    def leave_home(self) -> None:
        """Takes everything to the device."""
        module = self._net._net
        for tensor in (*module.parameters(), *module.buffers()):
            self._home.append((tensor, tensor.data))
            tensor.data = tensor.data.to(self.device, copy=True)
        params = {
            id(blob): param
            for layer, blobs in self._net._own_params.items()
            for blob, param in zip(blobs, module.layer_params(layer), strict=True)
        }
        for item in self._learnable:
            item.away = params[id(item.blob)]
        self._history[:] = [values.to(self.device, copy=True) for values in self._history]

    def write_home(self) -> None:
        """Brings the values home, for snapshots and tests."""
        for tensor, home in self._home:
            home.copy_(tensor.data)

    def come_home(self) -> None:
        """Brings everything back."""
        self.write_home()
        for item in self._learnable:
            item.come_home()
        for tensor, home in self._home:
            tensor.grad = None
            tensor.data = home
        self._home.clear()
        self._history[:] = [values.cpu() for values in self._history]
