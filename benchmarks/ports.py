"""What other programs compute differently from Caffe, as the share of labels that change.

Each difference is restated here from the facts of the program's source (docs/coming_from.md names
file, function and commit) and applied to the bundled model on its 60 validation images, and, where
the recordings are, to the recorded multi-scale ResNet-101. OpenCV itself runs where it is
installed. Labels are those of the image's own pixels, the void ones too; mean IoU is over the data
set, in per cent. Run it with `python -m benchmarks ports`; it measures no times.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import caffe_port
from benchmarks.measure import report, versions
from benchmarks.shapes import (
    CANVAS,
    RUN,
    Bundled,
    Labels,
    Row,
    Sample,
    labels_of,
    mean_iou,
    padded,
    resized,
)
from caffe_port.crf.pydensecrf import densecrf
from caffe_port.crf.pydensecrf.utils import unary_from_softmax
from tests.goldens_dir import cases

CRF = {"position": (3.0, 3.0), "bilateral": (49.0, 13.0, 4.0), "iterations": 10}
RECORDED_IMAGES, RECORDED_SIDES = 8, (33, 65, 97, CANVAS)  # for the recorded net

Scores: TypeAlias = Callable[[Tensor], Tensor]


def caffe_scales(scores: Scores, x: Tensor) -> Tensor:
    """DeepLab v2's test net: Interp by 3/4 and 1/2, the maximum on the grid of scale 1."""
    whole = scores(x)
    sides = [((side - 1) // 4 * 3 + 1, (side - 1) // 2 + 1) for side in x.shape[2:]]
    parts = [scores(resized(x, size)) for size in zip(*sides, strict=True)]
    size = (whole.shape[2], whole.shape[3])
    return torch.stack([whole, *(resized(part, size) for part in parts)]).amax(0)


def kazuto_scales(scores: Scores, x: Tensor, by_factor: bool = True) -> Tensor:
    """Half pixels, and sizes rounded down; Caffe's sizes with ``by_factor`` False."""
    whole = scores(x)
    size = (whole.shape[2], whole.shape[3])
    parts = []
    for factor in (0.5, 0.75):
        sides = [
            int(side * factor) if by_factor else int((side - 1) * factor) + 1
            for side in x.shape[2:]
        ]
        parts.append(scores(resized(x, (sides[0], sides[1]), "half pixels")))
    return torch.stack([whole, *(resized(part, size, "half pixels") for part in parts)]).amax(0)


def isht_scales(scores: Scores, x: Tensor) -> Tensor:
    """Aligned corners, sizes of a square from its height."""
    side = x.shape[2]
    whole = scores(x)
    size = (whole.shape[2], whole.shape[3])
    sides = [int(side * factor) + 1 for factor in (0.75, 0.5)]
    parts = [resized(scores(resized(x, (n, n))), size) for n in sides]
    return torch.stack([whole, *parts]).amax(0)


def kazuto(net: Bundled) -> dict[str, Row]:
    """libs/models/msc.py, main.py and libs/utils/crf.py."""

    def caffe(sample: Sample) -> Labels:
        return labels_of(net.enlarged(caffe_scales(net.scores, padded(sample.x))), sample)

    def grids(sample: Sample) -> Labels:
        scores = kazuto_scales(net.scores, padded(sample.x), by_factor=False)
        return labels_of(resized(scores, (CANVAS, CANVAS), "half pixels"), sample)

    def script(sample: Sample) -> Labels:
        x = sample.x[None]
        scores = kazuto_scales(net.scores, x)
        size = (x.shape[2], x.shape[3])
        return labels_of(resized(scores, size, "half pixels"), sample)

    rows = {
        "three scales: align_corners=False alone": grids,
        "three scales: also sizes and no canvas": script,
    }
    return {**net.rows(rows, caffe), **_kazuto_crf(net)}


def _kazuto_crf(net: Bundled) -> dict[str, Row]:
    """Each of the script's differences alone, then both."""
    after, symmetric = densecrf.NORMALIZE_AFTER, densecrf.NORMALIZE_SYMMETRIC

    def refined(sample: Sample, image: np.ndarray, normalization: int) -> Labels:
        height, width = sample.truth.shape
        scores = net.maps(sample)[0, :, :height, :width]
        return crf(scores.softmax(0).numpy(), image, normalization)

    def wrapped(sample: Sample) -> np.ndarray:
        """Less the mean, then uint8: what is negative is 256 more."""
        image = sample.x.numpy().transpose(1, 2, 0).astype(np.int16).astype(np.uint8)
        return np.ascontiguousarray(image)

    rows = {
        "CRF: uint8 wrap-around alone": lambda s: refined(s, wrapped(s), after),
        "CRF: pydensecrf's normalization alone": lambda s: refined(s, s.pixels, symmetric),
        "CRF: both": lambda s: refined(s, wrapped(s), symmetric),
    }
    return net.rows(rows, lambda s: refined(s, s.pixels[..., ::-1].copy(), after))


def crf(probabilities: np.ndarray, image: np.ndarray, normalization: int) -> Labels:
    """The labels that pydensecrf's calls give."""
    count, height, width = probabilities.shape
    model = densecrf.DenseCRF2D(width, height, count)
    model.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probabilities)))
    (sigma, weight), (far, color, strength) = CRF["position"], CRF["bilateral"]
    model.addPairwiseGaussian(sxy=sigma, compat=weight, normalization=normalization)
    model.addPairwiseBilateral(
        sxy=far, srgb=color, rgbim=image, compat=strength, normalization=normalization
    )
    return np.array(model.inference(CRF["iterations"])).argmax(0).reshape(height, width)


def isht7(net: Bundled) -> dict[str, Row]:
    """deeplab_resnet.py and evalpyt.py."""

    rows: dict[str, Row] = {}
    for side in (CANVAS, 168):

        def theirs(sample: Sample, side: int = side) -> Labels:
            scores = isht_scales(net.scores, padded(sample.x, side))
            return labels_of(resized(scores, (side, side)), sample)

        def caffe(sample: Sample, side: int = side) -> Labels:
            scores = caffe_scales(net.scores, padded(sample.x, side))
            return labels_of(net.enlarged(scores), sample)

        rows |= net.rows({f"three scales, canvas of {side}": theirs}, caffe)
    truths, maps = zip(*((s.truth, net.caffe(s)) for s in net.samples), strict=True)
    each = [
        _image_iou(np.where(truth == 255, 0, truth), labels)
        for truth, labels in zip(truths, maps, strict=True)
    ]
    rows["evalpyt.py's measure on the same labels"] = {
        "mean IoU of Caffe": mean_iou(list(truths), list(maps)),
        "mean IoU there": round(float(np.mean(each)), 3),
    }
    return rows


def _image_iou(truth: Labels, labels: Labels) -> float:
    """The mean over the classes of one image's truth, in per cent."""
    ious = [
        ((truth == k) & (labels == k)).sum() / ((truth == k) | (labels == k)).sum()
        for k in np.unique(truth)
    ]
    return 100 * float(np.mean(ious))


def converters(net: Bundled) -> dict[str, dict[str, Row]]:
    """Differences of caffemodel2pytorch, MMdnn and caffe2onnx in layers that they take."""

    def coarse(sample: Sample) -> Tensor:
        return net.scores(padded(sample.x))

    def average(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    canvas = (CANVAS, CANVAS)
    return {
        "caffemodel2pytorch": net.rows(
            {
                "Interp left out, scores enlarged by nearest": lambda s: labels_of(
                    functional.interpolate(coarse(s), canvas), s
                ),
                "Softmax without axis is over the width": lambda s: labels_of(
                    net.maps(s).softmax(-1), s
                ),
            }
        ),
        "MMdnn": net.rows(
            {"AVE pooling without the padding": lambda s: net.changed(s, "pool5a", average)}
        ),
        "caffe2onnx": net.rows(
            {
                "Interp by size is an asymmetric Upsample": lambda s: labels_of(
                    resized(coarse(s), canvas, "asymmetric"), s
                )
            }
        ),
    }


def recorded(images: list[Sample]) -> dict[str, Row]:
    """The recorded multi-scale ResNet-101, whose weights are random; {} without recordings."""
    folder = next((f for f in cases("nets") if f.name == "deeplab_resnet101_msc"), None)
    if folder is None:
        return {}
    net = caffe_port.load(folder / "net.prototxt", folder / "net.caffemodel", dialect="deeplab2")
    images = images[:RECORDED_IMAGES]

    def scores(x: Tensor) -> Tensor:
        return net({"data": x}, keep=["fc1_voc12"])["fc1_voc12"]

    def labels(scales: Callable[[Scores, Tensor], Tensor], side: int, grid: str) -> Tensor:
        xs = [padded(sample.x)[:, :, :side, :side] for sample in images]
        return torch.cat([resized(scales(scores, x), (side, side), grid).argmax(1) for x in xs])

    def share(one: Tensor, other: Tensor) -> Row:
        return {"labels changed, %": round(100 * float((one != other).float().mean()), 3)}

    rows = {}
    for side in RECORDED_SIDES:
        ours = labels(caffe_scales, side, "corners")
        for name, by_factor in (("alone", False), ("and sizes", True)):
            scales = functools.partial(kazuto_scales, by_factor=by_factor)
            rows[f"{side} x {side}: align_corners=False {name}"] = share(
                ours, labels(scales, side, "half pixels")
            )
    _leave_out_norms(net)
    rows[f"{side} x {side}: BatchNorm and Scale left out"] = share(
        ours, labels(caffe_scales, side, "corners")
    )
    return rows


def _leave_out_norms(net: caffe_port.Net) -> None:
    for layer in net.spec.layers:
        params = net.layer_params(layer.name)
        if layer.type == "BatchNorm":
            values = (0.0, 1 - layer.op.eps, 1.0)
        elif layer.type == "Scale":
            values = (1.0, 0.0)
        else:
            continue
        for blob, value in zip(params, values, strict=False):
            blob.fill_(value)


INTERPS = (
    "zoom_factor: 8",
    "height: 20 width: 31",
    "shrink_factor: 2",
    "shrink_factor: 4 zoom_factor: 3",
    "height: 20 width: 31 pad_beg: -1 pad_end: -2",
)


def opencv(net: Bundled) -> dict[str, Row]:
    """OpenCV's own importer of Caffe models."""
    import cv2

    def loaded(prototxt: Path, weights: Path | None = None) -> cv2.dnn.Net:
        files = [str(path) for path in (prototxt, weights) if path]
        return cv2.dnn.readNetFromCaffe(*files)

    bundled = loaded(RUN / "recording" / "net.prototxt", RUN / "model/train_iter_2400.caffemodel")

    def theirs(sample: Sample) -> Labels:
        bundled.setInput(padded(sample.x).numpy())
        return labels_of(torch.from_numpy(bundled.forward()), sample)

    rows = net.rows({"the bundled model": theirs})
    for options in INTERPS:
        rows[f"Interp {{ {options} }}"] = _opencv_interp(loaded, options)
    return rows


def _opencv_interp(loaded: Callable[[Path], Any], options: str) -> Row:
    import cv2

    shape = (1, 3, 17, 17)
    dims = " ".join(f"dim: {n}" for n in shape)
    text = (
        f'input: "data" input_shape {{ {dims} }} layer {{ name: "i" type: "Interp" bottom: "data" '
        f'top: "i" interp_param {{ {options} }} }}'
    )
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interp.prototxt"
        path.write_text(text)
        ours = caffe_port.load(path)({"data": torch.from_numpy(x)})["i"].numpy()
        try:
            theirs = loaded(path)
            theirs.setInput(x)
            found = theirs.forward()
        except cv2.error:
            return {"size in Caffe": f"{ours.shape[2:]}", "there": "refused"}
    if found.shape != ours.shape:
        return {"size in Caffe": f"{ours.shape[2:]}", "there": f"{found.shape[2:]}"}
    error = float(np.abs(found - ours).max() / np.abs(ours).max())
    digits = 2 - math.floor(math.log10(error)) if error else 0
    return {"size in Caffe": f"{ours.shape[2:]}", "difference, of the peak": round(error, digits)}


def main() -> None:
    """Measures all and reports."""
    torch.set_grad_enabled(False)
    net = Bundled()
    tables = {"kazuto1011": kazuto(net), "isht7": isht7(net), **converters(net)}
    tables["recorded ResNet-101"] = recorded(net.samples)
    names = ["torch", "numpy"]
    if importlib.util.find_spec("cv2"):
        tables["OpenCV"] = opencv(net)
        names.append("opencv-python-headless")
    report("ports", {"versions": versions(*names), "tables": tables})
