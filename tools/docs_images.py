"""Draws the documentation's figures from the bundled files: docs/images/*.png.

usage: python tools/docs_images.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
EXAMPLE = ROOT / "examples" / "shapes_voc"
RUN = EXAMPLE / "caffe_run"
REFINED = "shape_val_0033"  # has thin parts, which the network alone blurs
TRACED = "shape_val_0007"  # a disc and a box, used in the tutorial
SHOWN = {"shape_val_0027": 4, "shape_val_0033": 5, "shape_val_0007": 2}  # and the traced label
MEAN = (104.008, 116.669, 122.675)

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Draws all figures."""
    sys.path.insert(0, str(ROOT))  # for tests.verifying
    draw_parity()
    photo, scores = scored(REFINED)
    draw_iterations(photo, scores)
    draw_widths(photo, scores)
    draw_unravel()
    draw_overview()


def shares() -> Iterator[tuple[str, float, float]]:
    """Kind, Caffe's and the port's share of the bound, for every bundled recorded blob."""
    from caffe_port.parity.verify import verify
    from tests.verifying import recorded_net

    goldens = ROOT / "tests" / "goldens"
    for case in sorted([*goldens.glob("[ln]*s/*/case.json"), *goldens.glob("wide/*/case.json")]):
        net, recording = recorded_net(case.parent)
        for row in verify(net, recording).rows:
            port, theirs = row.comparison.port_share, row.comparison.caffe_share
            if port is not None and theirs is not None:
                yield row.kind, theirs, port


def draw_parity() -> None:
    """Draws the share of the bound that Caffe and the port use, for each recorded blob."""
    from matplotlib import pyplot as plt

    floor = 1e-4  # exact results are drawn here on the logarithmic axes
    found = list(shares())
    figure, axes = plt.subplots(figsize=(6.4, 5.2), dpi=100)
    kinds = {"data": "blobs", "diff": "diffs", "pdiff": "parameters' gradients"}
    for (kind, name), colour in zip(kinds.items(), ("#3f51b5", "#00897b", "#e65100"), strict=True):
        points = np.array([(a, b) for k, a, b in found if k == kind]).clip(floor)
        axes.plot(*points.T, ".", ms=4, alpha=0.6, color=colour, label=f"{len(points)} {name}")
    axes.axhline(1, color="#c62828", lw=1, label="the bound")
    axes.axvline(1, color="#c62828", lw=1)
    axes.set(xscale="log", yscale="log", xlabel="Caffe's error / bound",
             ylabel="the port's error / bound")  # fmt: skip
    axes.legend(loc="upper left", fontsize=8)
    save(figure, "parity.png")


def scored(name: str) -> tuple[npt.NDArray[np.uint8], Floats]:
    """A validation image, and the scores that the bundled network gives it."""
    import torch

    photo, x, net = prepared(name)
    height, width = photo.shape[:2]
    with torch.no_grad():
        scores = net({"data": x})["fc8_interp"][0, :, :height, :width].numpy()
    return photo, np.ascontiguousarray(scores)


def prepared(name: str) -> tuple[npt.NDArray[np.uint8], Floats, Any]:
    """A validation image, the network input made from it, and the bundled network."""
    import caffe_port

    photo = np.asarray(Image.open(EXAMPLE / "JPEGImages" / f"{name}.jpg").convert("RGB"))
    height, width = photo.shape[:2]
    x = np.zeros((1, 3, 161, 161), np.float32)
    x[0, :, :height, :width] = (photo[..., ::-1] - np.array(MEAN)).transpose(2, 0, 1)
    net = caffe_port.load(
        RUN / "recording" / "net.prototxt", RUN / "model/train_iter_2400.caffemodel"
    )
    return photo, x, net


def inferred(photo: npt.NDArray[np.uint8], scores: Floats, iterations: int, xy: float = 49,
             rgb: float = 13) -> npt.NDArray[np.intp]:  # fmt: skip
    """The CRF's labels with the settings of Caffe's run, except the given ones."""
    from caffe_port.crf import DenseCRF

    crf = DenseCRF(*photo.shape[:2], labels=len(scores)).add_gaussian(3, weight=3)
    return crf.add_bilateral(xy, rgb, photo, weight=4).infer(-scores, iterations).argmax(0)


def draw_iterations(photo: npt.NDArray[np.uint8], scores: Floats) -> None:
    """Draws the truth, and the labels by number of iterations."""
    truth = np.asarray(Image.open(EXAMPLE / "SegmentationClass" / f"{REFINED}.png"))
    panels = {"photograph": photo, "truth": truth, "network alone": scores.argmax(0)}
    for count in (1, 2, 10):
        name = f"{count} iteration" + "s" * (count > 1)
        panels[name] = inferred(photo, scores, count)
    draw_panels(panels, "crf.png")


def draw_widths(photo: npt.NDArray[np.uint8], scores: Floats) -> None:
    """Draws the labels by width of the bilateral kernel."""
    panels = {
        f"{xy} pixels, {rgb} grey levels": inferred(photo, scores, 10, xy, rgb)
        for rgb in (3, 13, 60) for xy in (5, 49)
    }  # fmt: skip
    draw_panels(panels, "widths.png")


def draw_unravel() -> None:
    """Draws, for each label of an image, its region, the traced points and their heat map."""
    from caffe_port.unravel import trace
    from caffe_port.unravel.drawing import heat_map, overlay, with_points

    photo, x, net = prepared(TRACED)
    height, width = photo.shape[:2]
    found = trace(net, {"data": x}, "fc8_interp")
    names = (EXAMPLE / "class_names.txt").read_text(encoding="utf-8").split()
    panels: dict[str, npt.NDArray[Any]] = {}
    for label in (1, 2):
        points = found[label]["data"]
        heat = heat_map(points, (161, 161))[:height, :width]
        region = found.label_map[:height, :width] == label
        panels[f"labelled {names[label]}"] = np.where(region, label, 0)
        panels[f"{len(points)} points that caused it"] = np.asarray(
            with_points(photo, points[:, 1:].astype(float), radius=9)
        )
        panels[f"heat map of {names[label]}"] = overlay(photo, heat)
    draw_panels(panels, "unravel.png")


def draw_overview() -> None:
    """Draws the README's image: photos, labels here and in Caffe, the points that caused one."""
    from matplotlib import pyplot as plt

    from caffe_port.unravel import trace
    from caffe_port.unravel.drawing import with_points

    caffe = np.load(RUN / "result_val.npz")
    names = (EXAMPLE / "class_names.txt").read_text(encoding="utf-8").split()
    figure, axes = plt.subplots(len(SHOWN), 5, figsize=(9.6, 1.55 * len(SHOWN)), dpi=100)
    for row, (name, label) in zip(axes, SHOWN.items(), strict=True):
        photo, x, net = prepared(name)
        scores = scored(name)[1]
        points = trace(net, {"data": x}, "fc8_interp", labels=[label])[label]["data"]
        dots = with_points(photo, points[:, 1:].astype(float), radius=9)
        panels = {
            "image": photo,
            "network": coloured(scores.argmax(0)),
            "after the dense CRF": coloured(inferred(photo, scores, 10)),
            "Caffe": coloured(caffe[f"crf/{name}"]),
            f"what caused '{names[label]}'": np.asarray(dots),
        }
        for place, (title, image) in zip(row, panels.items(), strict=True):
            place.imshow(image, interpolation="nearest")
            place.set_title(title, fontsize=9)
            place.axis("off")
    save(figure, "overview.png", colours=128)


def coloured(labels: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    """A label map in VOC's colours."""
    from caffe_port.data.images import voc_palette

    return np.asarray(voc_palette(), np.uint8).reshape(-1, 3)[labels]


def draw_panels(panels: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    """Draws images and label maps, in rows of three."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(7.2, 4.6), dpi=80)
    for place, (title, image) in zip(axes.flat, panels.items(), strict=True):
        place.imshow(image if image.ndim == 3 else coloured(image), interpolation="nearest")
        place.set_title(title, fontsize=9)
        place.axis("off")
    save(figure, name)


def save(figure: Any, name: str, colours: int = 48) -> None:
    """Writes a figure with few colours, which makes a small file."""
    figure.tight_layout()
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    image.quantize(colours, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
