"""Test-time options: scales, flips, whole images and overlapping windows, merged into one map.

Every resizing here is that of Caffe's Interp layer: bilinear, corner on corner (align_corners), in
float32. Position y of n rows is position y (m - 1) / (n - 1) of m rows.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.errors import UsageError
from caffe_port.evaluation.score_net import ScoreNet, Size, interp

if TYPE_CHECKING:
    from caffe_port.evaluation.network import Floats, Settings
    from caffe_port.inference.engines import Engine
    from caffe_port.net import Net

_LARGEST_SCALE = 16.0


@dataclass(frozen=True)
class InferenceOptions:
    """How the scores of one image are computed.

    Args:
        scales: factors of the image's size; side n becomes 1 + floor(scale (n - 1)), as Interp's
            shrink_factor and zoom_factor give it.
        flip: each scale is also run mirrored left to right.
        merge: of all scales and flips, "mean" or "max" of the scores before the softmax, as
            Eltwise SUM and MAX merge the branches of DeepLab's MSc nets.
        whole_image: the network's input is the smallest size it takes that holds the image, in
            place of windows of the crop's size.
        overlap: share of a window's side that the next window repeats, where an image is larger
            than the crop; 0 up to, but not including, 1. Overlapping scores are averaged.
        batch: inputs of one size that go through the network together. It changes no result
            beyond float32 rounding.
    Raises:
        UsageError: a value out of range.
    Source: Chen et al., DeepLab, 2016 (multi-scale input, MAX); Attention to Scale, 2015 (mean).
    Examples:
        >>> from caffe_port.evaluation import InferenceOptions
        >>> InferenceOptions(scales=(0.5, 1.0), flip=True).describe()["merge"]
        'mean'
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge: Literal["mean", "max"] = "mean"
    whole_image: bool = False
    overlap: float = 1 / 3
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= _LARGEST_SCALE for scale in self.scales):
            raise UsageError(f"scales are {self.scales}; expected numbers above 0, at most 16")
        if len(set(self.scales)) < len(self.scales):
            raise UsageError(f"scales are {self.scales}; one is given twice")
        if self.merge not in ("mean", "max"):
            raise UsageError(f"merge is {self.merge!r}; expected 'mean' or 'max'")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"overlap is {self.overlap}; expected 0 up to, not including, 1")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; expected 1 or more")

    def describe(self) -> dict[str, object]:
        """What decides the scores, as JSON; the batch does not."""
        size = {"whole_image": True} if self.whole_image else {"overlap": self.overlap}
        return {"scales": list(self.scales), "flip": self.flip, "merge": self.merge, **size}


def scaled_side(side: int, scale: float) -> int:
    """The length of a scaled side, as Interp's shrink_factor and zoom_factor give it."""
    return 1 + math.floor(scale * (side - 1) + 1e-6)


def window_starts(side: int, window: int, overlap: float) -> list[int]:
    """Where windows along a side begin; the last ends with the side.

    Args:
        side, window: pixels.
        overlap: share of a window that the next one repeats, at least.
    """
    if side <= window:
        return [0]
    step = max(1, math.floor(window * (1 - overlap)))
    count = -(-(side - window) // step) + 1
    return [min(i * step, side - window) for i in range(count)]


def merged_scores(
    images: Iterable[Tensor], net: ScoreNet, options: InferenceOptions
) -> Iterator[Tensor]:
    """Scores of images, one after the other.

    At most ``options.batch`` images are under way, and of each of them one scale.

    Args:
        images: each (3, h, w) float32, blue green red minus the mean, of any size.
        net: gives the scores of one input.
        options: scales, flips and the rest.
    Yields:
        (C, h, w) float32 on the net's device, in the order of the images.
    Raises:
        UsageError: the net takes no such size, or gives scores that are not finite.
    """
    waiting: deque[_Image] = deque()
    batch: list[tuple[_Image, Tensor]] = []

    def run() -> None:
        scores = net(torch.stack([tile for _, tile in batch]))
        for (image, _), part in zip(batch, scores, strict=True):
            image.add(part)
        batch.clear()

    for pixels in images:
        image = _Image(pixels.to(net.device), net, options)
        waiting.append(image)
        for tile in image.tiles():
            if batch and batch[0][1].shape != tile.shape:
                run()
            batch.append((image, tile))
            if len(batch) == options.batch:
                run()
        while waiting and waiting[0].done:
            yield waiting.popleft().scores()
    if batch:
        run()
    yield from (image.scores() for image in waiting)


def merging(
    net: Net, blob: str | None, *, optimized: bool = False, engine: Engine = "auto"
) -> Callable[[Floats, Settings], Floats]:
    """``merged_scores`` for one image at a time, from several threads: see ``Network.merged``.

    Args:
        net: the net, on its device.
        blob, optimized, engine: see ``ScoreNet``.
    """
    building = threading.Lock()
    built: list[ScoreNet] = []

    def merged(image: Floats, settings: Settings) -> Floats:
        assert settings.inference is not None
        with building:
            if not built:
                made = ScoreNet(net, blob, crop=settings.crop, optimized=optimized, engine=engine)
                built.append(made)
        with torch.inference_mode():
            (scores,) = merged_scores([torch.from_numpy(image)], built[0], settings.inference)
            found: Floats = scores.cpu().numpy()
            return found

    return merged


class _Image:
    """The passes of one image, and what is merged of them."""

    def __init__(self, pixels: Tensor, net: ScoreNet, options: InferenceOptions) -> None:
        self._pixels, self._options = pixels, options
        flips = (False, True) if options.flip else (False,)
        self._passes = [
            _Pass(pixels, scale, flip, net, options) for scale in options.scales for flip in flips
        ]
        self._waiting = deque(
            (one, place) for one in self._passes for place in one.places
        )  # tiles whose scores have not come yet
        self._merged: Tensor | None = None

    def tiles(self) -> Iterator[Tensor]:
        """The network's inputs, pass by pass."""
        for one in self._passes:
            yield from one.tiles(self._pixels)

    @property
    def done(self) -> bool:
        """Whether the scores of all tiles have come."""
        return not self._waiting

    def add(self, scores: Tensor) -> None:
        """Takes the scores of the next tile."""
        one, place = self._waiting.popleft()
        one.add(scores, place)
        if self._waiting and self._waiting[0][0] is one:
            return
        found = one.scores((self._pixels.shape[1], self._pixels.shape[2]))
        if self._merged is None:
            self._merged = found
        elif self._options.merge == "max":
            self._merged = torch.maximum(self._merged, found)
        else:
            self._merged = self._merged + found

    def scores(self) -> Tensor:
        """(C, h, w), once it is done."""
        assert self._merged is not None
        count = len(self._passes) if self._options.merge == "mean" else 1
        return self._merged if count == 1 else self._merged / count


class _Pass:
    """One scale of one image, mirrored or not: its windows, and their averaged scores."""

    def __init__(
        self, pixels: Tensor, scale: float, flip: bool, net: ScoreNet, options: InferenceOptions
    ) -> None:
        self._flip = flip
        height, width = (scaled_side(side, scale) for side in pixels.shape[1:])
        self._size = (height, width)
        self._window = net.size_for(self._size) if options.whole_image else net.crop
        rows, columns = (
            window_starts(side, window, options.overlap)
            for side, window in zip(self._size, self._window, strict=True)
        )
        self.places = [(y, x) for y in rows for x in columns]
        self._starts = (rows, columns)
        self._sum: Tensor | None = None

    def tiles(self, pixels: Tensor) -> Iterator[Tensor]:
        """Windows of the scaled image, padded with the mean (0) below and on the right."""
        scaled = interp(pixels, self._size)
        scaled = scaled.flip(2) if self._flip else scaled
        height, width = self._window
        for y, x in self.places:
            part = scaled[:, y : y + height, x : x + width]
            yield functional.pad(part, (0, width - part.shape[2], 0, height - part.shape[1]))

    def add(self, scores: Tensor, place: tuple[int, int]) -> None:
        """Takes the scores of a window, without its padding."""
        height = min(self._window[0], self._size[0] - place[0])
        width = min(self._window[1], self._size[1] - place[1])
        inside = scores[:, :height, :width]
        if len(self.places) == 1:
            self._sum = inside
            return
        if self._sum is None:
            self._sum = inside.new_zeros((len(scores), *self._size))
        self._sum[:, place[0] : place[0] + height, place[1] : place[1] + width] += inside

    def scores(self, size: Size) -> Tensor:
        """(C, h, w) of the image's size; the sum of the windows is freed."""
        assert self._sum is not None
        found, self._sum = self._sum, None
        if len(self.places) > 1:
            for axis in (0, 1):
                found /= self._counts(axis, found).view((-1, 1) if axis == 0 else (1, -1))
        return interp(found.flip(2) if self._flip else found, size)

    def _counts(self, axis: int, like: Tensor) -> Tensor:
        """How many windows hold each row or column."""
        counts = like.new_zeros(self._size[axis])
        for start in self._starts[axis]:
            counts[start : start + self._window[axis]] += 1
        return counts
