"""The bundled model on its validation images, and what changes when something else is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import caffe_port
from caffe_port.evaluation.scoring import ConfusionMatrix
from tests.goldens_dir import SHAPES

RUN = SHAPES / "caffe_run"
CLASSES, CANVAS = 6, 161
MEAN = np.array([104.008, 116.669, 122.675], np.float32)

Labels: TypeAlias = "np.ndarray"
Row: TypeAlias = dict[str, float | str]


class Sample(NamedTuple):
    """An image (3, H, W), BGR less the mean, its pixels (H, W, 3) uint8 BGR, and its labels."""

    x: Tensor
    pixels: np.ndarray
    truth: Labels


def samples(names: Sequence[str] = ()) -> list[Sample]:
    """Some images, by default those of validation."""
    found = []
    for name in names or (SHAPES / "val_id.txt").read_text().split():
        with Image.open(SHAPES / "JPEGImages" / f"{name}.jpg") as file:
            pixels = np.array(file.convert("RGB"))[..., ::-1].copy()
        with Image.open(SHAPES / "SegmentationClass" / f"{name}.png") as file:
            truth = np.array(file)
        x = torch.from_numpy((pixels.astype(np.float32) - MEAN).transpose(2, 0, 1).copy())
        found.append(Sample(x, pixels, truth))
    return found


def padded(x: Tensor, size: int = CANVAS) -> Tensor:
    """On the network's canvas, whose rest is the mean: (1, 3, size, size)."""
    return functional.pad(x, (0, size - x.shape[2], 0, size - x.shape[1]))[None]


def resized(x: Tensor, size: tuple[int, int], grid: str = "corners") -> Tensor:
    """Bilinear on Caffe's grid of aligned corners, on torch's half pixels, or asymmetric."""
    if grid != "asymmetric":
        return functional.interpolate(x, size, mode="bilinear", align_corners=grid == "corners")
    for axis, length in zip((2, 3), size, strict=True):
        old = x.shape[axis]
        place = (torch.arange(length) * (old / length)).clamp(max=old - 1)
        first = place.floor().long()
        share = (place - first).reshape((-1, 1) if axis == 2 else (-1,))
        second = (first + 1).clamp(max=old - 1)
        x = x.index_select(axis, first) * (1 - share) + x.index_select(axis, second) * share
    return x


def zoomed(length: int) -> int:
    """Caffe's Interp with zoom_factor 8."""
    return length + (length - 1) * 7


def labels_of(scores: Tensor, sample: Sample) -> Labels:
    """The labels of the image's own part of a canvas."""
    height, width = sample.truth.shape
    return scores[0, :, :height, :width].argmax(0).numpy()


def mean_iou(truths: list[Labels], maps: list[Labels]) -> float:
    """Over all pixels of the data set that are not void, in per cent."""
    matrix = ConfusionMatrix(CLASSES)
    for truth, labels in zip(truths, maps, strict=True):
        matrix.add(truth, labels)
    return round(100 * matrix.mean_iou(), 3)


class Bundled:
    """The bundled model: what Caffe computes, and rows for what differs."""

    def __init__(self) -> None:
        weights = RUN / "model" / "train_iter_2400.caffemodel"
        self.net = caffe_port.load(RUN / "recording" / "net.prototxt", weights)
        self.samples = samples()
        self._maps = {id(s): self.enlarged(self.scores(padded(s.x))) for s in self.samples}

    def scores(self, x: Tensor) -> Tensor:
        """Before the last Interp: (1, 6, h, w)."""
        return self.net({"data": x}, keep=["fc8_shapes"])["fc8_shapes"]

    def enlarged(self, scores: Tensor) -> Tensor:
        """The last Interp."""
        return resized(scores, (zoomed(scores.shape[2]), zoomed(scores.shape[3])))

    def maps(self, sample: Sample) -> Tensor:
        """Caffe's scores of an image of ``samples``."""
        return self._maps[id(sample)]

    def caffe(self, sample: Sample) -> Labels:
        """Caffe's labels."""
        return labels_of(self.maps(sample), sample)

    def rows(
        self,
        theirs: Mapping[str, Callable[[Sample], Labels]],
        caffe: Callable[[Sample], Labels] | None = None,
    ) -> dict[str, Row]:
        """How many labels each changes, and what that does to the mean IoU."""
        truths = [sample.truth for sample in self.samples]
        ours = [(caffe or self.caffe)(sample) for sample in self.samples]
        pixels, best = sum(truth.size for truth in truths), mean_iou(truths, ours)
        rows: dict[str, Row] = {}
        for name, function in theirs.items():
            found = [function(sample) for sample in self.samples]
            changed = sum(int((a != b).sum()) for a, b in zip(ours, found, strict=True))
            rows[name] = {
                "labels changed, %": round(100 * changed / pixels, 3),
                "mean IoU of Caffe": best,
                "mean IoU there": mean_iou(truths, found),
            }
        return rows

    def changed(self, sample: Sample, layer: str, change: Callable[[Tensor], Tensor]) -> Labels:
        """The labels with another computation in a layer."""
        handle = self.net.module(layer).register_forward_hook(
            lambda module, bottoms, tops: (change(bottoms[0]),)
        )
        try:
            return labels_of(self.enlarged(self.scores(padded(sample.x))), sample)
        finally:
            handle.remove()
