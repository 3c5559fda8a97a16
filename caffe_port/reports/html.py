"""HTML of reports, and the images in them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, NewType, TypeVar

import numpy as np
import numpy.typing as npt

from caffe_port.errors import escaped

if TYPE_CHECKING:
    from PIL import Image


# Self-contained HTML pages, of which all reports are made.
#
# A page contains its styles and images, so it is one file. Cells, headings and captions are plain
# text, which is escaped here; these functions return HTML (``Html``), which may be nested.

Html = NewType("Html", str)
Align = Literal["left", "right", "center"]
Cell = object  # text, a number, or a piece of Html wrapped by ``raw``

VERDICTS = ("pass", "fail", "warn", "info")

_IMAGE_STARTS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5d6878;--paper:#fbfbf9;--card:#fff;
--line:#e1e3e6;--head:#f1f2f0;--accent:#2c5d8f;--pass:#22713f;--passbg:#e3f2e7;--fail:#a8281f;
--failbg:#fae5e2;--warn:#7d5700;--warnbg:#fbf0d3;--info:#2c5d8f;--infobg:#e4edf6}
@media(prefers-color-scheme:dark){:root{--ink:#e3e6ea;--soft:#9aa4b1;--paper:#14171b;
--card:#1b1f25;--line:#30363e;--head:#232830;--accent:#85b4e2;--pass:#7fd19b;--passbg:#18301f;
--fail:#f29a90;--failbg:#3a1b18;--warn:#e4bf66;--warnbg:#33290f;--info:#85b4e2;--infobg:#18283a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:72rem;margin:0 auto;padding:2.2rem 1.2rem 4rem}
h1{font-size:1.75rem;line-height:1.2;margin:0;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:0 0 .8rem}
.subtitle{color:var(--soft);margin:.4rem 0 0}
section{margin-top:2.2rem}
p{margin:.5rem 0;max-width:46rem}.note{color:var(--soft);font-size:.92rem}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.scroll{overflow:auto;max-height:80vh;border:1px solid var(--line);border-radius:8px;
background:var(--card);margin:.8rem 0;width:fit-content;max-width:100%}
table{border-collapse:separate;border-spacing:0;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.42rem .8rem;border-bottom:1px solid var(--line);text-align:left;
white-space:nowrap;vertical-align:middle}
tbody tr:last-child td{border-bottom:0}
thead th{position:sticky;top:0;z-index:1;background:var(--head);font-weight:600;color:var(--soft)}
.right{text-align:right}.center{text-align:center}
tr.pass td{background:var(--passbg)}tr.fail td{background:var(--failbg)}
tr.warn td{background:var(--warnbg)}tr.info td{background:var(--infobg)}
tr.total td{font-weight:600;border-top:2px solid var(--line)}
.verdict{display:inline-block;padding:.05rem .55rem;border-radius:99px;font-size:.82rem;
font-weight:600}
.verdict.pass{color:var(--pass);background:var(--passbg)}
.verdict.fail{color:var(--fail);background:var(--failbg)}
.verdict.warn{color:var(--warn);background:var(--warnbg)}
.verdict.info{color:var(--info);background:var(--infobg)}
.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:.8rem 0}
.card{flex:1 1 9rem;max-width:16rem;padding:.8rem 1rem;background:var(--card);
border:1px solid var(--line);border-radius:8px}
.card b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{display:block;color:var(--soft);font-size:.86rem;line-height:1.35;
margin-top:.2rem}
.grid{display:grid;gap:.7rem;margin:.8rem 0;
grid-template-columns:repeat(var(--columns,5),minmax(0,1fr))}
figure{margin:0;min-width:0}
img{display:block;max-width:100%;height:auto;border-radius:4px;background:var(--head)}
figure img{width:100%}
figcaption{color:var(--soft);font-size:.82rem;margin-top:.25rem;overflow-wrap:anywhere}
details{margin:.8rem 0}summary{cursor:pointer;color:var(--accent)}
.key{display:inline-block;margin:.1rem .9rem .1rem 0;font-size:.86rem;color:var(--soft)}
.key i{display:inline-block;width:.85em;height:.85em;border-radius:3px;margin-right:.4em;
vertical-align:-.08em;border:1px solid var(--line)}
@media(max-width:40rem){.grid{grid-template-columns:repeat(2,minmax(0,1fr))}
main{padding:1.3rem .8rem 3rem}h1{font-size:1.4rem}
th,td{padding:.36rem .55rem}}
@media print{body{background:#fff;color:#000;font-size:11pt}main{max-width:none;padding:0}
.scroll{overflow:visible;max-height:none;border:0;width:auto}thead th{position:static}
figure,tr,.card{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def text(value: object) -> Html:
    """Escapes a value, including terminal codes; NaN becomes a dash."""
    if isinstance(value, _Raw):
        return value.html
    if isinstance(value, float) and math.isnan(value):
        return Html("&ndash;")
    return Html(escape(escaped(str(value))))


class _Raw:
    """HTML that is put into a table cell unchanged."""

    def __init__(self, html: Html) -> None:
        self.html = html


def raw(html: Html) -> Cell:
    """Marks a piece made by this module, such as a ``verdict``, for use as a table cell."""
    return _Raw(html)


def page(title: str, sections: Iterable[Html], *, subtitle: str = "") -> str:
    """A whole page.

    Args:
        title: the heading, also the browser window's title.
        sections: from ``section``.
        subtitle: one line under the heading.
    Returns:
        The document, to be written as UTF-8.
    """
    under = f'<p class="subtitle">{text(subtitle)}</p>' if subtitle else ""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><header><h1>{text(title)}</h1>{under}</header>\n{body}\n</main></body></html>\n"
    )


def section(heading: str, *html: Html) -> Html:
    """A heading and its content."""
    return Html(f"<section><h2>{text(heading)}</h2>\n" + "\n".join(html) + "</section>")


def paragraph(words: str, *, note: bool = False) -> Html:
    """A paragraph of plain text; ``note`` makes it small and pale."""
    return Html(f'<p class="note">{text(words)}</p>' if note else f"<p>{text(words)}</p>")


def verdict(kind: str, words: str | None = None) -> Html:
    """A coloured label.

    Args:
        kind: "pass", "fail", "warn" or "info".
        words: its text; by default the kind.
    Raises:
        ValueError: an unknown kind.
    """
    if kind not in VERDICTS:
        raise ValueError(f"verdict {kind!r} is not one of {', '.join(VERDICTS)}")
    return Html(f'<span class="verdict {kind}">{text(words or kind)}</span>')


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    align: Sequence[Align] | None = None,
    row_classes: Sequence[str] | None = None,
) -> Html:
    """A table that scrolls where it is too large, under a header that stays visible.

    Args:
        headers: one per column.
        rows: cells as text, numbers or ``raw(...)``.
        align: one per column; by default the first is left, the others right.
        row_classes: one per row: "", a verdict's kind, or "total".
    Raises:
        ValueError: a row, ``align`` or ``row_classes`` has another length.
    """
    rows = [list(row) for row in rows]
    sides = list(align) if align is not None else ["left"] + ["right"] * (len(headers) - 1)
    classes = list(row_classes) if row_classes is not None else [""] * len(rows)
    if len(classes) != len(rows):
        raise ValueError(f"{len(classes)} row classes for {len(rows)} rows")
    if any(len(row) != len(headers) for row in [*rows, sides]):
        raise ValueError(f"every row and align need {len(headers)} entries, one per header")

    def line(tag: str, cells: Sequence[Cell], row_class: str = "") -> str:
        inside = "".join(
            f'<{tag} class="{escape(side)}">{text(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f'<tr class="{escape(row_class)}">{inside}</tr>'

    body = "\n".join(line("td", row, kind) for row, kind in zip(rows, classes, strict=True))
    head = line("th", headers)
    return Html(
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def cards(figures: Mapping[str, object]) -> Html:
    """A row of large figures, each above its name."""
    inside = "".join(
        f'<div class="card"><b>{text(value)}</b><span>{text(name)}</span></div>'
        for name, value in figures.items()
    )
    return Html(f'<div class="cards">{inside}</div>')


def image(content: bytes, alt: str, *, width: int | None = None) -> Html:
    """A PNG or JPEG inside the page.

    Args:
        content: the whole file.
        alt: a description, for screen readers.
        width: pixels; by default the image's own (at most the page's).
    Raises:
        ValueError: the bytes are neither a PNG nor a JPEG.
    """
    kind = next((name for start, name in _IMAGE_STARTS.items() if content.startswith(start)), None)
    if kind is None:
        raise ValueError(f"'{alt}' is neither a PNG nor a JPEG: it starts with {content[:8]!r}")
    size = f' width="{width}"' if width is not None else ""
    data = base64.b64encode(content).decode("ascii")
    return Html(f'<img src="data:image/{kind};base64,{data}" alt="{text(alt)}"{size}>')


def figure(content: bytes, caption: str) -> Html:
    """An image (PNG or JPEG) with its caption, for ``figure_grid``."""
    inside = image(content, caption)
    return Html(f"<figure>{inside}<figcaption>{text(caption)}</figcaption></figure>")


def figure_grid(figures: Iterable[Html], *, columns: int = 5) -> Html:
    """Figures side by side, ``columns`` of them on a desktop and two on a phone."""
    if columns < 1:
        raise ValueError(f"columns is {columns}; at least 1 is needed")
    return Html(f'<div class="grid" style="--columns:{columns}">{"".join(figures)}</div>')


def legend(colours: Mapping[str, tuple[int, int, int]]) -> Html:
    """Names next to squares of their colours (red, green, blue in 0..255)."""
    keys = "".join(
        f'<span class="key"><i style="background:rgb({int(r)},{int(g)},{int(b)})"></i>'
        f"{text(name)}</span>"
        for name, (r, g, b) in colours.items()
    )
    return Html(f"<div>{keys}</div>")


def details(summary: str, *html: Html) -> Html:
    """A part that is hidden until it is opened."""
    return Html(f"<details><summary>{text(summary)}</summary>{''.join(html)}</details>")


Row = TypeVar("Row")
_ROWS, _LETTERS, _SUMMARY = 200, 120, 500  # of a table in a notebook


def folded(
    summary: str,
    headers: Sequence[str],
    rows: Sequence[Row],
    cells: Callable[[Row], Sequence[Cell]],
) -> Html:
    """A table for a notebook, folded under its summary: ``_repr_html_`` of many classes.

    It takes its colours from the notebook. Of many rows those in the middle, and of a long text
    the end, are left out.

    Args:
        summary: one line.
        headers: one per column.
        rows: one per row of the table.
        cells: gives a row's cells; called only for rows that are shown.
    """
    many = len(rows) > _ROWS
    parts = [rows[: _ROWS // 2], rows[-_ROWS // 2 :]] if many else [rows]
    between = f"{len(rows) - _ROWS:,} more"
    line = f'<tr><td colspan="{len(headers)}" style="text-align:left">{between}</td></tr>'
    body = line.join("".join(_line("td", cells(row)) for row in part) for part in parts)
    return Html(
        f'<details><summary>{text(summary[:_SUMMARY])}</summary><div style="overflow-x:auto">'
        f"<table><thead>{_line('th', headers)}</thead><tbody>{body}</tbody></table></div></details>"
    )


def _line(tag: str, cells: Sequence[Cell]) -> str:
    style = [
        f"text-align:{side};white-space:nowrap;padding:.1em .7em" for side in ("left", "right")
    ]
    return "".join(
        ("<tr>", *(
            f'<{tag} style="{style[isinstance(cell, int | float)]}">{text(_short(cell))}</{tag}>'
            for cell in cells
        ), "</tr>")
    )  # fmt: skip


def _short(cell: Cell) -> Cell:
    if isinstance(cell, int):
        return f"{cell:,}"
    too_long = isinstance(cell, str) and len(cell) > _LETTERS
    return f"{str(cell)[: _LETTERS - 2]} .." if too_long else cell


Bytes = npt.NDArray[np.uint8]


def scale(size: tuple[int, int], smallest: int, largest: int) -> float:
    """The factor that brings the longer side into a range of pixels."""
    longest = max(size)
    return min(largest / longest, max(1.0, smallest / longest))


def resized(image: Image.Image, factor: float, *, smooth: bool = True) -> Image.Image:
    """The image enlarged or reduced; not ``smooth`` repeats or drops whole pixels."""
    from PIL import Image

    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.resize(size, method)


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    """The content of a JPEG or PNG file."""
    stream = io.BytesIO()
    image.save(stream, format=format, quality=88, optimize=True)
    return stream.getvalue()


def photograph(pixels: Bytes, *, smallest: int = 0, largest: int = 360) -> bytes:
    """A JPEG of an image.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        smallest, largest: range of the longer side in pixels.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    return encoded(resized(image, scale(image.size, smallest, largest)))


def label_map(labels: Bytes, palette: Bytes, *, smallest: int = 0, largest: int = 360) -> bytes:
    """A PNG of a label map in colours.

    Args:
        labels: (h, w) uint8.
        palette: (at least the largest label + 1, 3) uint8 RGB.
        smallest, largest: range of the longer side in pixels.
    """
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    return encoded(resized(image, scale(image.size, smallest, largest), smooth=False), "PNG")
