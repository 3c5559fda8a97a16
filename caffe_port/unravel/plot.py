"""Line charts as SVG, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffe_port import html

COLOURS = ("#d1495b", "#2c7fb8", "#3a9d5d", "#8c8c8c", "#b07aa1", "#e39c37")
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 24, 26, 38


def line_chart(
    title: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], x_label: str
) -> html.Html:
    """A chart of shares over shares: both axes go from 0 to 100 %.

    Args:
        title: above it.
        x: of every line's points.
        lines: name -> values; the legend is ``legend``.
        x_label: below it.
    """
    grid = "".join(_grid(tick / 4) for tick in range(5))
    paths = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" points="'
        + " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(x, values, strict=True))
        + f'"><title>{html.text(name)}</title></polyline>'
        for (name, values), colour in zip(lines.items(), COLOURS, strict=False)
    )
    words = (
        f'<text x="{_LEFT}" y="15" font-weight="600">{html.text(title)}</text>'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{html.text(x_label)}</text>"
    )
    return html.Html(
        f'<figure style="flex:1 1 20rem;max-width:34rem"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{html.text(title)}" fill="currentColor" '
        'style="display:block;width:100%;font:11px system-ui,sans-serif">'
        f"{grid}{paths}{words}</svg></figure>"
    )


def charts(*figures: html.Html) -> html.Html:
    """Charts beside one another, or one below the other where the page is narrow."""
    inside = "".join(figures)
    return html.Html(f'<div style="display:flex;flex-wrap:wrap;gap:.8rem 1.5rem">{inside}</div>')


def legend(names: Sequence[str]) -> html.Html:
    """The lines' colours."""
    rgb = {
        name: (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16))
        for name, c in zip(names, COLOURS, strict=False)
    }
    return html.legend(rgb)


def _grid(at: float) -> str:
    text = f"{100 * at:.0f} %"
    return (
        f'<g stroke="currentColor" stroke-opacity=".18"><path d="M{_x(at)} {_y(0)}V{_y(1)}"/>'
        f'<path d="M{_x(0)} {_y(at)}H{_x(1)}"/></g>'
        f'<text x="{_x(at)}" y="{_y(0) + 14}" text-anchor="middle">{text}</text>'
        f'<text x="{_LEFT - 5}" y="{_y(at) + 4}" text-anchor="end">{text}</text>'
    )


def _x(value: float) -> float:
    return _LEFT + value * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)
