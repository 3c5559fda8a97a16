"""The parity report as a page: verdict, plot, table, what it means, versions."""

from __future__ import annotations

from caffe_port import html
from caffe_port.html import Html
from caffe_port.parity import tolerance
from caffe_port.parity.compare import Verdict
from caffe_port.parity.plot import error_plot
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

KINDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.RANDOM: "warn",
    Verdict.NOT_RECORDED: "info",
}

MEANING = f"""Three runs are compared: real Caffe's recording (float32), the port in float32, and
the port in float64, which stands for the exact answer. e_caffe and e_port are the largest distances
of the first two from the third; beside each stands its part of the blob's peak.

A row passes when e_port is at most {tolerance.PORT_TO_CAFFE:g} times e_caffe, or within
{tolerance.ULPS_OF_PEAK:g} float32 units in the last place of the peak (for a parameter's gradient
also {tolerance.PARAMETER_GRADIENT:g} of it): the port rounds as well as Caffe.

And e_caffe may be at most {tolerance.CAFFE_LAYER:g} of the peak for one layer,
{tolerance.CAFFE_NET:g} for a whole net: more is no rounding but another computation. A wrong layer
shows here.

Labels and masks must be equal, except where Caffe's own scores tie within its error; such places
are counted. 'random' marks blobs that depend on a random draw."""


def page_of(result: VerifyResult) -> str:
    """The whole page, self-contained."""
    recording = result.recording
    how = "each layer alone on Caffe's bottoms" if result.isolated else "the whole net"
    sections = [
        html.section("Result", *_result(result)),
        html.section("Errors along the net", error_plot(result)),
        html.section("Blob by blob", parity_table(result)),
        html.section("What the verdicts mean", *map(html.paragraph, MEANING.split("\n\n"))),
        html.section("Versions", _versions(result)),
    ]
    subtitle = f"held against {recording.name}, phase {recording.meta.phase}, {how}"
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
