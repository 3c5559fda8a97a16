"""Target: the dense CRF's entry points, called with arguments that bytes choose."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from caffe_port.crf import CRFParameters, DenseCRF, dense_crf_forward, parse_parameters, refine
from caffe_port.crf.pydensecrf import densecrf as old
from caffe_port.errors import CaffePortError
from tests.fuzz.target import Target

T = TypeVar("T")

NUMBERS = (0.0, -0.0, 1.0, 3.0, -1.0, 0.5, 80.0, 1e-30, 1e-45, 1e5, 3e38, -3e38, 1e39,
           float("inf"), float("-inf"), float("nan"))  # fmt: skip


class Draw:
    """Arguments out of bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    @property
    def left(self) -> bool:
        return self._place < len(self._data)

    def bytes(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        self._place += count
        return taken.ljust(count, b"\0")

    def below(self, limit: int) -> int:
        return self.bytes(1)[0] % limit

    def one(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def number(self) -> float:
        """Mostly a moderate number, now and then any float32 or a telling one."""
        kind = self.below(32)
        if kind < 26:
            return (self.below(256) - 60) / 16
        return float(struct.unpack("<f", self.bytes(4))[0]) if kind < 29 else self.one(NUMBERS)

    def size(self) -> int:
        return self.below(12) if self.below(8) else self.one((0, -1, 2**31, 2**63))

    def array(self, *shape: int) -> Any:
        """An array, mostly of the shape and of a type that is accepted."""
        wrong = self.below(32)
        if wrong == 1:
            shape = shape[:-1]
        elif wrong == 2:
            shape = (*shape, self.below(3))
        elif wrong == 3:
            return self.number()
        kinds = ("f4", "f4", "f8", "u1") if self.below(16) else (">f4", "i4", "f2", "?", "f16")
        dtype = self.one(kinds)
        with np.errstate(all="ignore"):
            few = np.array([self.number() for _ in range(7)])
            values = np.resize(few.astype(dtype), shape)
        return values[..., ::-1] if self.below(4) == 0 and values.ndim else values


def _weight(draw: Draw, labels: int) -> Any:
    kind = draw.below(4)
    if kind == 2:
        return draw.array(labels)
    return draw.array(labels, labels) if kind == 3 else draw.number()


def _widths(draw: Draw, length: int) -> Any:
    if draw.below(2):
        return _width(draw)
    return tuple(_width(draw) for _ in range(length + (draw.below(16) == 0)))


def _width(draw: Draw) -> float:
    return draw.number() if draw.below(8) == 0 else 0.1 + draw.below(256) / 8


def _sizes(draw: Draw) -> tuple[int, int, int]:
    """An image of few pixels, whose sizes are sometimes nonsense."""
    sizes = [1 + draw.below(11), 1 + draw.below(11), 1 + draw.below(40)]
    if draw.below(8) == 0:
        sizes[draw.below(3)] = draw.size()
    return sizes[0], sizes[1], sizes[2]


def dense_crf(data: bytes) -> None:
    """Any arguments give probabilities and labels, or an error of ours."""
    draw = Draw(data)
    with contextlib.suppress(CaffePortError):
        _engine(draw)
    with contextlib.suppress(CaffePortError):
        _old_names(draw)
    with contextlib.suppress(CaffePortError):
        _layer(draw)


def _engine(draw: Draw) -> None:
    height, width, labels = _sizes(draw)
    how = draw.one(("none", "before", "after", "symmetric", None))
    crf = DenseCRF(
        height, width, labels, flavour=draw.one(("deeplab", "krahenbuhl2013")), normalization=how,
        threads=1 + draw.below(2), exact=bool(draw.below(2)),
    )  # fmt: skip
    if height * width * labels > 10**5:
        return
    for _ in range(draw.below(3)):
        weight = _weight(draw, labels)
        kind = draw.below(3)
        if kind == 0:
            crf.add_gaussian(_widths(draw, 2), weight=weight)
        elif kind == 1:
            image = draw.array(height, width, 3)
            crf.add_bilateral(_widths(draw, 2), _widths(draw, 3), image, weight=weight)
        else:
            crf.add_features(draw.array(height, width, 1 + draw.below(9)), weight=weight)
    unary = draw.array(labels, height, width)
    q = crf.infer(unary, draw.below(4))
    assert q.shape == (labels, height, width)
    assert np.isfinite(q).all()
    assert np.allclose(q.sum(axis=0), 1, atol=1e-3), q.sum(axis=0)
    found = crf.map(unary, draw.below(4))
    assert 0 <= found.min() <= found.max() < labels
    crf.messages(q)
    for kernel in range(crf.kernel_count):
        crf.filtered(q, kernel, adjoint=bool(draw.below(2)))


def _old_names(draw: Draw) -> None:
    height, width, labels = _sizes(draw)
    if height * width * labels > 10**5:
        return
    crf = old.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(draw.array(labels, height * width))
    crf.addPairwiseGaussian(sxy=_widths(draw, 2), compat=_weight(draw, labels))
    crf.addPairwiseBilateral(_widths(draw, 2), _widths(draw, 3), draw.array(height, width, 3),
                             compat=_weight(draw, labels))  # fmt: skip
    assert np.array(crf.inference(draw.below(3))).shape == (labels, height * width)


def _layer(draw: Draw) -> None:
    text = ",".join(f"{draw.one(('bi_w', 'bi_xy_std', 'pos_w', 'x'))}={draw.number()}"
                    for _ in range(draw.below(3)))  # fmt: skip
    parameters = parse_parameters(text) if text else CRFParameters(iterations=draw.below(3))
    height, width, labels = _sizes(draw)
    if height * width * labels > 10**4 or min(height, width, labels) < 0:
        return
    scores, colours = draw.array(2, labels, height, width), draw.array(2, 3, height, width)
    dense_crf_forward(scores, draw.array(2, 1, 1, 2), colours, parameters)
    refine(draw.array(labels, height, width), draw.array(height, width, 3), parameters)


def _seeds() -> Iterator[bytes]:
    random = np.random.default_rng(0)
    for length in (0, 64, 256, 512, 512, 512, 512):
        yield random.bytes(length)


CRF = {"crf": Target(dense_crf, _seeds)}
