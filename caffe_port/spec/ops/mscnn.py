"""Options and shapes: the layers of MS-CNN, a detector whose heads predict boxes cell by cell.

A head has the scores of the classes, the background's first, then a box: the shift of its centre in
parts of the field's size, and the logarithm of its size in the same parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops.losses import same_batch

BOX = 4  # numbers of a box


@dataclass(frozen=True)
class Field:
    """What a head's boxes are relative to.

    Attributes:
        height, width: of the field, in pixels.
        stride: pixels per cell.
        shift, growth: the largest shift is 1 / shift of the field, the largest growth this factor.
        means, deviations: by which the four numbers are normalized.
    """

    height: int
    width: int
    stride: int
    shift: float
    growth: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @classmethod
    def parse(
        cls, layer: caffe_pb2.LayerParameter, options: Any, sizes: tuple[int, int, int]
    ) -> Field:
        """Of a layer's options, which name the shifts alike, and sizes."""
        for name, size in zip(("field_h", "field_w", "downsample_rate"), sizes, strict=True):
            expect(size > 0, f"{name} is {size}; expected 1 or more")
        for name in ("field_whr", "field_xyr"):
            value = getattr(options, name)
            expect(0 < value < 2**20, f"{name} is {value:g}; expected more than 0")
        means, deviations = (tuple(x) for x in (layer.bbox_reg_param.bbox_mean,
                                                layer.bbox_reg_param.bbox_std))  # fmt: skip
        if not (means and deviations):
            means, deviations = (0.0,) * BOX, (1.0,) * BOX
        four = len(means) == len(deviations) == BOX and all(d > 0 for d in deviations)
        expect(four, "bbox_mean and bbox_std: expected four numbers, the latter above 0")
        return cls(*sizes, options.field_xyr, options.field_whr, means, deviations)


@dataclass(frozen=True)
class _Labelled(Op):
    """Bottoms: a head (N, classes + 4, H, W), and labels (N, 6, H, W): class, box, overlap.

    Attributes:
        classes: with the background.
        field: of the head.
        background: a cell of class 0 counts if its overlap with a true box is below.
        objectness: whether all classes but the background are one.
        ignore_label: a label that does not count, or None.
    """

    bottoms = (2, 2)

    classes: int
    field: Field
    background: float
    objectness: bool
    ignore_label: int | None

    @classmethod
    def labelled(
        cls, layer: caffe_pb2.LayerParameter, o: Any
    ) -> tuple[int, Field, float, bool, int | None]:
        """The options of both layers."""
        expect(o.cls_num >= 2, f"cls_num is {o.cls_num}; expected 2 or more, as in MS-CNN")
        expect(o.coord_num == BOX, f"coord_num is {o.coord_num}; expected 4")
        expect(
            not o.objectness or o.cls_num == 2, f"objectness with cls_num {o.cls_num}; expected 2"
        )
        loss = layer.loss_param
        return (
            o.cls_num, Field.parse(layer, o, (o.field_h, o.field_w, o.downsample_rate)),
            o.bg_threshold, o.objectness,
            loss.ignore_label if loss.HasField("ignore_label") else None,
        )  # fmt: skip

    def check(self, bottoms: Sequence[Shape]) -> None:
        same_batch(list(bottoms))
        head, labels = bottoms
        fits = len(head) == len(labels) == 4 and head[1] == self.classes + BOX
        expect(fits, f"a head of shape {head}; expected (N, {self.classes + BOX}, H, W)")
        wanted = (head[0], BOX + 2, *head[2:])
        expect(labels == wanted, f"labels of shape {labels}; expected {wanted}")

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, self.classes - 1, whole=True) if index else Values()


@register_op
@dataclass(frozen=True)
class DetectionLoss(_Labelled):
    """DetectionLoss of MS-CNN: softmax loss of sampled cells, plus smooth L1 loss of boxes.

    The top has the sum and the second part, (1, 1, 1, 2); only the sum gives diffs.

    Source: zhaoweicai/mscnn detection_loss_layer.cpp, LayerSetUp and Reshape.

    Attributes:
        weight: of the boxes' loss.
        smooth: whether it is smooth L1; else half a square.
        multiple: how many cells of background count for each cell of an object.
        sample: 'random', 'bootstrap' (the highest scores), 'mixture', or any word for all.
        by_overlap: whether cells of objects weigh their overlap.
        balanced: whether objects and background weigh 1 to ``multiple`` in all.
    """

    type = "DetectionLoss"
    auto_top = True
    fixed_bottoms = frozenset({1})
    chooses = True
    draws = True
    remark = "MS-CNN's; caffe-yolo's layer of that name has other options and is refused."

    weight: float
    smooth: bool
    multiple: int
    sample: str
    by_overlap: bool
    balanced: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DetectionLoss:
        o = layer.detection_loss_param
        return cls(
            *cls.labelled(layer, o), getattr(o, "lambda"),
            o.bb_smooth, o.bg_multiple, o.sample_mode, o.iou_weighted, o.pos_neg_weighted,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check(bottoms)
        return [(1, 1, 1, 2)]


@register_op
@dataclass(frozen=True)
class DetectionAccuracy(_Labelled):
    """DetectionAccuracy of MS-CNN: accuracy, that of objects, and the boxes' mean overlap.

    Source: zhaoweicai/mscnn detection_accuracy_layer.cpp.

    Attributes:
        top_k: among how many of the best the true class must be.
    """

    type = "DetectionAccuracy"
    tops = (1, 2)
    kind = "sink"
    discrete = True
    fixed_bottoms = frozenset({0, 1})
    remark = "-1 where nothing counts, as upstream."

    top_k: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DetectionAccuracy:
        o = layer.detection_accuracy_param
        expect(1 <= o.top_k <= o.cls_num, f"top_k is {o.top_k}; expected 1 to {o.cls_num}")
        return cls(*cls.labelled(layer, o), o.top_k)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check(bottoms)
        return [(1, 1, 1, 2), (1, 1, 1, 1)]


@register_op
@dataclass(frozen=True)
class BoxOutput(Op):
    """BoxOutput of MS-CNN: the boxes of several heads that do not overlap a better one.

    Tops: regions (R, 5, 1, 1): image, x1, y1, x2, y2; and the same with the score (R, 6, 1, 1).

    Source: zhaoweicai/mscnn box_output_layer.cpp.

    Attributes:
        heads: the field of each.
        threshold: the least score of a class above the background's.
        nms: boxes that overlap a better one by more are dropped.
        overlap: 'IOU', 'IOMU' (of the smaller box) or 'IOFU' (of the better box).
        before, after: how many of the best are looked at, and kept; 0 is all.
        least: the smallest width and height in pixels.
    """

    type = "BoxOutput"
    bottoms = (1, 16)
    tops = (1, 2)
    fixed_bottoms = frozenset(range(16))
    chooses_rows = True
    outside_torch = True
    remark = "Without any box there is one row, as upstream's: of image 0 from 1, 1 to 10, 10."

    heads: tuple[Field, ...]
    threshold: float
    nms: float
    overlap: str
    before: int
    after: int
    least: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BoxOutput:
        o = layer.box_output_param
        sizes = o.field_h, o.field_w, o.downsample_rate
        count = len(layer.bottom)
        for name, given in zip(("field_h", "field_w", "downsample_rate"), sizes, strict=True):
            expect(len(given) == count, f"{len(given)} of {name} for {count} bottoms")
        heads = [Field.parse(layer, o, of_one) for of_one in zip(*sizes, strict=True)]
        return cls(
            tuple(heads), o.fg_thr, o.iou_thr, o.nms_type, o.max_nms_num, o.max_post_nms_num,
            o.min_size,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many boxes as can be; the actual number depends on the data."""
        first, boxes = bottoms[0], 0
        for i, shape in enumerate(bottoms):
            fits = len(shape) == 4 and shape[:2] == first[:2] and shape[1] > BOX + 1
            expect(fits, f"bottom {i} has shape {shape}; expected (N, classes + 4, H, W)")
            boxes += shape[2] * shape[3]
        each = min(limit for limit in (boxes, self.before or boxes, self.after or boxes))
        rows = max(each * first[0], 1)
        return [(rows, 5, 1, 1), (rows, 6, 1, 1)]
