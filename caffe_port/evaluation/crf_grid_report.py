"""What a grid search found: a table, heat maps and the best settings."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_port import html
from caffe_port.evaluation.crf_grid import AXES, Grid
from caffe_port.files import write_text

Scores = NDArray[np.float64]  # mean IoU of each setting


def best_first(grid: Grid, scores: Scores) -> list[tuple[dict[str, float], float]]:
    """Settings and their mean IoU, the best first; among equals in the grid's order."""
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
    """The best score of every pair of values, whatever the other settings, as coloured cells."""
    shape = [len(getattr(grid, name)) for name in AXES]
    others = tuple(i for i, name in enumerate(AXES) if name not in (first, second))
    best = 100 * scores.reshape(shape).max(axis=others)  # rows: second, which stands first in AXES
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
