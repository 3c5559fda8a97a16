"""Line charts as SVG, for pages and for files of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from caffe_port.reports.html import Html, text

Points = Sequence[tuple[float, float]]

COLOURS = ("#2c7fb8", "#c4582b", "#22713f", "#8a4fa3", "#a07000", "#d1495b", "#3b8a8a", "#7d8794")
_GREY = "#6b7684"  # readable on white and on the dark pages
_TOP, _RIGHT, _BOTTOM, _LEFT = 14, 16, 34, 66
_LINE, _LETTER = 18, 7  # pixels: height of a legend's line, mean width of a letter
_MAX_POINTS = 800  # drawn of one curve
_HUGE = 1e300  # such values and larger ones are not drawn, so that differences stay finite


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Args:
        label: written along it.
        span: first and last value; by default those of the data.
        ticks: values with a label; by default about five round ones.
        tick_text: the label of a value.
    """

    label: str = ""
    span: tuple[float, float] | None = None
    ticks: Sequence[float] | None = None
    tick_text: Callable[[float], str] = "{:.6g}".format


@dataclass(frozen=True)
class Chart:
    """Curves over common axes; ``draw_chart`` draws it.

    Args:
        curves: name -> (x, y) points; a value that is not finite leaves a gap.
        x, y: the axes.
        title: what the chart shows; also its description for screen readers.
        size: width and height in pixels, at which it is drawn at most.
        legend: whether the names are shown at the right.
        dots: name -> what each point of that curve is; such a curve has a dot for every point,
            which shows this text when it is pointed at.
        limit: a value of y with a dashed line.
    """

    curves: Mapping[str, Points]
    x: Axis = Axis()
    y: Axis = Axis()
    title: str = ""
    size: tuple[int, int] = (860, 320)
    legend: bool = True
    dots: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limit: float | None = None


def draw_chart(chart: Chart) -> Html:
    """One chart as an SVG element, or as a file's content."""
    width, height = chart.size
    return Html(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" '
        f'style="max-width:{width}px" role="img" aria-label="{text(chart.title)}" '
        f'font-family="sans-serif" font-size="12" fill="{_GREY}">{_Drawing(chart).content()}</svg>'
    )


def document(charts: Mapping[str, Mapping[str, Points]]) -> str:
    """Charts below one another, each under its title, as one SVG file.

    Args:
        charts: title -> curves.
    """
    width, height = Chart.size
    step = height + 30
    parts = [
        f'<g transform="translate(0,{i * step})"><text x="{_LEFT}" y="20" font-size="15">'
        f'{text(title)}</text><g transform="translate(0,28)">{_Drawing(Chart(curves)).content()}'
        "</g></g>"
        for i, (title, curves) in enumerate(charts.items())
    ]
    total = step * max(1, len(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" '
        f'width="{width}" height="{total}" font-family="sans-serif" font-size="12" '
        f'fill="{_GREY}"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def legend_colours(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The colours of a chart's curves in their order, for ``html.legend``."""
    return {
        name: (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16))
        for name, c in zip(names, COLOURS, strict=False)
    }


class _Drawing:
    """The elements of a chart, with its scales."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._curves = {
            name: list(points) if name in chart.dots else thinned(points)
            for name, points in chart.curves.items()
        }
        width, height = chart.size
        longest = max(map(len, chart.curves), default=0) if chart.legend else 0
        legend = min(220, 26 + _LETTER * longest) if longest else 0
        self._left, self._right = _LEFT, width - _RIGHT - legend
        self._top = _TOP if not chart.title or chart.legend else _TOP + 14
        self._bottom = height - _BOTTOM - (14 if chart.x.label else 0)

    def content(self) -> str:
        """All elements, in the order in which they are drawn."""
        chart = self._chart
        points = [p for curve in self._curves.values() for p in curve if _is_finite(p[1])]
        if not points:
            return f'<text x="{_LEFT}" y="40">no finite value</text>'
        self._xs = chart.x.span or _padded([x for x, _ in points])
        self._ys = chart.y.span or _padded([y for _, y in points])
        parts = [*self._grid(), *self._labels()]
        for i, name in enumerate(chart.curves):
            colour = COLOURS[i % len(COLOURS)]
            parts.append(self._curve(name, colour))
            if chart.legend:
                parts.append(self._legend_line(name, colour, self._top + 10 + _LINE * i))
        return "".join(parts)

    def _x(self, value: float) -> float:
        share = (value - self._xs[0]) / (self._xs[1] - self._xs[0])
        return self._left + share * (self._right - self._left)

    def _y(self, value: float) -> float:
        share = (value - self._ys[0]) / (self._ys[1] - self._ys[0])
        return self._bottom - share * (self._bottom - self._top)

    def _grid(self) -> Iterable[str]:
        """Horizontal lines and the labels of both axes' ticks."""
        for axis, span in ((self._chart.x, self._xs), (self._chart.y, self._ys)):
            for value in _ticks(*span) if axis.ticks is None else axis.ticks:
                if axis is self._chart.x:
                    at = f'x="{self._x(value):.1f}" y="{self._bottom + 18}" text-anchor="middle"'
                else:
                    y = self._y(value)
                    yield (
                        f'<path d="M{self._left} {y:.1f}H{self._right}" stroke="{_GREY}" '
                        'stroke-opacity=".25"/>'
                    )
                    at = f'x="{self._left - 8}" y="{y + 4:.1f}" text-anchor="end"'
                yield f"<text {at}>{text(axis.tick_text(value))}</text>"

    def _labels(self) -> Iterable[str]:
        """The title, the names of the axes and the limit."""
        chart, middle = self._chart, (self._left + self._right) / 2
        if chart.title and not chart.legend:
            yield f'<text x="{self._left}" y="15" font-weight="600">{text(chart.title)}</text>'
        if chart.x.label:
            y = chart.size[1] - 6
            yield f'<text x="{middle}" y="{y}" text-anchor="middle">{text(chart.x.label)}</text>'
        if chart.y.label:
            yield (
                f'<text transform="translate(12,{(self._top + self._bottom) / 2}) rotate(-90)" '
                f'text-anchor="middle">{text(chart.y.label)}</text>'
            )
        if chart.limit is not None:
            yield (
                f'<path d="M{self._left} {self._y(chart.limit):.1f}H{self._right}" '
                'stroke="#c0392b" stroke-dasharray="6 4"/>'
            )

    def _curve(self, name: str, colour: str) -> str:
        """A line through the points; a point alone is a dot."""
        points, path, pen = self._curves[name], "", "M"
        for x, y in points:
            if _is_finite(y):
                path += f"{pen}{self._x(x):.1f} {self._y(y):.1f}"
            pen = "L" if _is_finite(y) else "M"
        path += "h.01" if path and len(points) == 1 else ""
        line = (
            f'<path class="curve" d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" '
            'stroke-linecap="round" stroke-linejoin="round"'
        )
        if name not in self._chart.dots:
            return f"{line}><title>{text(name)}</title></path>"
        return f'{line} stroke-opacity=".45"/>' + "".join(
            f'<circle cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="3" fill="{colour}">'
            f"<title>{text(what)}</title></circle>"
            for (x, y), what in zip(points, self._chart.dots[name], strict=True)
            if _is_finite(y)
        )

    def _legend_line(self, name: str, colour: str, y: int) -> str:
        x = self._right + 16
        return (
            f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{x + 16}" y="{y}">{text(name)}</text>'
        )


def _is_finite(value: float) -> bool:
    return abs(value) < _HUGE  # false for NaN too


def thinned(points: Points, most: int = _MAX_POINTS) -> Points:
    """At most ``most`` points: means of equally long runs."""
    run = math.ceil(len(points) / most)
    if run <= 1:
        return points
    parts = [points[i : i + run] for i in range(0, len(points), run)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Their range, widened where it is too small to be divided."""
    low, high = min(values), max(values)
    if high - low > max(1e-9 * max(abs(low), abs(high)), 1e-200):
        return low, high
    pad = max(0.5, 1e-3 * abs(low))
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, three to seven of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(power * n for n in (1, 2, 5, 10) if high - low <= 6 * power * n)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]
