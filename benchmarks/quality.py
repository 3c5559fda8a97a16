"""What options and conversions do to the labels of the bundled model on its 60 validation images.

`evaluate` with flips, scales and windows; normalizations and colours of the dense CRF; how much the
traced points explain; half precision and quantization. All in per cent. Run it with
`python -m benchmarks quality`; it measures no times.
"""

from __future__ import annotations

import copy
import json
import shlex
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import report, versions
from benchmarks.shapes import (
    CANVAS,
    RUN,
    Bundled,
    Labels,
    Row,
    Sample,
    labels_of,
    padded,
    samples,
)
from caffe_port.cli import main as caffe_port
from caffe_port.crf import DenseCRF
from caffe_port.evaluation.network import Settings
from caffe_port.export import emit_module, write_onnx
from caffe_port.inference.engines import onnxruntime_module
from caffe_port.unravel.analysis import AnalysedImage, AnalysisOptions, analyse
from caffe_port.unravel.measures import ORDERS, area, mean_curves, summarize
from tests.export.making import imported
from tests.goldens_dir import SHAPES

MODEL = (str(RUN / "recording" / "net.prototxt"), str(RUN / "model" / "train_iter_2400.caffemodel"))
PREDICTED = (
    "",
    "--flip",
    "--whole-image",
    "--scales 0.9,1,1.1 --flip --whole-image",
    "--scales 0.75,1,1.25 --flip --whole-image",
    "--scales 0.75,1,1.25 --flip --whole-image --merge max",
    "--scales 0.5,0.75,1,1.25,1.5,1.75 --flip",
    "--scales 0.5,0.75,1,1.25,1.5,1.75 --flip --whole-image",
    "--scales 0.5,0.75,1,1.25,1.5,1.75 --flip --whole-image --merge max",
)
CRF = "bi_w=4,bi_xy_std=49,bi_rgb_std=13"
CALIBRATION = 40  # training images
CURVES = 20  # images whose deletion and insertion are measured

Predictor: TypeAlias = Callable[[Tensor], Tensor]


def _evaluated(options: str, out: Path) -> dict[str, Any]:
    """The report of `caffe-port evaluate` with these options."""
    fixed = ["--images", str(SHAPES), "--list", "val", "--engine", "torch", "-o", str(out)]
    caffe_port(["evaluate", *MODEL, *fixed, *shlex.split(options)], standalone_mode=False)
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def predicted(folder: Path) -> dict[str, Row]:
    """Mean IoU and pixel accuracy by the options of `evaluate`."""
    rows: dict[str, Row] = {}
    for number, options in enumerate(PREDICTED):
        found = _evaluated(options, folder / str(number))["before"]
        names = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}
        rows[options or "none"] = {key: round(100 * found[name], 2) for key, name in names.items()}
    return rows


def _share(before: list[Labels], after: list[Labels]) -> float:
    changed = sum(int((a != b).sum()) for a, b in zip(before, after, strict=True))
    return round(100 * changed / sum(labels.size for labels in before), 3)


@torch.no_grad()
def refined(model: Bundled, folder: Path) -> dict[str, Row]:
    """Labels that another normalization, or other colours, change after the dense CRF."""

    def labels(sample: Sample, normalization: str) -> Labels:
        height, width = sample.truth.shape
        crf = DenseCRF(height, width, labels=6, normalization=normalization)
        crf.add_gaussian(3, weight=3).add_bilateral(49, 13, sample.pixels[..., ::-1], weight=4)
        scores = model.maps(sample)[0, :, :height, :width]
        q = crf.infer(-scores.log_softmax(0).numpy(), 10)
        return np.asarray(q).argmax(0)

    maps = {
        name: [labels(sample, name) for sample in model.samples]
        for name in ("after", "symmetric", "before", "none")
    }
    rows: dict[str, Row] = {
        f"normalization {name}": {"labels changed": _share(maps["after"], maps[name])}
        for name in ("symmetric", "before", "none")
    }
    written = []
    for colours in ("layer", "rgb"):
        _evaluated(f"--crf {CRF} --crf-colours {colours}", folder / colours)
        files = sorted((folder / colours / "after").glob("*.png"))
        written.append([np.asarray(Image.open(file)) for file in files])
    rows["colours of the programs"] = {"labels changed": _share(*written)}
    return rows


def traced(model: Bundled) -> dict[str, dict[str, Row]]:
    """Where the points are by shift type, and the areas under deletion and insertion."""
    names = (SHAPES / "val_id.txt").read_text().split()
    files = [
        (SHAPES / "JPEGImages" / f"{n}.jpg", SHAPES / "SegmentationClass" / f"{n}.png")
        for n in names
    ]
    shifts = ("full_shift", "no_shift", "partial_shift")
    settings = Settings((CANVAS, CANVAS))
    options = AnalysisOptions("fc8_interp", shifts=shifts, curves=CURVES, kept=0, settings=settings)
    found: list[AnalysedImage] = analyse(model.net, files, options)
    places: dict[str, Row] = {}
    for shift in shifts:
        all_of = summarize(case for image in found for case in image.evidence[shift])
        places[shift] = {
            "labels": all_of.cases, "inside": round(100 * all_of.inside, 1),
            "by chance": round(100 * all_of.chance, 1), "peak inside": round(100 * all_of.hits, 1),
            "distance of those outside": round(all_of.distance, 1),
        }  # fmt: skip
    several = [curves for image in found for curves in image.curves.values()]
    mean = mean_curves(several)
    areas: dict[str, Row] = {
        order: {
            "labels": len(several), "deletion": round(100 * area(mean[order].deletion), 1),
            "insertion": round(100 * area(mean[order].insertion), 1),
        }
        for order in ORDERS
    }  # fmt: skip
    return {"traced points": places, "order of the pixels": areas}


def _calibration() -> Tensor:
    names = (SHAPES / "ImageSets" / "Segmentation" / "train.txt").read_text().split()[:CALIBRATION]
    return torch.cat([padded(sample.x) for sample in samples(names)])


def _torch_ao(model: Bundled, images: Tensor, engine: str, folder: Path) -> Predictor:
    """The recipe of docs/pytorch.md."""
    from torch.ao import quantization

    state = emit_module(model.net, folder / "largefov.py")
    module = imported(folder / "largefov.py").eval()
    module.load_state_dict(torch.load(state, weights_only=True))
    torch.backends.quantized.engine = engine
    net = quantization.QuantWrapper(module)
    net.qconfig = quantization.get_default_qconfig(engine)
    quantization.prepare(net, inplace=True)
    net(images)
    quantization.convert(net, inplace=True)

    def predict(x: Tensor) -> Tensor:
        torch.backends.quantized.engine = engine
        scores: Tensor = net(x)
        return scores

    return predict


def _onnxruntime(
    model: Bundled, images: Tensor, folder: Path, **options: Any
) -> tuple[Predictor, dict[str, float]]:
    """The recipe of docs/pytorch.md; also the sizes of both files."""
    program = onnxruntime_module()
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        rows = iter(images.split(1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {"data": row.numpy()}

    full, small = folder / "net.onnx", folder / "int8.onnx"
    write_onnx(model.net, full)
    quantize_static(full, small, Images(), **options)
    session = program.InferenceSession(str(small), providers=["CPUExecutionProvider"])
    sizes = {"bytes": small.stat().st_size, "bytes of float32": full.stat().st_size}
    return lambda x: torch.from_numpy(session.run(None, {"data": x.numpy()})[0]), sizes


@torch.no_grad()
def converted(model: Bundled, folder: Path) -> dict[str, Row]:
    """Labels that half precision and quantization change, and the mean IoU."""
    images, sizes = _calibration(), {}
    ways: dict[str, Predictor] = {}
    for dtype in (torch.float16, torch.bfloat16):
        net = copy.deepcopy(model.net).to(dtype)
        ways[str(dtype)] = lambda x, net=net, dtype=dtype: net(x.to(dtype))["fc8_interp"].float()
    ways |= {f"torch.ao, {n}": _torch_ao(model, images, n, folder) for n in ("x86", "onednn")}
    for name, options in (("all", {}), ("Conv", {"op_types_to_quantize": ["Conv"]})):
        key = f"onnxruntime, {name}"
        ways[key], sizes[key] = _onnxruntime(model, images, folder, **options)
    rows = model.rows({
        name: lambda sample, way=way: labels_of(way(padded(sample.x)), sample)
        for name, way in ways.items()
    })  # fmt: skip
    return {name: {**row, **sizes.get(name, {})} for name, row in rows.items()}


def main() -> None:
    """Measures everything; what is measured is written at once."""
    model, installed = Bundled(), versions("torch", "numpy", "onnxruntime")
    tables: dict[str, dict[str, Row]] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it moves torch.ao to another package
        folder = Path(name)
        for measure in (
            lambda: {"half precision and quantization": converted(model, folder)},
            lambda: {"dense CRF": refined(model, folder)},
            lambda: {"evaluate": predicted(folder)},
            lambda: traced(model),
        ):
            tables |= measure()
            report("quality", {"versions": installed, "tables": tables})
