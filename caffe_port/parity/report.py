"""Shows a verification: a table in the terminal, ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
import math
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caffe_port.errors import printable
from caffe_port.files import write_text
from caffe_port.parity import tolerance
from caffe_port.parity.compare import Comparison, Verdict
from caffe_port.parity.judge import Row
from caffe_port.parity.verify import VerifyResult
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart
from caffe_port.reports.html import Html

if TYPE_CHECKING:
    from rich.table import Table


#: Columns of the parity table, in the terminal and on the page. e_port and e_caffe are parts of the
#: peak, "ratio" is e_port / e_caffe, "port" and "Caffe" the errors as parts of the bound, and
#: "distance" is that of the port's blob from Caffe's, of the peak. These are left-aligned:
WORDS = ("", "layer", "blob", "verdict", "reason")
FIGURES = ("shape", "peak", "e_port", "e_caffe", "ratio", "port", "Caffe", "distance")
HEADERS = (*WORDS[:3], *FIGURES, *WORDS[3:])


def worst(result: VerifyResult, figure: str) -> dict[str, Any] | None:
    """The row with the largest relative ``e_port`` or ``e_caffe``; None when nothing has one."""
    name = {"e_port": "port_relative", "e_caffe": "caffe_relative"}[figure]
    found = [(getattr(row.comparison, name), row) for row in result.rows]
    finite = [(value, row) for value, row in found if value is not None and math.isfinite(value)]
    if not finite:
        return None
    value, row = max(finite, key=lambda pair: float(pair[0]))
    return {"kind": row.kind, "name": row.name, "relative": value}


def environment() -> dict[str, str]:
    """Versions of what computed the port's numbers."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("torch", "numpy", "caffe-port"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def shown_rows(result: VerifyResult) -> list[Row]:
    """The rows that are shown: parameters only if they differ, and no unrecorded blobs."""
    return [
        row
        for row in result.rows
        if row.comparison.verdict is Verdict.FAIL
        or (row.kind != "param" and row.comparison.verdict is not Verdict.NOT_RECORDED)
    ]


def headline(result: VerifyResult) -> str:
    """The outcome in one sentence."""
    passed, row = result.count(Verdict.PASS), result.first_bad
    params = sum(r.kind == "param" and r.comparison.verdict is Verdict.PASS for r in result.rows)
    if row is None:
        rest = f", {params} of them parameters equal bit for bit" if params else ""
        return f"{result.net}: all {passed} compared arrays pass{rest}."
    layers = ", ".join(f"'{name}'" for name in row.layers) or "none (an input)"
    return (
        f"{result.net}: {result.count(Verdict.FAIL)} arrays fail, {passed} pass. "
        f"First bad layer: {layers}, by {row.kind} '{row.name}': {row.comparison.reason}."
    )


def footnotes(result: VerifyResult) -> list[str]:
    """What the table leaves out, and ties."""
    notes = []
    if adopted := [row.name for row in result.rows if row.kind == "param" and _missing(row)]:
        names = ", ".join(adopted[:4]) + ", ..." * (len(adopted) > 4)
        notes.append(f"{len(adopted)} parameters have the recorded values, as no weights were ")
        notes[-1] += f"given for them: {names}."
    if unrecorded := result.count(Verdict.NOT_RECORDED) - len(adopted):
        notes.append(f"{unrecorded} arrays were not recorded or cannot be compared.")
    if random := result.count(Verdict.RANDOM):
        notes.append(f"{random} arrays depend on random draws and were not compared.")
    if ties := sum(row.comparison.ties for row in result.rows):
        notes.append(f"{ties} places were decided by values that are equal within rounding.")
    return notes


def _missing(row: Row) -> bool:
    return row.comparison.verdict is Verdict.NOT_RECORDED


def cells_of(row: Row) -> list[str]:
    """One row as text, in the order of ``HEADERS``."""
    c = row.comparison
    peak = c.peak or 0.0
    apart = c.distance / peak if c.distance is not None and peak else c.distance
    figures = [_number(c.peak), _number(c.port_relative), _number(c.caffe_relative)]
    figures += [_number(c.ratio), _percent(c.port_share), _percent(c.caffe_share), _number(apart)]
    if c.differing is not None and c.verdict in (Verdict.PASS, Verdict.FAIL):
        figures[1:] = [f"{c.differing} differ", *[""] * 5]
    shape = " x ".join(map(str, c.shape)) if c.shape else ""
    layer = " + ".join(row.layers)
    return [row.kind, layer, row.name, shape, *figures, c.verdict.value, c.reason]


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{share:.0%}" if share < 10 else f"{share:.3g} x"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.3g}"


KINDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.RANDOM: "warn",
    Verdict.NOT_RECORDED: "info",
}

#: Powers of ten on the plot. Smaller errors, 0 among them, are drawn on the lower edge.
LOWEST, HIGHEST = -5, 4

MEANING = f"""Every layer is computed in float64 on the very numbers that it was given: once on
those that Caffe recorded, once on those of the port's own float32 run. These results are exact but
for float64. e_caffe and e_port are the largest distances of Caffe's and the port's float32 results
from them, as parts of the blob's peak; errors of earlier layers take no part.

A row passes when no element of either is further from the exact result than correct float32
arithmetic can bring it: {tolerance.PER_ELEMENT:g} standard errors, which follow from the magnitudes
that were summed for that element; and {tolerance.ROOT_MEAN_SQUARE:g} in the root mean square of a
large blob. "port" and "Caffe" show the errors as parts of this bound: above 100 % it is no rounding
but another computation. The ratio of the two errors is shown for information; it depends on the
BLAS that Caffe used.

"distance" is that of the port's blob, in a run of the whole net, from Caffe's: rounding of all
layers before it, added up.

Labels and masks must be equal to those that the recorded scores give. Places where the port's run
and Caffe's decide differently between values that are equal within rounding are counted. 'random'
marks blobs that are a random draw."""


def page_of(result: VerifyResult) -> str:
    """The whole page, self-contained."""
    recording = result.recording
    how = "each layer alone on Caffe's bottoms" if result.isolated else "the whole net"
    sections = [
        html.section("Result", *_result(result)),
        html.section("Errors along the net, as parts of the bound", error_plot(result)),
        html.section("Blob by blob", parity_table(result)),
        html.section("What the verdicts mean", *map(html.paragraph, MEANING.split("\n\n"))),
        html.section("Versions", _versions(result)),
    ]
    subtitle = f"compared with {recording.name}, phase {recording.meta.phase}, {how}"
    return html.page(f"Parity of {result.net}", sections, subtitle=subtitle)


def parity_table(result: VerifyResult) -> Html:
    """The table alone, for other reports to include."""
    rows, classes = [], []
    for row in shown_rows(result):
        kind = KINDS[row.comparison.verdict]
        cells: list[html.Cell] = list(cells_of(row))
        cells[-2] = html.raw(html.verdict(kind, row.comparison.verdict.value))
        rows.append(cells)
        classes.append("fail" if kind == "fail" else "")
    sides: list[html.Align] = ["left" if name in WORDS else "right" for name in HEADERS]
    return html.table(HEADERS, rows, align=sides, row_classes=classes)


def _result(result: VerifyResult) -> list[Html]:
    figures: dict[str, object] = {
        "arrays compared": result.count(Verdict.PASS) + result.count(Verdict.FAIL),
        "fail": result.count(Verdict.FAIL),
    }
    for name, figure in (("port", "e_port"), ("Caffe", "e_caffe")):
        if found := worst(result, figure):
            figures[f"largest error of {name}, of the peak ({found['name']})"] = (
                f"{found['relative']:.2g}"
            )
    kind = "pass" if result.passed else "fail"
    return [
        html.verdict(kind),
        html.paragraph(headline(result)),
        html.cards(figures),
        *(html.paragraph(note, note=True) for note in footnotes(result)),
    ]


def _versions(result: VerifyResult) -> Html:
    meta = result.recording.meta
    rows = [["port", name, version] for name, version in environment().items()]
    rows += [["recording", name, version] for name, version in meta.versions.items()]
    rows += [["recording", "made by", meta.oracle or "unknown"]]
    return html.table(["", "what", "version"], rows, align=["left", "left", "left"])


def error_plot(result: VerifyResult) -> Html:
    """Errors of Caffe and of the port as parts of the bound, in the order of the table."""
    rows = [row for row in result.rows if row.comparison.e_port is not None]
    curves: dict[str, list[tuple[float, float]]] = {"Caffe": [], "port": []}
    dots: dict[str, list[str]] = {"Caffe": [], "port": []}
    for i, row in enumerate(rows):
        shares = (row.comparison.caffe_share, row.comparison.port_share)
        for name, share in zip(curves, shares, strict=True):
            if share is not None:
                power = math.log10(share) if share > 0 else LOWEST
                curves[name].append((i, min(max(power, LOWEST), HIGHEST)))
                where = f"{row.kind} {row.name} ({', '.join(row.layers)})"
                dots[name].append(f"{where}: {name} {share:.2g} of the bound")
    x = Axis(span=(-0.5, max(len(rows), 1) - 0.5), ticks=())
    y = Axis("", (LOWEST, HIGHEST), range(LOWEST, HIGHEST + 1), "1e{:g}".format)
    title = "errors of the port and of Caffe for each blob"
    return draw_chart(Chart(curves, x, y, title, (960, 280), dots=dots, limit=0))


JSON_FORMAT, JSON_VERSION = "caffe_port parity", 2

STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.RANDOM: "yellow",
    Verdict.NOT_RECORDED: "dim",
}


def as_dict(result: VerifyResult) -> dict[str, Any]:
    """What ``report.json`` holds: plain values only, no infinities."""
    recording, first = result.recording, result.first_bad
    return {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "net": result.net,
        "parameters": result.parameters,
        "recording": recording.name,
        "oracle": recording.meta.oracle,
        "phase": recording.meta.phase,
        "isolated": result.isolated,
        "passed": result.passed,
        "first_bad": None if first is None else _row_dict(first),
        "counts": {verdict.value: result.count(verdict) for verdict in Verdict},
        "worst": {figure: worst(result, figure) for figure in ("e_port", "e_caffe")},
        "versions": {"port": environment(), "recording": dict(recording.meta.versions)},
        "rows": [_row_dict(row) for row in result.rows],
    }


def write_json(result: VerifyResult, path: Path) -> None:
    """Writes ``as_dict`` as UTF-8 JSON."""
    text = json.dumps(as_dict(result), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def write_report(result: VerifyResult, folder: Path) -> tuple[Path, Path]:
    """Writes ``report.html`` and ``report.json`` into a folder; returns their paths."""
    html, data = folder / "report.html", folder / "report.json"
    write_text(html, page_of(result))
    write_json(result, data)
    return html, data


def terminal_table(result: VerifyResult) -> Table:
    """The parity table for ``rich.print``."""
    from rich.table import Table
    from rich.text import Text

    how = "each layer on Caffe's bottoms" if result.isolated else "the whole net"
    table = Table(title=f"{result.net}, {result.recording.meta.phase}, {how}", title_justify="left")
    for name in HEADERS:
        justify: Literal["left", "right"] = "left" if name in WORDS else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for row in shown_rows(result):
        verdict = row.comparison.verdict
        cells = [Text(printable(cell)) for cell in cells_of(row)]
        table.add_row(*cells[:-2], Text(verdict.value, style=STYLES[verdict]), cells[-1])
    return table


def _row_dict(row: Row) -> dict[str, Any]:
    c: Comparison = row.comparison
    return {
        "kind": row.kind,
        "name": row.name,
        "layers": list(row.layers),
        "shape": list(c.shape),
        "peak": _finite(c.peak),
        "e_port": _finite(c.e_port),
        "e_port_relative": _finite(c.port_relative),
        "e_caffe": _finite(c.e_caffe),
        "e_caffe_relative": _finite(c.caffe_relative),
        "ratio": _finite(c.ratio),
        "port_share_of_bound": _finite(c.port_share),
        "caffe_share_of_bound": _finite(c.caffe_share),
        "distance": _finite(c.distance),
        "ulps": _finite(c.ulps),
        "verdict": c.verdict.value,
        "reason": c.reason,
        "where": None if c.where is None else list(c.where),
        "differing": c.differing,
        "ties": c.ties,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
