"""Methods that Net had in the pycaffe of DeepLab v1, where they are functions of the module now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.live import mode

if TYPE_CHECKING:
    from caffe_port.live.net import Net


def set_phase_train(net: Net) -> None:
    """Checks that the net was made for TRAIN: here a net's phase is fixed.

    Raises:
        UsageError: it was made for TEST.
    """
    _check(net, "TRAIN")


def set_phase_test(net: Net) -> None:
    """Checks that the net was made for TEST, as Net(prototxt, weights) makes it.

    Raises:
        UsageError: it was made for TRAIN.
    """
    _check(net, "TEST")


def _check(net: Net, phase: str) -> None:
    if net._net.spec.phase != phase:
        message = f"this net is in phase {net._net.spec.phase}; make it with caffe.{phase}"
        raise UsageError(message)


def set_mode_cpu(net: Net) -> None:
    """Same as ``caffe.set_mode_cpu``."""
    mode.set_mode_cpu()


def set_mode_gpu(net: Net) -> None:
    """Same as ``caffe.set_mode_gpu``."""
    mode.set_mode_gpu()


def set_device(net: Net, device_id: int) -> None:
    """Same as ``caffe.set_device``."""
    mode.set_device(device_id)
