"""Options and shapes: what the Python layers of py-faster-rcnn compute, without their code.

A text names the class, and settings of the layer are in ``param_str``. Others were in the program's
configuration; their defaults here are those of its file faster_rcnn_end2end.yml, and ``param_str``
may set them under the same names, which the original classes ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops.detection import axis_size
from caffe_port.spec.ops.python_layer import settings

_BASE: dict[str, float | tuple[float, ...]] = {
    "feat_stride": 16.0, "scales": (8.0, 16.0, 32.0), "ratios": (0.5, 1.0, 2.0),
}  # fmt: skip
MOST_ROWS = 2**20  # proposals of an image


class _Settings:
    """What a layer's param_str sets, over the defaults, which also say what can be set."""

    def __init__(
        self, layer: caffe_pb2.LayerParameter, defaults: Mapping[str, float | tuple[float, ...]]
    ) -> None:
        self._given = settings(layer.python_param.param_str)
        self._defaults = defaults
        for name in self._given:
            expect(name in defaults, f"param_str sets {name!r}; known are {', '.join(defaults)}")

    def number(self, name: str) -> float:
        value = self._given.get(name, self._defaults[name])
        if not isinstance(value, float):
            raise ValueError(f"param_str sets {name!r} to {value!r}; expected a number")
        return value

    def whole(self, name: str, least: int = 0) -> int:
        value = self.number(name)
        fits = value == int(value) and least <= value <= MOST_ROWS
        expect(fits, f"{name} is {value:g}; expected a whole number from {least} to {MOST_ROWS}")
        return int(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self._given.get(name, self._defaults[name])
        if not isinstance(value, tuple):
            raise ValueError(f"param_str sets {name!r} to {value!r}; expected [numbers]")
        return value


@dataclass(frozen=True)
class _Anchors(Op):
    """Bottom 0 has scores of anchors: (1, anchors per cell and more, H, W).

    Attributes:
        stride: pixels per cell of the scores.
        scales, ratios: of the anchors, whose base is a square of 16 pixels.
    """

    stride: float
    scales: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def anchors(self) -> int:
        return len(self.scales) * len(self.ratios)

    @staticmethod
    def of_anchors(given: _Settings) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
        """The options of every subclass."""
        found = given.number("feat_stride"), given.numbers("scales"), given.numbers("ratios")
        for name, values in zip(_BASE, ((found[0],), *found[1:]), strict=True):
            fits = values and all(2**-10 < value < 2**10 for value in values)
            expect(bool(fits), f"{name} of {list(values)}; expected numbers above 0")
        return found

    def check_map(self, shape: Shape, channels: int, name: str) -> tuple[int, int]:
        """Refuses scores or moves that do not fit the anchors; returns height and width."""
        fits = len(shape) == 4 and shape[0] == 1 and shape[1] == channels
        expect(fits, f"{name} of shape {shape}; expected (1, {channels}, H, W)")
        return shape[2], shape[3]


def _check_sizes(shape: Shape) -> None:
    fits = axis_size(shape, 0) == 1 and axis_size(shape, 1) >= 3
    expect(fits, f"sizes of shape {shape}; expected (1, 3): height, width and scale")


def _check_truth(shape: Shape) -> int:
    fits = len(shape) >= 2 and shape[1] == 5 and set(shape[2:]) <= {1}
    expect(fits, f"true boxes of shape {shape}; expected (G, 5): x1, y1, x2, y2, class")
    return shape[0]


@register_op
@dataclass(frozen=True)
class RPNProposal(_Anchors):
    """RPNProposal: the best regions among anchors that are shifted and resized.

    Tops: regions (image, x1, y1, x2, y2), and their scores (R, 1).

    Source: rbgirshick/py-faster-rcnn lib/rpn/proposal_layer.py; pva-faster-rcnn's for ratios.

    Attributes:
        before, after: how many of the best are looked at, and kept; 0 is all.
        nms: regions that overlap a better one by more are dropped.
        least: the smallest width and height, in pixels of the unscaled image.
    """

    type = "RPNProposal"
    bottoms = (3, 3)
    tops = (1, 2)
    fixed_bottoms = frozenset({0, 1, 2})
    chooses_rows = True
    outside_torch = True
    remark = (
        "Python's rpn.proposal_layer.ProposalLayer. Settings of its configuration are "
        "faster_rcnn_end2end.yml's, or param_str's. Of equal scores the last is first; numpy's "
        "sort decides upstream."
    )

    before: int
    after: int
    nms: float
    least: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> RPNProposal:
        train = layer.phase == caffe_pb2.TRAIN
        given = _Settings(layer, {
            **_BASE, "RPN_PRE_NMS_TOP_N": 12000.0 if train else 6000.0,
            "RPN_POST_NMS_TOP_N": 2000.0 if train else 300.0, "RPN_NMS_THRESH": 0.7,
            "RPN_MIN_SIZE": 16.0,
        })  # fmt: skip
        return cls(
            *cls.of_anchors(given), given.whole("RPN_PRE_NMS_TOP_N"),
            given.whole("RPN_POST_NMS_TOP_N"), given.number("RPN_NMS_THRESH"),
            given.number("RPN_MIN_SIZE"),
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as can be; the actual number depends on the data."""
        cells = self.check_map(bottoms[0], 2 * self.anchors, "scores")
        moved = self.check_map(bottoms[1], 4 * self.anchors, "moves")
        expect(cells == moved, f"moves of shape {bottoms[1]} for scores of shape {bottoms[0]}")
        _check_sizes(bottoms[2])
        every = cells[0] * cells[1] * self.anchors
        rows = min(limit for limit in (self.before or every, self.after or every, every))
        return [(rows, 5), (rows, 1)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(50, 200) if index == 2 else Values()


@register_op
@dataclass(frozen=True)
class RPNAnchorTarget(_Anchors):
    """RPNAnchorTarget: which anchors are objects, and how they would have to move.

    Bottoms: scores, whose height and width count; true boxes (G, 5); sizes; optionally the image.
    Tops: labels (1, 1, A H, W): 1, 0, or -1 for neither; moves and two weights (1, 4 A, H, W).

    Source: rbgirshick/py-faster-rcnn lib/rpn/anchor_target_layer.py.

    Attributes:
        border: how many pixels an anchor may reach beyond the image.
        positive, negative: an anchor is an object from that overlap on, and none below the other.
        clobber: whether too small an overlap counts although no anchor overlaps a box more.
        batch: how many anchors get a label of 0 or 1, at random where there are more.
        part: the largest share of 1.
    """

    type = "RPNAnchorTarget"
    bottoms = (3, 4)
    tops = (4, 4)
    fixed_bottoms = frozenset({0, 1, 2, 3})
    draws = True
    outside_torch = True
    remark = "Python's rpn.anchor_target_layer.AnchorTargetLayer, drawing from Caffe's generator."

    border: float
    positive: float
    negative: float
    clobber: bool
    batch: int
    part: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> RPNAnchorTarget:
        given = _Settings(layer, {
            **_BASE, "allowed_border": 0.0, "RPN_POSITIVE_OVERLAP": 0.7,
            "RPN_NEGATIVE_OVERLAP": 0.3, "RPN_CLOBBER_POSITIVES": 0.0, "RPN_BATCHSIZE": 256.0,
            "RPN_FG_FRACTION": 0.5,
        })  # fmt: skip
        return cls(
            *cls.of_anchors(given), given.number("allowed_border"),
            given.number("RPN_POSITIVE_OVERLAP"), given.number("RPN_NEGATIVE_OVERLAP"),
            bool(given.number("RPN_CLOBBER_POSITIVES")), given.whole("RPN_BATCHSIZE", 1),
            given.number("RPN_FG_FRACTION"),
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        height, width = self.check_map(bottoms[0], 2 * self.anchors, "scores")
        _check_truth(bottoms[1])
        _check_sizes(bottoms[2])
        moves = (1, 4 * self.anchors, height, width)
        return [(1, 1, self.anchors * height, width), moves, moves, moves]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 200, whole=True) if index in (1, 2) else Values()


@register_op
@dataclass(frozen=True)
class RPNProposalTarget(Op):
    """RPNProposalTarget: a sample of regions, their classes, and how they would have to move.

    Bottoms: regions (R, 5), true boxes (G, 5). Tops: regions (S, 5), classes (S,), moves and two
    weights (S, 4 classes).

    Source: rbgirshick/py-faster-rcnn lib/rpn/proposal_target_layer.py; YuwenXiong/py-R-FCN for two
        columns of moves and batches of all regions.

    Attributes:
        classes: with the background; 2 for moves that are the same for all classes.
        batch: regions of a sample; -1 is all.
        part: the largest share of objects.
        positive: a region is an object from that overlap on.
        low, high: overlaps of background: low <= overlap < high.
        means, deviations: of the moves, which are normalized by them.
    """

    type = "RPNProposalTarget"
    bottoms = (2, 2)
    tops = (5, 5)
    fixed_bottoms = frozenset({0, 1})
    draws = True
    outside_torch = True
    remark = (
        "Python's rpn.proposal_target_layer.ProposalTargetLayer, drawing from Caffe's generator. "
        "With num_classes 2 the moves are the same for all classes, as in R-FCN."
    )

    classes: int
    batch: int
    part: float
    positive: float
    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> RPNProposalTarget:
        given = _Settings(layer, {
            "num_classes": 0.0, "BATCH_SIZE": 128.0, "FG_FRACTION": 0.25, "FG_THRESH": 0.5,
            "BG_THRESH_HI": 0.5, "BG_THRESH_LO": 0.0, "BBOX_NORMALIZE_MEANS": (0.0,) * 4,
            "BBOX_NORMALIZE_STDS": (0.1, 0.1, 0.2, 0.2),
        })  # fmt: skip
        batch = given.whole("BATCH_SIZE", -1)
        expect(batch != 0, "BATCH_SIZE is 0; expected 1 or more, or -1 for all")
        means, deviations = (given.numbers(f"BBOX_NORMALIZE_{x}") for x in ("MEANS", "STDS"))
        four = len(means) == len(deviations) == 4 and all(d > 0 for d in deviations)
        expect(four, "BBOX_NORMALIZE_MEANS and _STDS: expected four numbers, the latter above 0")
        return cls(
            given.whole("num_classes", 2), batch, given.number("FG_FRACTION"),
            given.number("FG_THRESH"), given.number("BG_THRESH_LO"), given.number("BG_THRESH_HI"),
            means, deviations,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many rows as can be; the actual number depends on the data."""
        fits = len(bottoms[0]) >= 2 and bottoms[0][1] == 5 and set(bottoms[0][2:]) <= {1}
        expect(fits, f"regions of shape {bottoms[0]}; expected (R, 5): image, x1, y1, x2, y2")
        every = bottoms[0][0] + _check_truth(bottoms[1])
        rows = every if self.batch == -1 else min(self.batch, every)
        moves = (rows, 4 * self.classes)
        return [(rows, 5), (rows,), moves, moves, moves]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, 0, whole=True) if index == 0 else Values(0, self.classes - 1, whole=True)
