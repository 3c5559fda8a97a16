"""The parity report as a page: verdict, plot, table, explanation, versions."""

from __future__ import annotations

import math

from caffe_port.parity import tolerance
from caffe_port.parity.compare import Verdict
from caffe_port.parity.table import (
    HEADERS,
    WORDS,
    cells_of,
    environment,
    footnotes,
    headline,
    shown_rows,
    worst,
)
from caffe_port.parity.verify import VerifyResult
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart
from caffe_port.reports.html import Html

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
