"""Methods that Net had in the pycaffe of DeepLab v1.

Phase and mode are functions of the module ``caffe`` now, preprocessing is ``caffe.io.Transformer``.

Source: DeepLab v1, python/caffe/pycaffe.py, _caffe.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.live.blob import Floats
from caffe_port.live.transformer import Transformer

if TYPE_CHECKING:
    from caffe_port.live.net import Net

_Array = npt.NDArray[Any]


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


def _transformer(net: Net) -> Transformer:
    """The net's transformer, over the present shapes of its inputs; a Classifier has its own."""
    shapes = {name: tuple(net.blobs[name].shape) for name in net.inputs}
    if not hasattr(net, "transformer"):
        net.transformer = Transformer(shapes)
        for name, shape in shapes.items():
            if len(shape) == 4:
                net.transformer.set_transpose(name, (2, 0, 1))
    net.transformer.inputs = shapes
    return net.transformer


def set_mean(net: Net, input_: str, mean: _Array, mode: str = "elementwise") -> None:
    """Sets the mean that ``preprocess`` subtracts.

    Args:
        input_: name of an input blob.
        mean: (K, H, W), resized to the input where its size differs; (K,) too.
        mode: 'elementwise', or 'channel' for the average of each channel.
    Raises:
        UsageError: another mode.
        ValueError: no such input, or a mean of another number of axes.
    """
    if mode not in ("elementwise", "channel"):
        raise UsageError(f"set_mean: mode is {mode!r}; expected 'elementwise' or 'channel'")
    _transformer(net).set_mean(input_, mean if mode == "elementwise" else mean.mean(1).mean(1))


def set_input_scale(net: Net, input_: str, scale: float) -> None:
    """Sets the factor after the mean; see ``Transformer.set_input_scale``."""
    _transformer(net).set_input_scale(input_, scale)


def set_raw_scale(net: Net, input_: str, scale: float) -> None:
    """Sets the factor before the mean; see ``Transformer.set_raw_scale``."""
    _transformer(net).set_raw_scale(input_, scale)


def set_channel_swap(net: Net, input_: str, order: Sequence[int]) -> None:
    """Sets the order of channels: (2, 1, 0) turns RGB into BGR."""
    _transformer(net).set_channel_swap(input_, order)


def preprocess(net: Net, input_name: str, input_: _Array) -> Floats:
    """An image (H', W', K) as the (K, H, W) that the input wants."""
    return _transformer(net).preprocess(input_name, input_)


def deprocess(net: Net, input_name: str, input_: _Array) -> _Array:
    """The image (H, W, K) that an input blob's (K, H, W) came from, but for its size."""
    return _transformer(net).deprocess(input_name, input_)


def mean(net: Net) -> dict[str, _Array]:
    """Input name -> what ``set_mean`` set."""
    return _transformer(net).mean


def input_scale(net: Net) -> dict[str, float]:
    """Input name -> what ``set_input_scale`` set."""
    return _transformer(net).input_scale


def raw_scale(net: Net) -> dict[str, float]:
    """Input name -> what ``set_raw_scale`` set."""
    return _transformer(net).raw_scale


def channel_swap(net: Net) -> dict[str, Sequence[int]]:
    """Input name -> what ``set_channel_swap`` set."""
    return _transformer(net).channel_swap
