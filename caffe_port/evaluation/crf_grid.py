"""The search for the CRF's best weights and widths on a validation subset, and its report.

Source: DeepLab's run_densecrf_grid_search.sh: the settings that give the highest mean IoU.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_port.crf import CRFParameters, DenseCRF
from caffe_port.crf.params import from_mapping
from caffe_port.crf.programs import Item, Kind, read_item_image, unary_of
from caffe_port.data.voc import LABEL_SUFFIXES, file_named
from caffe_port.datasets.rules import LabelRules
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import VOC_MEAN, Floats
from caffe_port.evaluation.refinement import Colours, bilateral_colours
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts
from caffe_port.files import write_text
from caffe_port.reports import html

Scores = NDArray[np.float64]  # mean IoU of each setting
AXES = ("pos_w", "pos_xy_std", "bi_w", "bi_xy_std", "bi_rgb_std")


@dataclass(frozen=True)
class Grid:
    """Values to try of each setting; every combination is tried."""

    pos_w: tuple[float, ...] = (3,)
    pos_xy_std: tuple[float, ...] = (3,)
    bi_w: tuple[float, ...] = (3, 4, 5)
    bi_xy_std: tuple[float, ...] = (30, 50, 70, 90)
    bi_rgb_std: tuple[float, ...] = (3, 5, 7, 9)
    iterations: int = 10

    def settings(self) -> list[CRFParameters]:
        """All combinations; the last axis varies fastest."""
        axes = [getattr(self, name) for name in AXES]
        return [
            from_mapping({**dict(zip(AXES, chosen, strict=True)), "iterations": self.iterations})
            for chosen in itertools.product(*axes)
        ]


def values(text: str) -> tuple[float, ...]:
    """``3,4,5`` or ``first:last:step``, the last included.

    Raises:
        UsageError: neither, no value, or more than 1000.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, step = (float(part) for part in text.split(":"))
        count = int((last - first) / step * (1 + 1e-9)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"'{text}': expected values 3,4,5 or first:last:step") from None
    if step <= 0:
        raise UsageError(f"'{text}' has the step {step:g}; expected one above 0")
    if not 1 <= count <= 1000:
        raise UsageError(f"'{text}' gives {max(count, 0)} values; expected 1 to 1000")
    return tuple(first + i * step for i in range(count))


def search(
    items: Sequence[Item],
    labels: Path,
    kind: Kind,
    grid: Grid,
    *,
    colours: Colours,
    jobs: int,
    rules: LabelRules | None = None,
) -> Iterator[Counts]:
    """Confusion counts of every setting, for one image after another.

    Args:
        items: images with their features.
        labels: folder of the true label maps, NAME.png or another kind.
        kind: of the features.
        grid: values to try.
        colours: of the bilateral kernels, see ``CRFFactory``.
        jobs: images refined at the same time.
        rules: what the labels mean; by default classes, and 255 does not count.
    Yields:
        (settings, classes, classes) of one image: true labels by row, predicted ones by column.
    Raises:
        CaffePortError: a file is missing, broken or does not fit.
    """
    classes = None
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_count, item, labels, kind, grid, colours, rules) for item in items]
        try:
            for item, future in zip(items, futures, strict=True):
                counts = future.result()
                classes = classes or counts.shape[1]
                if counts.shape[1] != classes:
                    raise DataError(
                        f"{item.features}: {counts.shape[1]} classes; {items[0].features} has "
                        f"{classes}"
                    )
                yield counts
        finally:
            pool.shutdown(cancel_futures=True)


def _count(
    item: Item, labels: Path, kind: Kind, grid: Grid, colours: Colours, rules: LabelRules | None
) -> Counts:
    pixels = read_item_image(item)
    unary = unary_of(item.features, kind, *pixels.shape[:2])
    path = file_named(labels, item.name, LABEL_SUFFIXES) or labels / f"{item.name}.png"
    try:
        truth = (rules or LabelRules()).read(path, len(unary)).labels
    except UsageError as error:
        raise UsageError(f"{item.features}: {error}") from error
    if truth.shape != pixels.shape[:2]:
        raise DataError(f"{path}: shape {truth.shape}; its image has {pixels.shape[:2]}")
    image = bilateral_colours(pixels[:, :, ::-1], colours, VOC_MEAN)
    matrices = []
    try:
        for found in _label_maps(unary, image, grid):
            matrices.append(ConfusionMatrix(len(unary)))
            matrices[-1].add(truth, found)
    except UsageError as error:
        raise DataError(f"{item.features}: {error}") from error
    except DataError as error:
        raise DataError(f"{item.features} and {path}: {error}") from error
    return np.stack([matrix.counts for matrix in matrices])


def _label_maps(unary: Floats, image: Floats, grid: Grid) -> Iterator[NDArray[np.int32]]:
    """A label map for each of the grid's settings, in order; one lattice for each width."""
    crfs: dict[tuple[float, ...], DenseCRF] = {}
    for p in grid.settings():
        widths = (*p.pos_xy_std, *p.bi_xy_std, *p.bi_rgb_std)
        if widths not in crfs:
            crf = DenseCRF(unary.shape[1], unary.shape[2], len(unary))
            crf.add_gaussian(p.pos_xy_std[0], weight=1)
            crfs[widths] = crf.add_bilateral(p.bi_xy_std[0], p.bi_rgb_std[0], image, weight=1)
        yield crfs[widths].with_weights(p.pos_w[0], p.bi_w[0]).map(unary, p.iterations)


def mean_ious(counts: Counts) -> NDArray[np.float64]:
    """Each setting's mean IoU, from (settings, C, C) counts.

    Raises:
        DataError: no pixel was counted.
    """
    if not counts[0].any():
        raise DataError("the label maps ignore every pixel, so the settings cannot be ranked")
    return np.array([ConfusionMatrix(len(c), counts=c).mean_iou() for c in counts])


def best_first(grid: Grid, scores: Scores) -> list[tuple[dict[str, float], float]]:
    """Settings and their mean IoU, the best first; equal ones in the grid's order."""
    settings = grid.settings()
    order = np.argsort(-scores, kind="stable")
    return [
        ({name: getattr(settings[i], name)[0] for name in AXES}, float(scores[i])) for i in order
    ]


def write_report(folder: Path, grid: Grid, scores: Scores, images: int) -> None:
    """Writes best.json (settings for ``evaluate --crf-config``), grid.json and report.html."""
    ranking = best_first(grid, scores)
    best = {**ranking[0][0], "iterations": grid.iterations}
    everything = {
        "images": images,
        "iterations": grid.iterations,
        "settings": [{**setting, "mean_iou": score} for setting, score in ranking],
    }
    write_text(folder / "best.json", json.dumps(best, indent=1) + "\n")
    write_text(folder / "grid.json", json.dumps(everything, indent=1) + "\n")
    write_text(folder / "report.html", _page(grid, scores, images))


def _page(grid: Grid, scores: Scores, images: int) -> str:
    ranking = best_first(grid, scores)
    rows = [
        [*(f"{setting[name]:g}" for name in AXES), f"{100 * score:.3f}"]
        for setting, score in ranking[:50]
    ]
    table = html.table([*AXES, "mean IoU, %"], rows)
    maps = [
        html.section(
            f"{second} (down) and {first} (across)", _heat_map(grid, scores, first, second)
        )
        for second, first in itertools.combinations(AXES, 2)
        if len(getattr(grid, first)) > 1 and len(getattr(grid, second)) > 1
    ]
    title = "Search of the dense CRF's settings"
    subtitle = f"{len(scores)} settings on {images} images, {grid.iterations} iterations"
    return html.page(title, [html.section("Best settings", table), *maps], subtitle=subtitle)


def _heat_map(grid: Grid, scores: Scores, first: str, second: str) -> html.Html:
    """The best score of every pair of values over the other settings, as coloured cells."""
    shape = [len(getattr(grid, name)) for name in AXES]
    others = tuple(i for i, name in enumerate(AXES) if name not in (first, second))
    best = 100 * scores.reshape(shape).max(axis=others)  # rows: second, which is first in AXES
    low, high = best.min(), best.max()
    rows: list[list[html.Cell]] = []
    for value, line in zip(getattr(grid, second), best, strict=True):
        cells = [_cell(score, (score - low) / max(high - low, 1e-9)) for score in line]
        rows.append([f"{value:g}", *cells])
    return html.table([second, *(f"{value:g}" for value in getattr(grid, first))], rows)


def _cell(score: float, share: float) -> html.Cell:
    red, green, blue = (int(a + share * (b - a)) for a, b in ((68, 253), (1, 231), (84, 37)))
    ink = "#000" if share > 0.5 else "#fff"
    style = f"background:rgb({red},{green},{blue});color:{ink};padding:.3rem .6rem;display:block"
    return html.raw(html.Html(f'<span style="{style}">{score:.2f}</span>'))
