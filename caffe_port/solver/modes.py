"""Ways to train that are quicker or take less memory, and what each costs in closeness to Caffe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_port.errors import UsageError

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
