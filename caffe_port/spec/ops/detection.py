"""Options and shapes: the boxes of SSD, from priors to scored detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op

MOST_CLASSES = 2**16
SAME_RATIO = 1e-6  # aspect ratios closer than this are one


def axis_size(shape: Shape, axis: int) -> int:
    """A blob's size along one of Caffe's four axes; missing ones have size 1 (LegacyShape)."""
    return shape[axis] if axis < len(shape) else 1


def code_name(code: int) -> str:
    """'CORNER', 'CENTER_SIZE' or 'CORNER_SIZE': how a location tells a box from its prior."""
    return caffe_pb2.PriorBoxParameter.CodeType.Name(code)


def prior_count(priors: Shape) -> int:
    """How many prior boxes a blob (1, 2, 4 K) holds."""
    fits = len(priors) >= 3 and priors[1] == 2 and priors[2] % 4 == 0
    fits = fits and priors[2] > 0 and math.prod(priors[3:]) == 1
    expect(fits, f"priors of shape {priors}; expected (1, 2, 4 K), K > 0, as PriorBox makes them")
    return priors[2] // 4


def one_prediction_per_prior(loc: Shape, conf: Shape, priors: int, each: int, classes: int) -> None:
    """Refuses locations and scores other than (N, 4 L K) and (N, C K) for K priors."""
    for name, shape, per_prior in (("locations", loc, 4 * each), ("scores", conf, classes)):
        expect(
            len(shape) >= 2 and shape[1] == priors * per_prior and math.prod(shape[2:]) == 1,
            f"{name} of shape {shape} for {priors} priors; expected (N, {priors * per_prior}), "
            f"{per_prior} per prior",
        )
    expect(loc[0] == conf[0], f"{loc[0]} items of locations, {conf[0]} of scores; expected as many")


def _pair(options: caffe_pb2.PriorBoxParameter, both: str, each: str) -> tuple[float, float]:
    """(height, width) from `img_size` or `img_h` and `img_w`, and likewise for `step`; or zeros."""
    names = (f"{each}_h", f"{each}_w")
    if any(options.HasField(name) for name in names):
        expect(not options.HasField(both), f"{both} and {names[0]}; expected one of the two")
        found = (getattr(options, names[0]), getattr(options, names[1]))
        expect(
            all(value > 0 for value in found),
            f"{names[0]}, {names[1]} are {found}; expected both above 0",
        )
        return found
    if not options.HasField(both):
        return 0, 0
    size = getattr(options, both)
    expect(size > 0, f"{both} is {size}; expected more than 0")
    return size, size


def _ratios(options: caffe_pb2.PriorBoxParameter) -> list[np.float32]:
    """The aspect ratios other than 1, in float32."""
    found = [np.float32(1)]
    for ratio in map(np.float32, options.aspect_ratio):
        expect(bool(ratio > 0), f"aspect_ratio is {ratio:g}; expected more than 0")
        if (np.abs(np.array(found) - ratio) >= SAME_RATIO).all():
            found.append(ratio)
            if options.flip:
                found.append(np.float32(1 / float(ratio)))
    return found[1:]


@register_op
@dataclass(frozen=True)
class PriorBox(Op):
    """PriorBox of SSD: boxes of several sizes around each cell of a feature map.

    Source: weiliu89/caffe (branch ssd) prior_box_layer.cpp, LayerSetUp.

    Attributes:
        sides: (width, height) of the boxes of a cell, in pixels, in order; from min_size (cut to
            a whole number, as in Caffe), sqrt(min_size max_size), and the aspect ratios.
        clip: whether boxes end at the image's border.
        variance: one number, or four, for the second row.
        image: (height, width) of the image, or zeros: that of the second bottom.
        step: (vertical, horizontal) distance of cells in pixels, or zeros: image / feature map.
        offset: the place of a box's centre in its cell.
    """

    type = "PriorBox"
    bottoms = (2, 2)
    fixed_bottoms = frozenset({0, 1})

    sides: tuple[tuple[float, float], ...]
    clip: bool
    variance: tuple[float, ...]
    image: tuple[float, float]
    step: tuple[float, float]
    offset: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> PriorBox:
        o = layer.prior_box_param
        expect(len(o.min_size) > 0, "min_size is missing")
        for name, sizes in (("min_size", o.min_size), ("max_size", o.max_size)):
            for size in sizes:
                expect(1 <= size < 2**31, f"{name} is {size:g}; expected 1 or more, below 2^31")
        several = len(o.max_size) in (0, len(o.min_size))
        expect(
            several, f"{len(o.max_size)} max_size for {len(o.min_size)} min_size; expected as many"
        )
        for small, large in zip(o.min_size, o.max_size, strict=False):
            expect(large > small, f"max_size is {large:g}; expected more than min_size {small:g}")
        variance = tuple(o.variance) or (float(np.float32(0.1)),)
        expect(len(variance) in (1, 4), f"{len(variance)} variance; expected 1 or 4")
        for value in variance:
            expect(value > 0, f"variance is {value:g}; expected more than 0")
        image, step = _pair(o, "img_size", "img"), _pair(o, "step", "step")
        return cls(cls._sides(o), o.clip, variance, image, step, o.offset)

    @staticmethod
    def _sides(o: caffe_pb2.PriorBoxParameter) -> tuple[tuple[float, float], ...]:
        sides, ratios = [], _ratios(o)
        for i, size in enumerate(o.min_size):
            small = np.float32(int(size))
            boxes = [(small, small)]
            if o.max_size:
                middle = np.float32(math.sqrt(int(size) * int(o.max_size[i])))
                boxes.append((middle, middle))
            boxes += [(small * root, small / root) for root in map(np.sqrt, ratios)]
            sides += [(float(w), float(h)) for w, h in boxes]
        return tuple(sides)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(len(shape) == 4, f"bottom {i} has shape {shape}; expected (N, C, H, W)")
        return [(1, 2, bottoms[0][2] * bottoms[0][3] * len(self.sides) * 4)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()

    def boxes(self, features: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
        """The top for a feature map and an image of these heights and widths.

        Returns:
            (1, 2, 4 K) float32: xmin, ymin, xmax, ymax of each box as parts of the image, row by
            row of the feature map; then the variances.
        """
        size = self.image if all(self.image) else image
        step = [np.float32(s) for s in self.step]
        if not all(self.step):
            step = [np.float32(a) / np.float32(b) for a, b in zip(size, features, strict=True)]
        # centres are float32; what follows is double in Caffe, as 2. is
        y, x = (
            ((np.arange(n, dtype=np.float32) + np.float32(self.offset)) * s).astype(np.float64)
            for n, s in zip(features, step, strict=True)
        )
        centre = np.stack(np.broadcast_arrays(x[None, :, None], y[:, None, None]), -1)
        half = np.asarray(self.sides) / 2
        scale = np.asarray([size[1], size[0]], np.float64)
        ends = np.concatenate([(centre - half) / scale, (centre + half) / scale], -1)
        ends = ends.astype(np.float32)
        if self.clip:
            ends = ends.clip(0, 1)
        variance = np.asarray(self.variance, np.float32)
        row = np.broadcast_to(variance if len(variance) == 4 else variance.repeat(4), ends.shape)
        return np.stack([ends.reshape(-1), row.reshape(-1)])[None]


@register_op
@dataclass(frozen=True)
class DetectionOutput(Op):
    """DetectionOutput of SSD: decodes locations, suppresses overlapping boxes, keeps the best.

    Source: weiliu89/caffe (branch ssd) detection_output_layer.cpp, LayerSetUp.

    Attributes:
        classes: how many, with the background.
        share_location: whether one box serves all classes; else each class has its own.
        background: the class that is no object, or -1.
        code: 'CORNER', 'CENTER_SIZE' or 'CORNER_SIZE'.
        variance_in_target: whether locations need no multiplication by the priors' variances.
        keep_top_k: how many boxes of an image are kept at most; -1 is all.
        confidence: scores must be above it; None lets all pass.
        nms: boxes that overlap a better one of their class by more are dropped.
        eta: while the threshold is above 0.5, each box that is kept multiplies it by this.
        top_k: how many boxes of a class are looked at; -1 is all.
    """

    type = "DetectionOutput"
    bottoms = (3, 4)
    fixed_bottoms = frozenset({0, 1, 2, 3})
    chooses_rows = True
    outside_torch = True
    remark = (
        "The CPU's order of equal scores, also where Caffe's std::sort is not stable. "
        "`save_output_param` and `visualize` write no files: the rows are the result. "
        "`background_label_id: -1` with shared locations, where upstream aborts, is computed: no "
        "class is left out. Without `nms_param { top_k }` time grows with the square of the "
        "boxes above the threshold, as upstream's."
    )

    classes: int
    share_location: bool
    background: int
    code: str
    variance_in_target: bool
    keep_top_k: int
    confidence: float | None
    nms: float
    eta: float
    top_k: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DetectionOutput:
        o = layer.detection_output_param
        expect(o.num_classes > 0, "num_classes is missing or 0")
        nms = o.nms_param
        expect(nms.nms_threshold >= 0, f"nms_threshold is {nms.nms_threshold}; expected 0 or more")
        expect(0 < nms.eta <= 1, f"eta is {nms.eta}; expected more than 0 and at most 1")
        return cls(
            classes=o.num_classes,
            share_location=o.share_location,
            background=o.background_label_id,
            code=code_name(o.code_type),
            variance_in_target=o.variance_encoded_in_target,
            keep_top_k=o.keep_top_k,
            confidence=o.confidence_threshold if o.HasField("confidence_threshold") else None,
            nms=nms.nms_threshold,
            eta=nms.eta,
            top_k=nms.top_k if nms.HasField("top_k") else -1,
        )

    @property
    def boxes_per_prior(self) -> int:
        """How many locations a prior has: one, or one per class."""
        return 1 if self.share_location else self.classes

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One row; the actual number of rows depends on the data."""
        loc, conf, priors = bottoms[:3]
        each = self.boxes_per_prior
        one_prediction_per_prior(loc, conf, prior_count(priors), each, self.classes)
        return [(1, 1, 1, 7)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0.05, 1) if index == 1 else Values()


@register_op
@dataclass(frozen=True)
class DetectionEvaluate(Op):
    """DetectionEvaluate of SSD: which detections are right, for the average precision.

    Source: weiliu89/caffe (branch ssd) detection_evaluate_layer.cpp, LayerSetUp.

    Attributes:
        classes: how many, with the background.
        background: the class that is no object.
        overlap: a right box overlaps a true one by at least as much (intersection over union).
        difficult: whether true boxes marked difficult count.
        name_size_file: lines `name height width` of the images, in order; overlaps are then those
            of pixels. '' keeps parts of the image.
    """

    type = "DetectionEvaluate"
    bottoms = (2, 2)
    kind = "sink"
    fixed_bottoms = frozenset({0, 1})
    discrete = True
    outside_torch = True
    remark = (
        "Boxes of images that were resized with other modes than WARP are refused. Boxes that do "
        "not touch overlap by 0; upstream takes one pixel where sizes are given."
    )

    classes: int
    background: int
    overlap: float
    difficult: bool
    name_size_file: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DetectionEvaluate:
        o = layer.detection_evaluate_param
        known = 0 < o.num_classes <= MOST_CLASSES
        expect(known, f"num_classes is {o.num_classes}; expected 1 to {MOST_CLASSES}")
        least = o.overlap_threshold
        expect(least > 0, f"overlap_threshold is {least:g}; expected more than 0")
        mode = caffe_pb2.ResizeParameter.Resize_mode.Name(o.resize_param.resize_mode)
        expect(mode == "WARP", f"resize_mode is {mode}; only WARP is implemented")
        return cls(
            o.num_classes, o.background_label_id, least, o.evaluate_difficult_gt, o.name_size_file
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Rows of the classes and of all detections; those without a label have none."""
        for name, shape, width in zip(("detections", "truth"), bottoms, (7, 8), strict=True):
            fits = len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == width
            expect(fits, f"{name} of shape {shape}; expected (1, 1, n, {width})")
        objects = self.classes - (self.background >= 0)
        return [(1, 1, objects + bottoms[0][2], 5)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()
