"""The report of an experiment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.files import read_text, write_text
from caffe_port.finetuning import tables
from caffe_port.finetuning.results import Matrix, Results
from caffe_port.finetuning.tables import Table
from caffe_port.reports import html
from caffe_port.reports.chart import Chart, draw_chart
from caffe_port.reports.html import text

if TYPE_CHECKING:
    from rich.table import Table as RichTable


# text between these marks is replaced by a table
_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, tables: Mapping[str, Table]) -> str:
    """Fills the marked places of a text with tables.

    Raises:
        UsageError: there are no marks, or they name an unknown table.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[2]
        if name not in tables:
            raise UsageError(f"no table '{name}'; there are {', '.join(tables)}")
        return f"{match[1]}{tables[name].markdown()}{match[3]}"

    changed, count = _PLACE.subn(fill, text)
    if not count:
        raise UsageError("no place for a table: expected <!-- table variants --> and <!-- end -->")
    return changed


def fill_document(path: Path, tables: Mapping[str, Table]) -> None:
    """Fills the marked places of a file. Raises as ``filled``, with the file's name."""
    try:
        changed = filled(read_text(path), tables)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    write_text(path, changed)


_CELL, _LEFT, _TOP, _GAP = 34, 84, 86, 24
_LOW, _HIGH = (44, 93, 143), (196, 88, 43)  # similarities of -1 and 1; 0 is white


def curves(results: Results, policy: str) -> dict[str, str]:
    """The charts of a policy by title: one per output, with a line for each variant."""
    shown: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for variant, outputs in results.curves.items():
        if variant.partition("_")[0] == policy:
            for output, points in outputs.items():
                lines = shown.setdefault(output, {})
                lines[variant] = [(x, y) for x, y in points]
    return {
        f"{policy}: {output}": draw_chart(Chart(lines)) for output, lines in shown.items() if lines
    }


def policies(results: Results) -> list[str]:
    """The learning rate policies, with which the names of the variants begin."""
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
    """Draws matrices as one SVG: rows are templates, columns the pixels' classes."""
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


def write_report(results: Results, out: Path) -> Path:
    """Writes report.html, results.json, tables.md and pictures/ of the results so far.

    Returns:
        The path of report.html.
    """
    results.write(out / "results.json")
    found = tables.all_tables(results)
    write_text(out / "tables.md", tables.joined(found.values()))
    charts = {
        title: svg for policy in policies(results) for title, svg in curves(results, policy).items()
    }
    heat = draw_matrices(results)
    for title, svg in {**charts, **heat}.items():
        write_text(out / "pictures" / f"{title.replace(': ', '_').replace(' ', '_')}.svg", svg)
    write_text(out / "report.html", _page(results, found, charts, heat))
    return out / "report.html"


def draw_matrices(results: Results) -> dict[str, str]:
    """Draws the similarity matrices of the initial weights and of all variants."""
    names = {n for by in results.scores.values() for s in by.values() for n in s.templates}
    found = {}
    for name in sorted(names):
        shown = {}
        if results.start is not None and name in results.start.templates:
            shown["start"] = results.start.templates[name]
        for variant in results.variants:
            matrix = mean_matrix(results, variant, name)
            if matrix:
                shown[variant] = matrix
        found[f"similarities {name}"] = matrices(shown, results.names)
    return found


def terminal_tables(results: Results) -> list[RichTable]:
    """The tables of means and of single choices, for a terminal."""
    found = tables.all_tables(results)
    return [rich_table(found[name]) for name in ("variants", "contrasts") if name in found]


def rich_table(found: Table) -> RichTable:
    """A table for a terminal."""
    from rich.table import Table

    table = Table(title=found.title, title_justify="left", caption=found.note)
    for i, header in enumerate(found.headers):
        table.add_column(header, justify="right" if i else "left", no_wrap=i == 0)
    for row in found.rows:
        table.add_row(*row)
    return table


def remarks(results: Results) -> list[str]:
    """Remarks about the figures."""
    found = []
    left = sum(len(results.planned) - len(scores) for scores in results.scores.values())
    if left:
        found.append(f"{left} runs are not finished; the figures are those of the others.")
    lost = [
        f"{name}, seed {seed}"
        for name, scores in results.scores.items()
        for seed, score in scores.items()
        if score.before is None
    ]
    if lost:
        found.append(f"Diverged, so without figures: {'; '.join(lost)}.")
    if results.from_fillers:
        found.append(f"Not in {results.init}, so from fillers: {', '.join(results.from_fillers)}.")
    if not tables.is_voc_val(results):
        found.append(
            f"Evaluated on {results.data['val']} images of {results.data['folder']}: nothing here "
            "can be compared with figures of VOC 2012."
        )
    return found


def _page(
    results: Results,
    found: dict[str, tables.Table],
    charts: dict[str, str],
    heat: dict[str, str],
) -> str:
    head = [html.paragraph(text) for text in remarks(results)]
    about = html.section("What this is", _cards(results), *head)
    # the result first, then what qualifies it
    sections = [_table(found["variants"]), about] if "variants" in found else [about]
    sections += [_table(found[name]) for name in ("contrasts", "published") if name in found]
    for title, svg in charts.items():
        chart = html.Html(svg)
        is_loss = "accuracy" not in title
        shown = chart if is_loss else html.details("a batch at each display", chart)
        sections.append(html.section(title, shown))
    if "similarities" in found:
        sections.append(_table(found["similarities"]))
    for title, svg in heat.items():
        note = html.paragraph("Rows: templates. Columns: the pixels' classes.", note=True)
        sections.append(html.section(title, note, html.Html(svg)))
    last = [found[name] for name in ("lost", "classes_before", "classes_after") if name in found]
    sections += map(_table, last)
    lines = [[name, version] for name, version in results.versions.items()]
    sections.append(html.section("Versions", html.table(["of", "version"], lines)))
    return html.page(f"Fine-tuning {results.net_name}", sections)


def _cards(results: Results) -> html.Html:
    done = sum(len(scores) for scores in results.scores.values())
    return html.cards(
        {
            "variants": len(results.scores),
            "runs finished": f"{done} of {len(results.planned) * len(results.scores)}",
            "steps a run": results.steps,
            "training images": results.data["train"],
            "evaluated images": results.data["val"],
        }
    )


def _table(found: tables.Table) -> html.Html:
    parts = [html.paragraph(found.note, note=True)] if found.note else []
    return html.section(found.title, *parts, html.table(found.headers, found.rows))
