"""What a model card states of a comparison with Caffe, from the report.json of ``verify``."""

from __future__ import annotations

import os
from typing import Any

from caffe_port.errors import FormatError, reason
from caffe_port.files import read_json
from caffe_port.parity.report import JSON_FORMAT


def read_parity(path: str | os.PathLike[str], net: str, parameters: str) -> dict[str, Any]:
    """The figures of a report that was made with this very net.

    Args:
        path: report.json of ``caffe-port verify``.
        net: the net's name.
        parameters: ``parity.verify.digest`` of the net.
    Returns:
        Plain values: passed, phase, caffe (its version), compared and failed (arrays), layers,
        port_error and caffe_error (the largest, of the peak; None where there is none).
    Raises:
        ReadError: it cannot be read.
        FormatError: it is no such report, or one of another net.
    """
    report = read_json(path)
    if not isinstance(report, dict) or report.get("format") != JSON_FORMAT:
        message = f'not a report of verify: expected "format": "{JSON_FORMAT}"'
        raise FormatError(message, path=path)
    try:
        figures = _figures(report)
        found = str(report["net"]), str(report["parameters"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"not a report of this version of verify ({reason(error)}); run verify again"
        raise FormatError(message, path=path) from error
    if found != (net, parameters):
        what = f"of the net '{found[0]}'" if found[0] != net else "of other weights"
        message = f"a report {what}; expected one of '{net}' with these weights: run verify on them"
        raise FormatError(message, path=path)
    return figures


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    counts = {verdict: int(count) for verdict, count in report["counts"].items()}
    rows = [row for row in report["rows"] if row["verdict"] in ("pass", "fail")]
    versions = report["versions"]["recording"]
    caffe = " ".join(filter(None, (str(report["oracle"]), str(versions.get("caffe", "")))))
    return {
        "passed": bool(report["passed"]),
        "phase": str(report["phase"]),
        "recording": str(report["recording"]),
        "caffe": caffe or "unknown",
        "compared": counts["pass"] + counts["fail"],
        "failed": counts["fail"],
        "layers": len({layer for row in rows for layer in row["layers"]}),
        "port_error": _relative(report["worst"]["e_port"]),
        "caffe_error": _relative(report["worst"]["e_caffe"]),
    }


def _relative(worst: dict[str, Any] | None) -> float | None:
    return None if worst is None else float(worst["relative"])
