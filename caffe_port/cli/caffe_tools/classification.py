"""The program ``classification``: the five best classes of an image.

Source: BVLC/caffe examples/cpp_classification/classification.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._net import use_device
from caffe_port.cli.caffe_tools._program import GPU, expect, run
from caffe_port.cli.gflags import Flags
from caffe_port.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.data.pictures import Bytes
    from caffe_port.live.net import Net

    Floats = npt.NDArray[np.float32]

_ABOUT = (
    "classification [flags] deploy.prototxt network.caffemodel mean.binaryproto labels.txt img.jpg"
)
_MOST = 5  # classes that are shown
_GREY = np.array([3735, 19235, 9798])  # blue, green, red in OpenCV's grey, in 1 / 2^15


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.pictures import decode_picture, read_content
    from caffe_port.live.net import TEST, Net

    expect(others, 5, 5, _ABOUT)
    prototxt, weights, mean, names, image = others
    use_device(flags.gpu)
    net = Net(prototxt, TEST, weights=weights)
    _check(net, prototxt)
    _, channels, height, width = net.blobs[net.inputs[0]].data.shape
    means, labels = _means(mean, channels), _labels(names, net)
    print(f"---------- Prediction for {image} ----------")
    pixels = decode_picture(read_content(image), image)
    scores = _scores(net, _prepared(pixels, channels, height, width) - means)
    for label in np.argsort(-scores, kind="stable")[: min(_MOST, len(labels))]:
        print(f'{scores[label]:.4f} - "{labels[label]}"')


def _check(net: Net, prototxt: str) -> None:
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise UsageError(
            f"{prototxt}: inputs {net.inputs}, outputs {net.outputs}; expected one of each"
        )
    shape = net.blobs[net.inputs[0]].shape
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise UsageError(f"{prototxt}: the input is {shape}; expected (N, 1 or 3, H, W)")


def _means(path: str, channels: int) -> Floats:
    """The average of each channel over the mean image, (C, 1, 1)."""
    from caffe_port.weights import read_mean

    mean = read_mean(path)
    if len(mean) != channels:
        raise DataError(f"{path}: a mean of {len(mean)} channels; the net's input has {channels}")
    averages: Floats = mean.mean((1, 2), dtype=np.float64).astype(np.float32)[:, None, None]
    return averages


def _labels(path: str, net: Net) -> list[str]:
    """The lines of a file, one for each class."""
    from caffe_port.files import read_text

    labels, classes = read_text(path).splitlines(), net.blobs[net.outputs[0]].channels
    if len(labels) != classes:
        raise DataError(f"{path}: {len(labels)} labels; the net's output has {classes} channels")
    return labels


def _prepared(pixels: Bytes, channels: int, height: int, width: int) -> Floats:
    """An image as OpenCV reads it, (H, W, 1, 3 or 4), as the net's (C, H, W)."""
    from caffe_port.data.opencv import resize_linear

    colours = pixels[:, :, :3]
    if channels == 1 and colours.shape[2] == 3:
        grey = (colours.astype(np.int32) @ _GREY + 2**14) >> 15
        colours = grey.astype(np.uint8)[:, :, None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = np.repeat(colours, 3, 2)
    return resize_linear(colours, height, width).transpose(2, 0, 1).astype(np.float32)


def _scores(net: Net, data: Floats) -> Floats:
    net.blobs[net.inputs[0]].reshape(1, *data.shape)
    net.reshape()
    net.blobs[net.inputs[0]].data[0] = data
    scores: Floats = net.forward()[net.outputs[0]].ravel()[: net.blobs[net.outputs[0]].channels]
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run("classification", _body, {"gpu": GPU}, _ABOUT, arguments)
