"""Shows a verification: a table in the terminal, ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caffe_port.errors import printable
from caffe_port.files import write_text
from caffe_port.parity.compare import Comparison, Verdict
from caffe_port.parity.judge import Row
from caffe_port.parity.report_html import page_of
from caffe_port.parity.table import HEADERS, WORDS, cells_of, environment, shown_rows, worst
from caffe_port.parity.verify import VerifyResult

if TYPE_CHECKING:
    from rich.table import Table

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
