"""What decides an evaluation's label maps, and what makes its two replaceable parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from caffe_port.data.pictures import Bytes
from caffe_port.errors import UsageError

Floats = npt.NDArray[np.float32]
Refiner = Callable[[Floats, Bytes], Bytes]

VOC_MEAN = (104.008, 116.669, 122.675)  # blue, green, red, as in every DeepLab prototxt


@dataclass(frozen=True)
class Network:
    """A network in two parts, each called from several threads at once.

    Args:
        classify: maps (1, 3, H, W) float32, blue green red minus the mean, to scores
            (1, C, h', w'), small where they are enlarged.
        enlarge: maps these to (1, C, H, W); None where ``classify`` gives that.
    """

    classify: Callable[[Floats], Floats]
    enlarge: Callable[[Floats], Floats] | None = None


class NetworkMaker(Protocol):
    """Builds a network."""

    @property
    def on_cpu(self) -> bool:
        """Whether it computes there, so that it shares the cores with everything else."""

    def __call__(self) -> Network:
        """The network; torch's number of threads is that of the thread which calls it."""

    def describe(self) -> dict[str, object]:
        """What decides its scores, as JSON."""


class RefinerMaker(Protocol):
    """Builds a refinement, which is called from several threads at once.

    The refinement maps (C, h, w) scores and the (h, w, 3) uint8 picture, blue first, to labels
    (h, w).
    """

    def __call__(self, threads: int) -> Refiner:
        """The refinement; ``threads`` is how many it may use for one picture."""

    def describe(self) -> dict[str, object]:
        """What decides its result, as JSON."""


@dataclass(frozen=True)
class Settings:
    """How images are put to the network and label maps are judged.

    Args:
        crop: height and width every image is padded to with the mean.
        mean: blue, green, red.
        ignore_label: truth pixels that do not count.
        unknown_labels: what to do about truth labels beyond the network's classes: "error", or
            "ignore" them, counted in the result.
    Raises:
        UsageError: a crop or label out of range.
    Examples:
        >>> from caffe_port.evaluation import Settings
        >>> Settings(crop=(321, 321)).ignore_label
        255
    """

    crop: tuple[int, int] = (513, 513)
    mean: tuple[float, float, float] = VOC_MEAN
    ignore_label: int = 255
    unknown_labels: Literal["error", "ignore"] = "error"

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise UsageError(f"the crop must be at least 1x1, got {self.crop}")
        if not 0 <= self.ignore_label <= 255:
            raise UsageError(f"the ignored label must be 0 to 255, got {self.ignore_label}")
        if not np.isfinite(self.mean).all():
            raise UsageError(f"the mean must be finite, got {self.mean}")
