"""Shows a verification: a table in the terminal, ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
import math
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caffe_port.files import atomic_path
from caffe_port.parity.compare import Comparison, Verdict
from caffe_port.parity.judge import Row
from caffe_port.parity.verify import VerifyResult
from caffe_port.printing import printable

if TYPE_CHECKING:
    from rich.table import Table

JSON_FORMAT, JSON_VERSION = "caffe_port parity", 1

#: Columns of the parity table, in the terminal and on the page; these are left-aligned:
WORDS = ("", "layer", "blob", "verdict", "reason")
FIGURES = ("shape", "peak", "e_port", "of peak", "e_caffe", "of peak")
HEADERS = (*WORDS[:3], *FIGURES, *WORDS[3:])

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
        "caffe_limit": result.caffe_limit,
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
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_report(result: VerifyResult, folder: Path) -> tuple[Path, Path]:
    """Writes ``report.html`` and ``report.json`` into a folder; returns their paths."""
    from caffe_port.parity.report_html import page_of

    html, data = folder / "report.html", folder / "report.json"
    with atomic_path(html) as temporary:
        temporary.write_text(page_of(result), encoding="utf-8")
    write_json(result, data)
    return html, data


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
    """Rows worth a line: parameters only when they differ, and no blobs nobody recorded."""
    return [
        row
        for row in result.rows
        if row.comparison.verdict is Verdict.FAIL
        or (row.kind != "param" and row.comparison.verdict is not Verdict.NOT_RECORDED)
    ]


def headline(result: VerifyResult) -> str:
    """The outcome in one sentence."""
    passed, row = result.count(Verdict.PASS), result.first_bad
    params = sum(r.kind == "param" for r in result.rows)
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
    if unrecorded := result.count(Verdict.NOT_RECORDED):
        notes.append(f"{unrecorded} arrays were not recorded or cannot be held against anything.")
    if random := result.count(Verdict.RANDOM):
        notes.append(f"{random} arrays depend on random draws and were not compared.")
    if ties := sum(row.comparison.ties for row in result.rows):
        notes.append(f"{ties} labels were decided by scores that tie within Caffe's own error.")
    return notes


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


def cells_of(row: Row) -> list[str]:
    """One row as text, in the order of ``HEADERS``."""
    c = row.comparison
    numbers = (c.peak, c.e_port, c.port_relative, c.e_caffe, c.caffe_relative)
    figures = [_number(value) for value in numbers]
    if c.differing is not None and c.verdict in (Verdict.PASS, Verdict.FAIL):
        figures[1:] = [f"{c.differing} differ", "", "", ""]
    shape = " x ".join(map(str, c.shape)) if c.shape else ""
    layer = " + ".join(row.layers)
    return [row.kind, layer, row.name, shape, *figures, c.verdict.value, c.reason]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.3g}"


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
        "ulps": _finite(c.ulps),
        "verdict": c.verdict.value,
        "reason": c.reason,
        "where": None if c.where is None else list(c.where),
        "differing": c.differing,
        "ties": c.ties,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
