"""An evaluation with the network on the device and the CRF on the CPU's cores.

Label maps are those of an evaluation on the CPU, but where two scores are equal within rounding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from caffe_port.crf import PRESETS
from caffe_port.data import voc_items
from caffe_port.data.voc import VOCItem
from caffe_port.evaluation import CRFFactory, InferenceOptions, NetFactory, Options, evaluate
from tools.gpu.nets import MODEL, SHAPES, SIDE
from tools.gpu.outcome import Row, Setting, within

SHARE = 1e-4  # of the pixels, whose scores may be equal within rounding
REPEATS = 8  # how often the images are evaluated for the times
CRF = CRFFactory(PRESETS["v1_largefov"])
GROUP, TIMES = "evaluation: labels of the CPU", "evaluation: stages"


def run(setting: Setting) -> Iterator[Row]:
    """Labels, then the times of the stages."""
    torch.backends.cudnn.allow_tf32 = False
    items = voc_items(SHAPES)[: 2 if setting.small else 24]
    crop = Options(crop=(SIDE, SIDE))
    cases = {
        "whole images": crop,
        "scales and flips": Options(
            crop=(SIDE, SIDE), inference=InferenceOptions(scales=(0.75, 1.0), flip=True)
        ),
    }
    with tempfile.TemporaryDirectory() as name:
        for words, options in cases.items():
            if setting.wants(words):
                yield from compared(Path(name), words, items, options, setting)
        if not setting.small and setting.wants("overlap"):
            yield from overlap(Path(name), items, crop, setting)


def network(device: str, optimized: bool) -> NetFactory:
    """The bundled model."""
    return NetFactory(*MODEL, device=device, optimized=optimized, engine="torch")


def compared(
    folder: Path, words: str, items: list[VOCItem], options: Options, setting: Setting
) -> Iterator[Row]:
    """Label maps before and after the CRF, layer by layer and optimized."""
    wanted = folder / f"{words} cpu"
    evaluate(items, network("cpu", False), wanted, options, make_refiner=CRF)
    for optimized in (False, True):
        found = folder / f"{words} {optimized}"
        result = evaluate(
            items, network(setting.device, optimized), found, options, make_refiner=CRF
        )
        assert result.before is not None
        name = f"{words}{', optimized' if optimized else ''}"
        for stage in ("before", "after"):
            share = differing(found / stage, wanted / stage)
            yield within(GROUP, f"{name}, {stage} the CRF", share, SHARE, what="share of pixels")


def differing(one: Path, other: Path) -> float:
    """The share of pixels whose labels differ; NaN where the folders have other files."""
    names = sorted(path.name for path in other.glob("*.png"))
    if not names or names != sorted(path.name for path in one.glob("*.png")):
        return float("nan")
    maps = [(np.asarray(Image.open(one / n)), np.asarray(Image.open(other / n))) for n in names]
    return sum(int((a != b).sum()) for a, b in maps) / sum(a.size for a, _ in maps)


def overlap(
    folder: Path, items: list[VOCItem], options: Options, setting: Setting
) -> Iterator[Row]:
    """Seconds of the network alone, of the CRF alone, and of both together."""
    many = items * REPEATS
    named = [replace(item, id=f"{i}_{item.id}") for i, item in enumerate(many)]
    factory = network(setting.device, True)
    cache = Options(crop=options.crop, score_cache=folder / "scores")
    evaluate(items, factory, folder / "warm", options, make_refiner=CRF)
    seconds = {}
    for words, chosen, refiner in (
        ("network alone", cache, None), ("CRF alone", cache, CRF), ("both", options, CRF)
    ):  # fmt: skip
        started = time.perf_counter()
        evaluate(named, factory, folder / words, chosen, make_refiner=refiner)
        seconds[words] = time.perf_counter() - started
    slower = max(seconds["network alone"], seconds["CRF alone"])
    for words, value in seconds.items():
        found = f"{value:.2f} s for {len(named)} images"
        yield Row(TIMES, words, None, found, figures={"seconds": round(value, 3)})
    yield Row(TIMES, "both, of the slower stage", None, f"{seconds['both'] / slower:.2f}",
              figures={"ratio": round(seconds["both"] / slower, 3)})  # fmt: skip
