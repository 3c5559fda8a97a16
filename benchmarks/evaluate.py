"""An evaluation with the network and the CRF overlapped, compared with each of them alone.

`python -m benchmarks evaluate`. The bundled example, and LargeFOV with its published channels on
photographs (a VOC folder EVALUATE_PICTURES with the list val; left out without one). Nets are
built before, so that what is timed grows with the images.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import report, versions
from benchmarks.nets import with_random_weights
from caffe_port.crf import PRESETS, CRFParameters
from caffe_port.data.voc import VOCItem, voc_items
from caffe_port.evaluation.network import NetFactory, Network, Options
from caffe_port.evaluation.pipeline import evaluate
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.scheduler import cores

ROOT = Path(__file__).parent.parent
SHAPES = ROOT / "examples" / "shapes_voc"
_LIMIT = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Built:
    """A network built before the timing starts."""

    network: Network
    on_cpu: bool = True

    def __call__(self) -> Network:
        """The network."""
        return self.network

    def describe(self) -> dict[str, object]:
        """One network a cache."""
        return {}


@dataclass(frozen=True)
class Case:
    """Images, a network and a CRF."""

    items: list[VOCItem]
    factory: NetFactory
    crf: CRFParameters
    crop: int


@dataclass(frozen=True)
class Run:
    """Seconds of one evaluation: by the clock, and of all cores together."""

    wall: float
    busy: float


def shapes(folder: Path) -> Case:
    """The bundled example: a thin LargeFOV on 60 images of 160 x 120 or so."""
    run = SHAPES / "caffe_run"
    factory = NetFactory(
        str(run / "recording" / "net.prototxt"), str(run / "model" / "train_iter_2400.caffemodel")
    )
    crf = CRFParameters((3,), (3,), (4,), (49,), (13,))
    return Case(voc_items(SHAPES, "val"), factory, crf, 161)


def largefov(folder: Path, voc: Path, images: int = 6) -> Case:
    """LargeFOV with its published channels and random weights, on photographs given repeatedly."""
    net = with_random_weights("deeplab_v2_vgg16_largefov")
    net.save(folder / "largefov.pt")
    found = voc_items(voc, "val", with_labels=False)
    items = []
    for number in range(images):
        item = found[number % len(found)]
        image = folder / f"{number}{item.image.suffix}"
        shutil.copy(item.image, image)
        items.append(VOCItem(str(number), image, None, "copies"))
    factory = NetFactory(str(folder / "largefov.pt"), optimized=True)
    return Case(items, factory, PRESETS["v1_largefov"], 513)


def measure(case: Case, folder: Path, repeats: int) -> dict[str, Any]:
    """Interleaved runs of the whole and of its parts, on all cores and on one."""
    network, crf, cache = Built(case.factory()), CRFFactory(case.crf), folder / "scores"

    def once(make_refiner: CRFFactory | None = None, score_cache: Path | None = None) -> Run:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            wall, busy = time.perf_counter(), time.process_time()
            options = Options((case.crop, case.crop), score_cache=score_cache)
            evaluate(case.items, network, out, options, make_refiner=make_refiner)
            return Run(time.perf_counter() - wall, time.process_time() - busy)

    def alone() -> list[Run]:
        return [once(), once(make_refiner=crf, score_cache=cache)]

    once(make_refiner=crf, score_cache=cache)  # fills the cache, and warms up
    rows = []
    for _ in range(repeats):
        whole = once(make_refiner=crf)
        both = alone()
        with one_core():
            rows.append((whole, *both, *alone()))
    return _figures(rows, len(case.items))


def _figures(rows: list[tuple[Run, ...]], images: int) -> dict[str, Any]:
    def median(values: Iterator[float], digits: int = 3) -> float:
        return round(statistics.median(values), digits)

    walls = [[run.wall for run in row] for row in rows]
    return {
        "images": images,
        "ms/image": median((1e3 * row[0] / images for row in walls), 1),
        "network alone": median((1e3 * row[1] / images for row in walls), 1),
        "CRF alone": median((1e3 * row[2] / images for row in walls), 1),
        "to the slower": median(row[0] / max(row[1:3]) for row in walls),
        "to both in turn": median(row[0] / sum(row[1:3]) for row in walls),
        "to the slower on a core": median(row[0] / max(row[3:5]) for row in walls),
        "cores busy": median(row[0].busy / row[0].wall for row in rows),
    }


@contextmanager
def one_core() -> Iterator[None]:
    """One thread for everything."""
    earlier = os.environ.get(_LIMIT)
    os.environ[_LIMIT] = "1"
    try:
        yield
    finally:
        if earlier is None:
            del os.environ[_LIMIT]
        else:
            os.environ[_LIMIT] = earlier


def main(repeats: int = 3) -> None:
    """Measures and reports."""
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {"thin LargeFOV, 161 x 161": shapes(folder)}
        if "EVALUATE_PICTURES" in os.environ:
            voc = Path(os.environ["EVALUATE_PICTURES"])
            cases["LargeFOV, 513 x 513"] = largefov(folder, voc)
        for title, case in cases.items():
            (folder / title).mkdir()
            rows[title] = measure(case, folder / title, repeats)
    found = {**versions("numpy", "torch"), "cores used": str(cores())}
    report("evaluate", {"versions": found, "tables": {"network and CRF, overlapped": rows}})


if __name__ == "__main__":
    main()
