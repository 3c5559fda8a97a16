"""A training's figures as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.solver.watching import Step


class TensorBoard:
    """Writes events as the training goes, until ``close``.

    Args:
        folder: where the event file is made.
    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                f"-tensorboard needs the package tensorboard: pip install tensorboard ({error})"
            ) from None
        make: Any = SummaryWriter
        self._writer = make(folder)

    def step(self, step: Step) -> None:
        """Loss and rate."""
        self._writer.add_scalar("train/smoothed_loss", step.loss, step.iteration)
        self._writer.add_scalar("train/lr", step.rate, step.iteration)

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """The outputs of a net."""
        for name, value in values.items():
            self._writer.add_scalar(f"{what}/{name}", value, iteration)

    def saved(self) -> None:
        """Puts what was written on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the event file."""
        self._writer.close()
