"""The errors of every row on a logarithmic scale, as an inline SVG in the page's colours."""

from __future__ import annotations

import math

from caffe_port.parity.judge import Row
from caffe_port.parity.verify import VerifyResult
from caffe_port.reports.html import Html, text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 280, 56, 26, 14

#: Decades shown. Smaller errors, 0 among them, are drawn on the lower edge.
LOWEST, HIGHEST = -5, 4


def error_plot(result: VerifyResult) -> Html:
    """Errors as parts of what correct rounding may reach, in the order of the table."""
    rows = [row for row in result.rows if row.comparison.e_port is not None]
    series = (
        ("Caffe", "var(--warn)", [row.comparison.caffe_share for row in rows]),
        ("port", "var(--accent)", [row.comparison.port_share for row in rows]),
    )
    parts = [_decade(power) for power in range(LOWEST, HIGHEST + 1)]
    for number, (name, colour, values) in enumerate(series):
        known = [value for value in values if value is not None]
        parts.append(_line(known, colour))
        parts += [
            _dot(i, len(rows), value, colour, f"{_title(row)}: {name} {value:.2g} of the bound")
            for i, (row, value) in enumerate(zip(rows, known, strict=True))
        ]
        x = LEFT + 8 + 90 * number
        parts.append(
            f'<circle cx="{x}" cy="{HEIGHT - 8}" r="4" fill="{colour}"/>'
            f'<text x="{x + 9}" y="{HEIGHT - 4}" fill="currentColor">{name}</text>'
        )
    return Html(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" font-size="12" '
        f'aria-label="errors of the port and of Caffe for each blob">{"".join(parts)}</svg>'
    )


def _y(value: float) -> float:
    power = math.log10(value) if value > 0 else -math.inf
    share = (min(max(power, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _x(index: int, count: int) -> float:
    return round(LEFT + 10 + (WIDTH - LEFT - 20) * index / max(count - 1, 1), 1)


def _decade(power: int) -> str:
    y = _y(10.0**power)
    look = 'var(--fail)" stroke-dasharray="6 4' if power == 0 else "var(--line)"
    return (
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="{look}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="var(--soft)">1e{power}</text>'
    )


def _line(values: list[float], colour: str) -> str:
    points = " ".join(f"{_x(i, len(values))},{_y(v)}" for i, v in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-opacity=".45"/>'


def _dot(index: int, count: int, value: float, colour: str, title: str) -> str:
    return (
        f'<circle cx="{_x(index, count)}" cy="{_y(value)}" r="3" fill="{colour}">'
        f"<title>{text(title)}</title></circle>"
    )


def _title(row: Row) -> str:
    return f"{row.kind} {row.name} ({', '.join(row.layers)})"
