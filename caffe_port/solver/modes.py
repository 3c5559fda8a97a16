"""Modes of the solver: device, number formats, where parameters and blobs are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.live.net import Net
from caffe_port.solver.steps import Learnable

# Ways to train that are quicker or take less memory, and what each costs in closeness to Caffe.

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LOSSES = "losses and weights are close to Caffe's, not its digits"


@dataclass(frozen=True)
class Modes:
    """How a training computes; by default as Caffe does, digit for digit.

    Attributes:
        amp: 'bf16' or 'fp16': products in 16 bits, parameters and losses in 32; fp16 with a loss
            scale.
        channels_last: blobs in memory pixel by pixel, which convolutions may do quicker.
        compile: layers compiled together by torch.compile.
        checkpoint: keeps few blobs for the backward pass and computes the others again, with the
            same dropout masks: less memory, the same numbers.
    Raises:
        UsageError: another amp, or compile with checkpoint.
    Examples:
        >>> from caffe_port.solver import Modes
        >>> Modes(amp="bf16").dtype
        torch.bfloat16
    """

    amp: str = ""
    channels_last: bool = False
    compile: bool = False
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.amp and self.amp not in _TYPES:
            raise UsageError(f"amp is '{self.amp}'; expected {' or '.join(_TYPES)}")
        if self.compile and self.checkpoint:
            raise UsageError("compile and checkpoint cut a net in different ways; give one of them")

    @property
    def dtype(self) -> torch.dtype | None:
        """In which products are computed; None for Caffe's."""
        return _TYPES.get(self.amp)

    def remarks(self) -> list[str]:
        """What the log says of them."""
        found = []
        if self.amp:
            found.append(f"-amp {self.amp}: products in {self.amp}: {_LOSSES}.")
        if self.channels_last:
            found.append(f"-channels_last: other orders of summation: {_LOSSES}.")
        if self.compile:
            found.append(f"-compile: layers are compiled together: {_LOSSES}.")
        if self.checkpoint:
            found.append("-checkpoint: blobs are computed again for backward: the same numbers.")
        return found


class LossScale:
    """Keeps small fp16 diffs from vanishing: losses are multiplied, diffs divided again.

    A step whose diffs are not finite is left out and halves the scale; 2,000 good ones in a row
    double it. Source: Micikevicius et al., arXiv:1710.03740; torch.amp.GradScaler's figures.
    """

    def __init__(self) -> None:
        self.scale, self.good = 65536.0, 0

    def unscale(self, diffs: list[Tensor]) -> bool:
        """Divides the diffs, in place.

        Returns:
            Whether they are finite; otherwise the step is to be left out.
        """
        finite = all(bool(torch.isfinite(diff).all()) for diff in diffs)
        for diff in diffs:
            diff.mul_(1 / self.scale)
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good == 2000:
            self.scale, self.good = self.scale * 2, 0
        return finite

    def state(self) -> list[float]:
        """For the side file."""
        return [self.scale, self.good]

    def set_state(self, state: list[float]) -> None:
        """Goes on as another one that gave ``state``."""
        self.scale, self.good = float(state[0]), int(state[1])


# Where parameters, diffs and histories are while a training steps.
#
# Between steps they are in the blobs' main memory, where scripts look at them. A training on a GPU
# takes them there and brings them back, not at every step but at the ends of ``step``.


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
