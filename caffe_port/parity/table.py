"""The parity table in words: its columns and cells, the headline and the footnotes."""

from __future__ import annotations

import math
import platform
from importlib import metadata
from typing import Any

from caffe_port.parity.compare import Verdict
from caffe_port.parity.judge import Row
from caffe_port.parity.verify import VerifyResult

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
