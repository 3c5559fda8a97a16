"""Curves of an experiment and its similarity matrices, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from caffe_port.finetuning.results import Matrix, Results
from caffe_port.html import text
from caffe_port.solver.chart import chart

_CELL, _LEFT, _TOP, _GAP = 34, 84, 86, 24
_LOW, _HIGH = (44, 93, 143), (196, 88, 43)  # similarities of -1 and 1; 0 is white


def curves(results: Results, policy: str) -> dict[str, str]:
    """The charts of one policy by their titles: every output, a line for each variant."""
    shown: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for variant, outputs in results.curves.items():
        if variant.partition("_")[0] == policy:
            for output, points in outputs.items():
                lines = shown.setdefault(output, {})
                lines[variant] = [(x, y) for x, y in points]
    return {f"{policy}: {output}": chart(lines) for output, lines in shown.items() if lines}


def policies(results: Results) -> list[str]:
    """What the variants' names begin with."""
    return list(dict.fromkeys(name.partition("_")[0] for name in results.curves))


def mean_matrix(results: Results, variant: str, similarity: str) -> Matrix:
    """The mean over a variant's seeds."""
    found = [
        score.templates[similarity]
        for score in results.scores[variant].values()
        if similarity in score.templates
    ]
    if not found:
        return []
    return [[_mean([m[i][j] for m in found]) for j in range(len(row))]
            for i, row in enumerate(found[0])]  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def matrices(found: Mapping[str, Matrix], names: Sequence[str], columns: int = 3) -> str:
    """Matrices side by side as one SVG: rows are templates, columns the pixels' classes."""
    side = _CELL * len(names)
    width, height = _LEFT + side + _GAP, _TOP + side + _GAP
    parts = [
        f'<g transform="translate({width * (k % columns)},{height * (k // columns)})">'
        f"{_matrix(title, matrix, names)}</g>"
        for k, (title, matrix) in enumerate(found.items())
    ]
    across, down = min(columns, len(found)) * width, math.ceil(len(found) / columns) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" '
        f'width="{across}" height="{down}" style="max-width:100%;height:auto" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _matrix(title: str, matrix: Matrix, names: Sequence[str]) -> str:
    rows, columns = [], []
    for i, name in enumerate(names):
        y, x = _TOP + _CELL * i + _CELL // 2 + 4, _LEFT + _CELL * i + _CELL // 2 + 4
        label = text(name)
        rows.append(f'<text x="{_LEFT - 5}" y="{y}">{label}</text>')
        columns.append(f'<text transform="translate({x},{_TOP - 5}) rotate(-45)">{label}</text>')
    cells = [
        _cell(_LEFT + _CELL * j, _TOP + _CELL * i, value)
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
        if value is not None
    ]
    return (
        f'<text x="6" y="16" font-size="13">{text(title)}</text>'
        f'<g fill="#5d6878">{"".join(columns)}<g text-anchor="end">{"".join(rows)}</g></g>'
        f'<g text-anchor="middle">{"".join(cells)}</g>'
    )


def _cell(x: int, y: int, value: float) -> str:
    end = _HIGH if value >= 0 else _LOW
    weight, side = min(1.0, abs(value)), _CELL - 1
    colour = "".join(f"{round(255 + (channel - 255) * weight):02x}" for channel in end)
    ink = ' fill="#fff"' if weight > 0.75 else ""
    number = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)  # no -0.00
    return (
        f'<path d="M{x} {y}h{side}v{side}h-{side}z" fill="#{colour}"/>'
        f'<text x="{x + side // 2}" y="{y + side // 2 + 4}"{ink}>{number}</text>'
    )
