"""Trimap curves as a section of report.html and an entry of report.json."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe_port import html
from caffe_port.evaluation.confusion import Floats
from caffe_port.evaluation.figures import number
from caffe_port.evaluation.trimap import Curves

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 300, 48, 40, 12
_COLOURS = ("var(--soft)", "var(--accent)")


def trimap_json(curves: Curves) -> dict[str, object]:
    """Band widths in pixels, and mean IoU and counted pixels within each, by stage."""
    entries: dict[str, object] = {"pixels_wide": list(range(1, curves.before.widest + 1))}
    for stage, trimap in (("before", curves.before), ("after", curves.after)):
        entries[stage] = trimap and {
            "mean_iou": [number(value) for value in trimap.mean_iou().tolist()],
            "pixels": [matrix.pixels for matrix in trimap.matrices()],
        }
    return entries


def trimap_section(curves: Curves) -> html.Html:
    """A plot and a table of mean IoU against the band's width."""
    if curves.after is None:
        lines = {"network": curves.before.mean_iou()}
    else:
        lines = {
            "before CRF": curves.before.mean_iou(),
            "after CRF": curves.after.mean_iou(),
        }
    rows = [
        [str(d), *(_percent(line[d - 1]) for line in lines.values())]
        for d in range(1, curves.before.widest + 1)
    ]
    headers = ["band, pixels", *(f"mean IoU {name}, %" for name in lines)]
    words = (
        "Mean IoU of the pixels within so many (in x and in y) of a boundary that the truth "
        "leaves void, itself not counted. One confusion matrix over all images for each width."
    )
    return html.section(
        "IoU along boundaries (trimap)",
        _plot(lines),
        html.paragraph(words, note=True),
        html.details("Figures", html.table(headers, rows)),
    )


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.3f}"


def _plot(lines: Mapping[str, Floats]) -> html.Html:
    values = 100 * np.stack(list(lines.values()))
    if np.isnan(values).all():
        return html.paragraph("No pixel lies in any band: the truth has no void boundary.")
    least, most = np.nanmin(values), np.nanmax(values)
    step = next(step for step in (1, 2, 5, 10, 20) if most - least <= 5 * step)
    low, high = step * np.floor(least / step), step * np.ceil(most / step)
    high = max(high, low + step)
    pieces = []
    for tick in np.arange(low, high + step / 2, step):
        y = _y(tick, low, high)
        pieces.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    count = values.shape[1]
    for width in range(0, count + 1, 10):
        x = _x(max(width, 1), count)
        pieces.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{max(width, 1)}</text>'
        )
    for i, (name, line) in enumerate(zip(lines, values, strict=True)):
        pieces.append(_line(name, line, _COLOURS[i], low, high, 20 + 18 * i))
    pieces.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        "width of the band, pixels</text>"
    )
    return html.Html(
        f'<svg viewBox="0 0 {_WIDTH + 12} {_HEIGHT}" width="100%" style="max-width:44rem" '
        'role="img" font-size="12" fill="var(--soft)" '
        f'aria-label="mean IoU in per cent against the width of the band">{"".join(pieces)}</svg>'
    )


def _line(name: str, values: Floats, colour: str, low: float, high: float, at: float) -> str:
    points = " ".join(
        f"{_x(d, len(values)):.1f},{_y(value, low, high):.1f}"
        for d, value in enumerate(values, 1)
        if not np.isnan(value)
    )
    key = _WIDTH - 110
    y = _HEIGHT - _BOTTOM - 50 + at
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<path d="M{key} {y - 4}h20" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{key + 26}" y="{y}">{html.text(name)}</text>'
    )


def _x(width: float, count: int) -> float:
    return _LEFT + (width - 1) / max(count - 1, 1) * (_WIDTH - _LEFT)


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
