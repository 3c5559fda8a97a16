"""What real DeepLab Caffe made of the DenseCRF layer, and the bottoms it was given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe_port.crf import CRFParameters

MEAN_BGR = np.array([104.008, 116.669, 122.675], np.float32)


@dataclass(frozen=True)
class Recording:
    """The layer's bottoms and options, and Caffe's answer."""

    scores: np.ndarray
    data_dim: np.ndarray
    data: np.ndarray
    parameters: CRFParameters
    output_probability: bool
    labels: np.ndarray
    top: np.ndarray
    step: int  # top holds every step-th row and column


def read(folder: Path) -> Recording:
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "case.npz") as arrays:
        z = {name: arrays[name] for name in arrays.files}
    scores = interp(z["scores"], zoom=8)
    settings = case["pos_w,pos_xy_std,bi_w,bi_xy_std,bi_rgb_std"]
    return Recording(
        scores=scores,
        data_dim=z["data_dim"].reshape(1, 1, 1, 2).astype(np.float32),
        data=data_blob(z["image_rgb"], *scores.shape[2:]),
        parameters=CRFParameters(*settings, iterations=case["iterations"]),
        output_probability="output_probability: true" in (folder / "net.prototxt").read_text(),
        labels=z["labels"],
        top=z["crf_inf"] if "crf_inf" in z else z["crf_inf_every5"],
        step=1 if "crf_inf" in z else 5,
    )


def data_blob(image_rgb, height, width):
    """(1, 3, height, width): BGR minus the mean, cropped or padded with zeros."""
    data = np.zeros((1, 3, height, width), np.float32)
    centred = (image_rgb[:height, :width, ::-1].astype(np.float32) - MEAN_BGR).transpose(2, 0, 1)
    data[0, :, : centred.shape[1], : centred.shape[2]] = centred
    return data


def interp(x, zoom):
    """Caffe's Interp with a zoom factor: bilinear between aligned corners, in float32."""
    (y0, y1, fy), (x0, x1, fx) = (_axis(size, zoom) for size in x.shape[2:])
    fy, gy = fy[:, None], np.float32(1) - fy[:, None]
    gx = np.float32(1) - fx
    above = gx * x[:, :, y0][..., x0] + fx * x[:, :, y0][..., x1]
    below = gx * x[:, :, y1][..., x0] + fx * x[:, :, y1][..., x1]
    return gy * above + fy * below


def _axis(size, zoom):
    length = size + (size - 1) * (zoom - 1)
    place = np.float32(size - 1) / np.float32(length - 1) * np.arange(length, dtype=np.float32)
    first = place.astype(int)
    return first, np.minimum(first + 1, size - 1), place - first.astype(np.float32)
