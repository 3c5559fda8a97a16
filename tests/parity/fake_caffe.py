"""A stand-in for pycaffe: as much of its face as tools/record_caffe.py uses.

The net is y = w * x in place scaled by 2, with a loss 0.5 * sum(y^2) when the prototxt says so.
"""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np

__version__ = "1.0.0-fake"
TRAIN, TEST = 0, 1
io = SimpleNamespace(
    load_image=lambda path: np.full((4, 4, 3), [0.0, 0.5, 1.0]),
    resize_image=lambda image, size: np.full((*size, 3), image[0, 0]),
)
mode: list[str] = []
seeds: list[int] = []


def set_mode_cpu():
    mode.append("cpu")


def set_random_seed(seed):
    seeds.append(seed)


class Blob:
    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.data, self.diff = np.zeros(shape, np.float32), np.zeros(shape, np.float32)


class Net:
    """Has a data layer instead of an input when the prototxt says "data layer"."""

    def __init__(self, prototxt, *rest):
        with open(prototxt) as file:
            text = file.read()
        self.phase = rest[-1]
        self.weights = rest[0] if len(rest) == 2 else None
        self.has_loss, self.has_reader = "loss" in text, "data layer" in text
        self.blobs = OrderedDict(x=Blob(2, 3, 4, 5))
        self.blobs["out/y"] = Blob(2, 3, 4, 5)
        self.params = OrderedDict(scale=[Blob(1)])
        self.params["scale"][0].data[:] = 3
        self.params["scale"][0].diff[:] = 77  # left over from an earlier pass
        self.outputs = ["out/y"]
        if self.has_loss:
            self.blobs["loss"] = Blob()
            self.blobs["loss"].diff[...] = 0.5
            self.outputs = ["loss"]
        self.inputs = [] if self.has_reader else ["x"]
        self._layer_names = ["x", "scale", "loss"][: 2 + self.has_loss]
        self.bottom_names = {"x": [], "scale": ["x"], "loss": ["out/y"]}
        self.top_names = {"x": ["x"], "scale": ["out/y"], "loss": ["loss"]}

    def reshape(self):
        self.blobs["out/y"].reshape(*self.blobs["x"].data.shape)

    def forward(self):
        if self.has_reader:
            self.blobs["x"].data[...] = 9
        self.blobs["out/y"].data[...] = self.params["scale"][0].data * self.blobs["x"].data
        if self.phase == TRAIN:
            self.params["scale"][0].data[:] = 4
        if self.has_loss:
            self.blobs["loss"].data[...] = 0.5 * (self.blobs["out/y"].data ** 2).sum()

    def backward(self):
        y = self.blobs["out/y"]
        if self.has_loss:
            y.diff[...] = self.blobs["loss"].diff * y.data
        self.blobs["x"].diff[...] = self.params["scale"][0].data * y.diff
        self.params["scale"][0].diff[...] += (y.diff * self.blobs["x"].data).sum()
