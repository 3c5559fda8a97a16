"""Caffe's solvers: learning rates, gradients, one update rule per solver type, and the loop."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.solver.modes import Modes
    from caffe_port.solver.training import Training

_MODULES = {"Modes": "modes", "Training": "training"}
__all__ = ["Modes", "Training"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
