"""The dense CRF compared with pydensecrf2 (NORMALIZE_AFTER, which is DeepLab's arithmetic).

Kernels are rebuilt each time; ours keeps those over positions, which depend on the size only.
One thread is compared in CPU seconds, two in wall seconds: run it on an idle machine with
`python -m benchmarks crf`; the environment variable CRF names the tables that begin with it, and
CRF_AS another result than crf, for a second machine. Images come from a folder CRF_PICTURES, else
enlarged from the bundled example.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, report, versions
from caffe_port.inference.choice import processor

SHAPES = Path(__file__).parent.parent / "examples" / "shapes_voc" / "JPEGImages"
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """An image's size and the kernels (position width, weight 3; bilateral widths, weight 4)."""

    height: int = 375
    width: int = 500
    labels: int = 21
    position: float = 3
    bilateral: tuple[float, float] = (121, 5)
    image: int = 0


def problem(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 and energies (labels, H, W) that favour a label per block."""
    from PIL import Image

    paths = sorted(Path(os.environ.get("CRF_PICTURES", SHAPES)).glob("*.jpg"))
    with Image.open(paths[case.image % len(paths)]) as file:
        photo = file.convert("RGB")
    size = (case.width, case.height)
    if photo.width >= case.width and photo.height >= case.height:
        photo = photo.crop((0, 0, *size))
    image = np.array(photo.resize(size, Image.Resampling.BICUBIC))
    rng = np.random.default_rng(case.image)
    shape = (case.labels, case.height // 16 + 1, case.width // 16 + 1)
    blocks = 2 * rng.normal(size=shape).repeat(16, 1).repeat(16, 2)
    energies = blocks[:, : case.height, : case.width]
    energies = energies + 0.5 * rng.normal(size=energies.shape)
    return image, np.ascontiguousarray(energies, np.float32)


def theirs(case: Case, image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    """pydensecrf's marginals."""
    from pydensecrf import densecrf

    mode = densecrf.NORMALIZE_AFTER
    crf = densecrf.DenseCRF2D(case.width, case.height, case.labels)
    crf.setUnaryEnergy(unary.reshape(case.labels, -1))
    crf.addPairwiseGaussian(case.position, 3, normalization=mode)
    crf.addPairwiseBilateral(*case.bilateral, image, 4, normalization=mode)
    return np.array(crf.inference(10), copy=False).reshape(unary.shape)


def ours(case: Case, image: np.ndarray, unary: np.ndarray, **options: Any) -> np.ndarray:
    """Our marginals."""
    from caffe_port.crf import DenseCRF

    crf = DenseCRF(case.height, case.width, case.labels, **options)
    crf.add_gaussian(case.position, weight=3)
    crf.add_bilateral(*case.bilateral, image, weight=4)
    return crf.infer(unary, 10)


def timed(clock: Clock, call: Callable[[], object]) -> float:
    """Seconds by a clock."""
    started = clock()
    call()
    return clock() - started


def compare(case: Case, repeats: int) -> dict[str, Any]:
    """Interleaved runs of one case."""
    image, unary = problem(case)
    labels = [run(case, image, unary).argmax(0) for run in (theirs, ours)]
    ours(case, image, unary, threads=2)
    rows = []
    for _ in range(repeats):
        started = time.process_time(), time.perf_counter()
        theirs(case, image, unary)
        cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
        one = timed(time.process_time, lambda: ours(case, image, unary))
        exact = timed(time.process_time, lambda: ours(case, image, unary, exact=True))
        two = timed(time.perf_counter, lambda: ours(case, image, unary, threads=2))
        rows.append((cpu, one, two, cpu / one, wall / two, cpu / exact))
    pydensecrf, one, two, *ratios = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    return {
        "pydensecrf s": round(pydensecrf, 3),
        "one thread s": round(one, 3),
        "two s": round(two, 3),
        **dict(zip(("times, one", "times, two", "times, exact"), (round(r, 2) for r in ratios),
                   strict=True)),
        "labels that differ": int((labels[0] != labels[1]).sum()),
    }  # fmt: skip


def batch(repeats: int, count: int = 8) -> dict[str, Any]:
    """Images one after the other with pydensecrf, on two threads with ours."""
    cases = [Case(image=i) for i in range(count)]
    problems = [problem(case) for case in cases]
    ratios = []
    for _ in range(repeats + 1):
        before = timed(time.perf_counter, lambda: [
            theirs(case, *p) for case, p in zip(cases, problems, strict=True)
        ])  # fmt: skip
        with ThreadPoolExecutor(2) as pool:
            after = timed(time.perf_counter, lambda: list(
                pool.map(lambda pair: ours(pair[0], *pair[1]), zip(cases, problems, strict=True))
            ))  # fmt: skip
        ratios.append(before / after)
    return {"images": count, "times": round(statistics.median(ratios[1:]), 2)}


def steps(repeats: int) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of each part of one inference, on one thread."""
    from caffe_port.crf import DenseCRF

    case = Case()
    image, unary = problem(case)

    def crf(*kinds: str) -> DenseCRF:
        made = DenseCRF(case.height, case.width, case.labels)
        if "position" in kinds:
            made.add_gaussian(case.position, weight=3)
        if "bilateral" in kinds:
            made.add_bilateral(*case.bilateral, image, weight=4)
        return made

    def fastest(call: Callable[[], object]) -> float:
        return 1e3 * min(timed(time.process_time, call) for _ in range(repeats))

    both = crf("position", "bilateral")
    build, whole = fastest(lambda: crf("bilateral")), fastest(lambda: both.infer(unary, 10))
    ends = fastest(lambda: both.infer(unary, 0))
    softmax = fastest(lambda: crf().infer(unary, 10)) - ends
    position = fastest(lambda: crf("position").infer(unary, 10)) - softmax - ends
    figures = {
        "build the bilateral lattice": build,
        "energies in, probabilities out": ends,
        "10 softmaxes and passes over the scores": softmax,
        "10 filterings, position": position,
        "10 filterings, bilateral": whole - ends - softmax - position,
    }
    total = build + whole
    table = {n: {"ms": round(ms, 1), "share": round(ms / total, 3)} for n, ms in figures.items()}
    limit = _bandwidth_limit(both, case)
    table["least time to move the bytes once"] = {
        "ms": round(limit, 1),
        "share": round(limit / total, 3),
    }
    return table


def _bandwidth_limit(crf: Any, case: Case) -> float:
    """Milliseconds to stream scores, corners and values of 10 iterations at a copy's speed."""
    pixels, row = case.height * case.width, 96
    vertices = sum(kernel.vertices for kernel in crf._kernels)
    corners = 8 * pixels * (3 + 6)
    passes = 2 * 3 * vertices * row  # added to, blurred, read: each read and written
    source = np.ones(1 << 24, np.float32)
    into = np.empty_like(source)
    seconds = min(timed(time.perf_counter, lambda: np.copyto(into, source)) for _ in range(9))
    return 1e3 * 10 * (pixels * row + corners + passes) * seconds / (2 * source.nbytes)


def cost(run: str, case: Case) -> tuple[float, float]:
    """CPU seconds and megabytes that one inference takes in a process of its own."""
    code = (
        "import ast, sys, time\n"
        "from benchmarks import crf\n"
        "from benchmarks.measure import peak\n"
        "case = crf.Case(**ast.literal_eval(sys.argv[2]))\n"
        "data = crf.problem(case)\n"
        "small = crf.Case(8, 8)\n"
        "way = getattr(crf, sys.argv[1])\n"
        "way(small, *crf.problem(small))\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before, started = peak(), time.process_time()\n"
        "q = way(case, *data)\n"
        "print(time.process_time() - started, peak() - before)\n"
    )
    command = [sys.executable, "-c", code, run, repr(asdict(case))]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, size = found.split()[-2:]
    return float(seconds), int(size) / 2**20


def by_size(cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Time and memory of images of several sizes, also for a million pixels, on one thread."""
    rows = {}
    for name, case in cases.items():
        (slow, more), (fast, less) = cost("theirs", case), cost("ours", case)
        pixels = case.height * case.width / 1e6
        rows[name] = {
            "pydensecrf s": round(slow, 2),
            "ours s": round(fast, 2),
            "times": round(slow / fast, 2),
            "pydensecrf MB": round(more),
            "ours MB": round(less),
            "pydensecrf s/Mpixel": round(slow / pixels, 2),
            "ours s/Mpixel": round(fast / pixels, 2),
            "ours MB/Mpixel": round(less / pixels),
        }
    return rows


def shared(repeats: int) -> dict[str, dict[str, Any]]:
    """Wall seconds on one and on two threads while other processes use one core, or both."""
    case = Case()
    data, rows = problem(case), {}
    for name, busy in {"no core": (), "one core": (1,), "both cores": (0, 1)}.items():
        others = [
            subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])
            for core in busy
        ]
        try:
            times: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(repeats):
                for threads, found in times.items():
                    found.append(
                        timed(time.perf_counter, partial(ours, case, *data, threads=threads))
                    )
        finally:
            for other in others:
                other.kill()
        one, two = (statistics.median(found) for found in times.values())
        rows[f"another process on {name}"] = {
            "one thread s": round(one, 3), "two s": round(two, 3), "times": round(one / two, 2),
        }  # fmt: skip
    return rows


def main(repeats: int = 5) -> None:
    """Measures and reports."""
    v2 = {"position": 1, "bilateral": (67, 3)}
    cases = {
        "500 x 375, 21 labels": Case(),
        "the same, another image": Case(image=1),
        "v2 widths 67/3 and 1": Case(**v2),  # type: ignore[arg-type]
        "2 labels": Case(labels=2),
        "5 labels": Case(labels=5),
        "60 labels": Case(labels=60),
        "1024 x 768, 21 labels": Case(768, 1024),
    }
    sizes = {
        "500 x 375, 21 labels": Case(),
        "2048 x 1024, 19 labels": Case(1024, 2048, 19),
        "4000 x 3000, 21 labels": Case(3000, 4000),
    }
    subjects: dict[str, Callable[[], dict[str, Any]]] = {
        "compared with pydensecrf, 10 iterations": lambda: {
            n: compare(c, repeats) for n, c in cases.items()
        },
        "a batch on two threads": lambda: {"8 images": batch(max(1, repeats // 2))},
        "steps of one inference": lambda: steps(repeats),
        "steps of one inference, without AVX2": lambda: portable(partial(steps, repeats)),
        "by size, one thread": lambda: by_size(sizes),
        "cores that are shared": lambda: shared(repeats),
        "peak memory of one inference": lambda: {
            n: {"MB": round(cost(n, Case())[1])} for n in ("theirs", "ours")
        },
    }
    name, only = os.environ.get("CRF_AS", "crf"), os.environ.get("CRF", "")
    known = RESULTS / f"{name}.json"
    tables = json.loads(known.read_text())["tables"] if only and known.is_file() else {}
    found = {"processor": processor(), **versions("numpy", "pydensecrf2")}
    for title, measure in subjects.items():
        if title.startswith(only):
            tables[title] = measure()
            report(name, {"versions": found, "tables": tables})


def portable(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured where the processor has no AVX2."""
    from caffe_port.crf._lattice import instructions

    instructions("portable")
    try:
        return measure()
    finally:
        instructions("best")


if __name__ == "__main__":
    main()
