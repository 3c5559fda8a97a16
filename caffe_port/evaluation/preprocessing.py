"""What is subtracted from an image and multiplied with it before the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from caffe_port.data.images import Bytes
from caffe_port.errors import DataError, UsageError, option
from caffe_port.evaluation.network import VOC_MEAN, Floats, Settings, data_blob

if TYPE_CHECKING:
    from caffe_port.model_info import ModelInfo
    from caffe_port.net import Net
    from caffe_port.proto import caffe_pb2
    from caffe_port.spec import NetSpec

Mean = tuple[float, float, float]  # blue, green, red


def preprocessing(net: Net, mean: Mean | None) -> tuple[Mean, float]:
    """The mean and the scale of images: of ``net.info``, else the data layer's, else VOC's and 1.

    Args:
        net: the network.
        mean: blue, green, red, in place of all of these.
    Raises:
        UsageError: the data layer subtracts an image, and no mean is given.
    """
    return preprocessing_of(net.spec, net.info, mean)


def preprocessing_of(spec: NetSpec, info: ModelInfo, mean: Mean | None) -> tuple[Mean, float]:
    """``preprocessing`` of a net that is not built."""
    own, scale = data_preprocessing(spec)
    scale = (1.0 if scale is None else scale) if info.scale is None else info.scale
    mean = info.mean if mean is None else mean
    if mean is None and (file := _data_layer(spec).transform_param.mean_file):
        raise UsageError(
            f"the net's data layer subtracts the image of {file}, which fits one size only; give "
            f"its mean of blue, green and red: {option('mean', 'B,G,R')}"
        )
    found = mean or own or VOC_MEAN
    if not np.isfinite(found).all():
        raise UsageError(f"the mean must be finite, got {found}")
    return found, scale


def data_preprocessing(spec: NetSpec) -> tuple[Mean | None, float | None]:
    """The mean of blue, green and red, and the scale, that the net's data layer states."""
    layer = _data_layer(spec)
    if not layer.HasField("transform_param"):
        return None, None
    values = [float(value) for value in layer.transform_param.mean_value]
    scale = float(layer.transform_param.scale)
    if len(values) not in (1, 3):
        return None, scale
    return (values[0], values[len(values) // 2], values[-1]), scale


def _data_layer(spec: NetSpec) -> caffe_pb2.LayerParameter:
    data = data_blob(spec)
    return next(layer for layer in spec.layers if data in layer.tops).message


def network_input(image_bgr: Bytes, settings: Settings) -> Floats:
    """The image minus the mean, times the scale, upper left; the padding, being the mean, is 0.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
    Returns:
        (1, 3, H, W) float32 of the crop's size; with ``inference``, of the image's own.
    Raises:
        DataError: the image is larger than the crop.
    """
    height, width = image_bgr.shape[:2]
    pixels = (image_bgr.astype(np.float32) - np.array(settings.mean, np.float32)).transpose(2, 0, 1)
    pixels *= np.float32(settings.scale)
    if settings.inference is not None:
        return np.ascontiguousarray(pixels)[None]
    crop_height, crop_width = settings.crop
    if height > crop_height or width > crop_width:
        side = 8 * -(-(max(height, width) - 1) // 8) + 1
        raise DataError(
            f"the image is {width}x{height}, larger than the crop {crop_width}x{crop_height}; "
            f"give a crop that holds every image, such as {side}, or cover it by windows: "
            f"{option('overlap', 0.33)}"
        )
    padded = np.zeros((1, 3, crop_height, crop_width), np.float32)
    padded[0, :, :height, :width] = pixels
    return padded
