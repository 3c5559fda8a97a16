"""A stand-in for pycaffe: as much of it as tools/record_caffe.py uses.

The net computes y = w * x, and with "loss" in the prototxt also 0.5 * sum(y^2). Other words in the
prototxt add layers or change them, see ``Net``. It leaves zeros as Caffe does where nothing asks
for a diff, and stops where Caffe aborts.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np

__version__ = "1.0.0-fake"
TRAIN, TEST = 0, 1
mode: list[str] = []
seeds: list[int] = []


def imread(path, as_gray=False):
    """Half blue-green; two rows are 0 in all colours. Newer skimage spells it as_gray."""
    return np.full((4, 4), 0.25) if as_gray else np.full((4, 4, 3), [0.0, 0.5, 1.0])


def load_image(path, color=True):
    image = io.skimage.io.imread(path, as_grey=not color)
    return image if color else image[:, :, np.newaxis]


io = SimpleNamespace(
    skimage=SimpleNamespace(io=SimpleNamespace(imread=imread)),
    load_image=load_image,
    resize_image=lambda image, size: np.full((*size, image.shape[2]), image[0, 0]),
)


def set_mode_cpu():
    mode.append("cpu")


def set_random_seed(seed):
    seeds.append(seed)


class Blob:
    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.values, self.diff = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    @property
    def shape(self):
        return self.values.shape

    @property
    def count(self):
        return self.values.size

    @property
    def data(self):
        assert self.count, "Caffe aborts: Check failed: data_"
        return self.values


class Net:
    """Words of the prototxt: "loss", "accuracy" and "hinge" (layers that read a label too), "data
    layer" or "memory" instead of an input, "in place" (the data layer's top is halved), "force",
    "learned" (a Parameter layer with a loss weight), "grey", "nothing" (a batch of 0), "abort"
    (when the layer "scale" runs)."""

    def __init__(self, prototxt, *rest):
        with open(prototxt) as file:
            self.text = file.read()
        self.phase = rest[-1]
        self.weights = rest[0] if len(rest) == 2 else None
        has = self.text.__contains__
        source = "Data" if has("data layer") else "MemoryData" if has("memory") else "Input"
        labelled = has("accuracy") or has("hinge") or source == "MemoryData"
        rows = [("x", source, [], ["x", "label"] if labelled else ["x"])]
        rows += [("half", "Power", ["x"], ["x"])] if has("in place") else []
        rows += [("scale", "Scale", ["x"], ["out/y"])]
        rows += [("loss", "EuclideanLoss", ["out/y"], ["loss"])] if has("loss") else []
        rows += [("hinge", "HingeLoss", ["out/y", "label"], ["h"])] if has("hinge") else []
        rows += [("accuracy", "Accuracy", ["out/y", "label"], ["acc"])] if has("accuracy") else []
        rows += [("p", "Parameter", [], ["p"])] if has("learned") else []
        self.rows = rows
        self.layers = [SimpleNamespace(type=kind) for _, kind, _, _ in rows]
        self._layer_names = [name for name, _, _, _ in rows]
        tops = [top for row in rows for top in row[3]]
        shape = (0 if has("nothing") else 2, 1 if has("grey") else 3, 4, 5)
        small = {"loss": (), "h": (), "acc": (), "label": (2,)}
        self.blobs = OrderedDict((top, Blob(*small.get(top, shape))) for top in tops)
        self.params = OrderedDict(scale=[Blob(1)])
        if has("learned"):  # its top is its parameter, diff and all
            self.params["p"] = [self.blobs["p"]]
            self.blobs["p"].diff[...] = 0.25
        self.params["scale"][0].data[:] = 3
        self.params["scale"][0].diff[:] = 77  # left over from an earlier pass
        self.blob_loss_weights = dict.fromkeys(self.blobs, 0)
        if has("learned"):
            self.blob_loss_weights["p"] = 0.25
        if has("loss"):
            self.blob_loss_weights["loss"] = 0.5
            self.blobs["loss"].diff[...] = 0.5
        read = {bottom for row in rows for bottom in row[2]}
        self.outputs = [top for top in self.blobs if top not in read]
        self.inputs = rows[0][3] if source == "Input" else []

    def _bottom_ids(self, index):
        return [list(self.blobs).index(name) for name in self.rows[index][2]]

    def _top_ids(self, index):
        return [list(self.blobs).index(name) for name in self.rows[index][3]]

    def reshape(self):
        self.blobs["out/y"].reshape(*self.blobs["x"].shape)

    def set_input_arrays(self, data, labels):
        assert labels.shape == (len(data), 1, 1, 1)
        self.arrays = data, labels

    def _forward(self, first, last):
        assert first == last
        name, kind = self.rows[first][:2]
        blobs, w = self.blobs, self.params["scale"][0].data
        if kind == "Data":
            blobs["x"].data[...] += 9  # the next batch
        elif kind == "MemoryData":
            blobs["x"].data[...] = self.arrays[0]
            blobs["label"].reshape(len(self.arrays[0]), 1, 1, 1)
            blobs["label"].data[...] = self.arrays[1]
        elif name == "half":
            blobs["x"].data[...] *= 0.5
        elif name == "scale":
            if "abort" in self.text:
                os.abort()
            if blobs["x"].count:
                blobs["out/y"].data[...] = w * blobs["x"].data
            if self.phase == TRAIN:
                w[:] = 4
        elif name == "loss":
            blobs["loss"].data[...] = 0.5 * (blobs["out/y"].data ** 2).sum()
        elif name == "hinge":
            blobs["out/y"].diff[...] = 1 + blobs["out/y"].data  # scratch

    def _backward(self, first, last):
        assert first == last
        name, kind = self.rows[first][:2]
        force = "force" in self.text
        assert not (force and kind == "Accuracy"), "Caffe aborts: Not Implemented Yet"
        if not force and "loss" not in self.text:
            return
        x, y, scale = self.blobs["x"], self.blobs["out/y"], self.params["scale"][0]
        if name == "loss":
            y.diff[...] = self.blobs["loss"].diff * y.data
        elif name == "scale":
            scale.diff[...] += (y.diff * x.data).sum()
            if force:
                x.diff[...] = scale.data * y.diff
        elif name == "half":
            x.diff[...] *= 0.5
