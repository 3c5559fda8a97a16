"""Line charts as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from caffe_port.html import text

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 860, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 220, 14, 34
_COLOURS = ("#2c5d8f", "#c4582b", "#22713f", "#8a4fa3", "#7d5700", "#a8281f", "#3b8a8a", "#5d6878")
_MOST = 800  # points of a curve that are drawn


def chart(curves: Mapping[str, Points]) -> str:
    """One chart with a legend.

    Args:
        curves: name -> (x, y) points; those that are not finite leave gaps.
    """
    inside = _inside(curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="max-width:{_WIDTH}px" font-family="sans-serif" font-size="12">{inside}</svg>'
    )


def document(charts: Mapping[str, Mapping[str, Points]]) -> str:
    """Charts below one another, each under its title, as one SVG file."""
    step = _HEIGHT + 30
    parts = [
        f'<g transform="translate(0,{i * step})"><text x="{_LEFT}" y="20" font-size="15">'
        f'{text(title)}</text><g transform="translate(0,28)">{_inside(curves)}</g></g>'
        for i, (title, curves) in enumerate(charts.items())
    ]
    height = step * max(1, len(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _inside(curves: Mapping[str, Points]) -> str:
    kept = {name: _thinned(points) for name, points in curves.items()}
    finite = [p for points in kept.values() for p in points if math.isfinite(p[1])]
    if not finite:
        return f'<text x="{_LEFT}" y="40">no finite value</text>'
    xs, ys = _range([x for x, _ in finite]), _range([y for _, y in finite])
    parts = [*_axis(xs, across=True), *_axis(ys, across=False)]
    for i, (name, points) in enumerate(kept.items()):
        colour, y = _COLOURS[i % len(_COLOURS)], _TOP + 10 + 18 * i
        parts.append(_curve(points, xs, ys, colour))
        x = _WIDTH - _RIGHT + 16
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}" fill="#5d6878">{text(name)}</text>')
    return "".join(parts)


def _thinned(points: Points) -> Points:
    """At most _MOST points: means of equal runs."""
    run = math.ceil(len(points) / _MOST)
    if run <= 1:
        return points
    return [_mean(points[i : i + run]) for i in range(0, len(points), run)]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _x(value: float, span: tuple[float, float]) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - span[0]) / (span[1] - span[0])


def _y(value: float, span: tuple[float, float]) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - span[0]) / (span[1] - span[0])


def _axis(span: tuple[float, float], across: bool) -> list[str]:
    parts = []
    for i in range(5):
        value = span[0] + (span[1] - span[0]) * i / 4
        if across:
            x, y = _x(value, span), _HEIGHT - _BOTTOM + 18
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="#5d6878">')
        else:
            x, y = _LEFT - 8, int(_y(value, span))
            parts.append(
                f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#5d6878" stroke-opacity=".2"/>'
                f'<text x="{x}" y="{y + 4}" text-anchor="end" fill="#5d6878">'
            )
        parts.append(f"{value:.4g}</text>")
    return parts


def _curve(points: Points, xs: tuple[float, float], ys: tuple[float, float], colour: str) -> str:
    """A line through the points; a point alone is a dot."""
    path, pen = "", "M"
    for x, y in points:
        if math.isfinite(y):
            path += f"{pen}{_x(x, xs):.1f} {_y(y, ys):.1f}"
            pen = "L"
        else:
            pen = "M"
    style = f'stroke="{colour}" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"'
    return f'<path d="{path}{"h.01" if len(points) == 1 else ""}" fill="none" {style}/>'
