"""Networks and refinements small enough to know their answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from caffe_port.data.voc import voc_items
from caffe_port.errors import UsageError
from caffe_port.evaluation import pipeline
from caffe_port.evaluation.network import Network, Options

CROP = Options(crop=(12, 10), mean=(0.0, 0.0, 0.0))
CLASSES = 3


def evaluate(items, network, out, options=CROP, *, make_refiner=None, progress=None, ranks=None,
             **changes) -> pipeline.Result:  # fmt: skip
    """Evaluates with the options, some of them changed."""
    return pipeline.evaluate(
        items, network, out, replace(options, **changes), make_refiner=make_refiner,
        progress=progress, ranks=ranks,
    )  # fmt: skip


@dataclass(frozen=True)
class Brightest:
    """Says class 0, 1, 2 where blue, green, red is brightest."""

    name: str = "brightest"
    on_cpu: bool = True

    def __call__(self):
        return Network(lambda x: x.copy())

    def describe(self):
        return {"name": self.name}


@dataclass(frozen=True)
class Doubled(Brightest):
    """The same on every other row and column, enlarged by doubling; counts what it classifies."""

    calls: list = field(default_factory=list)

    def __call__(self):
        def classify(x):
            self.calls.append(1)
            return x[:, :, ::2, ::2].copy()

        return Network(classify, lambda scores: scores.repeat(2, 2).repeat(2, 3))


@dataclass(frozen=True)
class Refuses(Brightest):
    """Cannot be built."""

    def __call__(self):
        raise UsageError("these weights are not the net's")


@dataclass(frozen=True)
class Gives(Brightest):
    """Gives scores of another shape or value."""

    shape: tuple[int, ...] = (1, 3, 12, 10)
    value: float = 0.0

    def __call__(self):
        return Network(lambda x: np.full(self.shape, self.value, np.float32))


@dataclass(frozen=True)
class Swaps:
    """A refinement that exchanges classes 0 and 1."""

    def __call__(self, threads):
        return lambda scores, image: scores[[1, 0, 2]].argmax(0).astype(np.uint8)

    def describe(self):
        return {"swaps": [0, 1]}


def make_voc(root, count=5):
    """A VOC folder whose images show their label maps, but for one pixel each.

    Returns:
        the items and the label maps.
    """
    random, truths = np.random.default_rng(0), []
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        truth = random.integers(0, CLASSES, (12 - i % 5, 6 + i % 4), dtype=np.uint8)
        shown = truth.copy()
        shown[0, 0] = (truth[0, 0] + 1) % CLASSES
        colours = np.eye(CLASSES, dtype=np.uint8)[:, ::-1][shown] * 255
        Image.fromarray(colours).save(root / "JPEGImages" / f"im{i}.png")
        truth[-1] = 255
        Image.fromarray(truth).save(root / "SegmentationClass" / f"im{i}.png")
        truths.append(truth)
    names = "\n".join(f"im{i}" for i in range(count))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names + "\n")
    return voc_items(root), truths
