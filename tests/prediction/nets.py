"""Nets small enough for slow references, and folders of images for them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

import caffe_port as cp

# shrinks by 2, so it takes odd sizes; classes differ by colour and place
HALVING = """
name: "halving"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 17 dim: 21 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1
    weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1
    weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "full" type: "Interp" bottom: "score" top: "full" interp_param { zoom_factor: 2 } }
"""


def halving(folder, text=HALVING):
    """A net of ``HALVING`` with weights that are the same in every run."""
    path = folder / "halving.prototxt"
    path.write_text(text)
    torch.manual_seed(3)
    return cp.load(path)


def model_file(folder, text=HALVING):
    """The same net as a file."""
    path = folder / "halving.pt"
    halving(folder, text).save(path)
    return path


def photo(height, width, seed=0):
    """(height, width, 3) uint8: smooth colours with noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(y / a + x / b + seed) for a, b in ((5, 9), (11, 4), (7, 7))]
    noisy = np.stack(planes, 2) + random.normal(0, 20, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_photos(folder, sizes, suffix=".png"):
    """Files photo0.png, photo1.png and so on; gives back their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (height, width) in enumerate(sizes):
        paths.append(folder / f"photo{number}{suffix}")
        Image.fromarray(photo(height, width, number)).save(paths[-1])
    return paths
