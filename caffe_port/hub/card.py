"""The model card, README.md of a model folder, and the comparison with Caffe that it states."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from caffe_port import __version__
from caffe_port.crf import PRESETS
from caffe_port.errors import FormatError, escaped, reason
from caffe_port.files import read_json
from caffe_port.model_folder import PROTOTXT, WEIGHTS
from caffe_port.model_info import ModelInfo
from caffe_port.parity.report import JSON_FORMAT

if TYPE_CHECKING:
    from caffe_port.net import Net


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


# what the hub knows by these names; other licences are stated as "other"
_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0",
    "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "mit", "mpl-2.0",
    "unlicense",
}  # fmt: skip
_NOT_STATED = "not stated"


def card_text(net: Net, info: ModelInfo, parity: Mapping[str, Any] | None) -> str:
    """The card in Markdown, with the hub's fields in front of it.

    Args:
        net: the model.
        info: what is known of it.
        parity: what ``read_parity`` gives; None where nothing was compared.
    """
    title = info.title or net.spec.name or "A Caffe model"
    sections = [
        [f"# {_line(title)}", "", *_summary(net, info)],
        ["## Use", "", *_use(info)],
        ["## Compared with Caffe", "", *_parity(parity)],
        ["## Input and output", "", *_table(_input_and_output(net, info))],
        ["## Origin", "", *_table(_origin(info))],
        ["## How it was converted", "", *_conversion(net)],
    ]
    if info.classes:
        sections.insert(4, ["## Classes", "", *_classes(info)])
    text = "\n\n".join("\n".join(section) for section in sections)
    return f"{_front_matter(net, info)}\n{text}\n"


def _front_matter(net: Net, info: ModelInfo) -> str:
    """The fields that the hub reads, as YAML; JSON's values are YAML's too."""
    fields: dict[str, Any] = {"library_name": "caffe_port", "tags": ["caffe", "caffe_port"]}
    if len(net.spec.shapes.get(info.blob or "", ())) == 4:
        fields["pipeline_tag"] = "image-segmentation"
    if info.licence.lower() in _LICENCES:
        fields["license"] = info.licence.lower()
    elif info.licence:
        fields |= {"license": "other", "license_name": _plain(info.licence)}
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _summary(net: Net, info: ModelInfo) -> Iterator[str]:
    layers, count = len(net.spec.layers), sum(p.numel() for p in net.parameters())
    name = f"`{_plain(net.spec.name).replace('`', '')}`" if net.spec.name else "without a name"
    yield f"The Caffe net {name}, which caffe_port runs in PyTorch: {layers} layers with"
    yield f"{count:,} parameters."
    if info.text:
        yield from ("", _line(info.text))
    if any(layer.type == "Python" for layer in net.spec.layers):
        yield ""
        yield "It has layers of type Python, whose code is not in this folder."
        yield "They run only with `allow_python_layers=True`."


def _use(info: ModelInfo) -> Iterator[str]:
    crf = ', crf="model"' if info.crf is not None else ""
    yield from (
        "```python",
        "import caffe_port",
        "",
        'net = caffe_port.from_pretrained("FOLDER or OWNER/NAME")  # a torch.nn.Module',
    )
    if info.blob is not None:
        yield f"segment = caffe_port.Segmenter(net{crf})"
        yield 'labels = segment("photo.jpg").labels'
    yield "```"


def _parity(figures: Mapping[str, Any] | None) -> Iterator[str]:
    if figures is None:
        yield "No comparison of this model with Caffe was given when the folder was written."
        yield f"`caffe-port verify {PROTOTXT} {WEIGHTS} RECORDING` makes one."
        return
    if figures["passed"]:
        yield "Every compared array is within the bound of float32 arithmetic around the exact"
        yield "result, in Caffe's run and in this port's."
    else:
        yield f"**{figures['failed']} arrays differ from Caffe by more than float32 arithmetic.**"
    yield ""
    yield from _table({
        "result": "pass" if figures["passed"] else "FAIL",
        "Caffe": figures["caffe"],
        "phase": figures["phase"],
        "recording": figures["recording"],
        "arrays compared": f"{figures['compared']:,}, of {figures['layers']:,} layers",
        "arrays that fail": f"{figures['failed']:,}",
        "largest error of the port, of the blob's peak": _error(figures["port_error"]),
        "largest error of Caffe, of the blob's peak": _error(figures["caffe_error"]),
    })  # fmt: skip


def _error(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def _input_and_output(net: Net, info: ModelInfo) -> dict[str, str]:
    spec = net.spec
    shapes = {name: " x ".join(map(str, spec.shapes[name])) for name in spec.sources}
    rows = {f"input `{_plain(name)}`": shape for name, shape in shapes.items()}
    rows["channels"] = "blue, green, red"
    rows["mean"] = ", ".join(f"{x:g}" for x in info.mean) if info.mean else _NOT_STATED
    rows["scale"] = _NOT_STATED if info.scale is None else f"{info.scale:g}"
    rows["outputs"] = ", ".join(spec.outputs)
    rows["phase"] = spec.phase
    if info.blob is not None:
        rows["scores"] = info.blob
    if info.crf is not None:
        rows["dense CRF"] = _crf(info)
    return rows


def _crf(info: ModelInfo) -> str:
    assert info.crf is not None
    settings = ", ".join(f"{name} {value}" for name, value in info.crf.as_dict().items())
    preset = next((f"preset {name}: " for name, one in PRESETS.items() if one == info.crf), "")
    seen = "BGR minus mean" if info.crf_colours == "layer" else "RGB"
    return f"{preset}{settings}; colours: {seen}"


def _origin(info: ModelInfo) -> dict[str, str]:
    return {
        "data set": info.dataset or _NOT_STATED,
        "licence of the weights": info.licence or _NOT_STATED,
        "paper": info.paper or _NOT_STATED,
        "source of the Caffe model": info.source or _NOT_STATED,
    }


def _classes(info: ModelInfo) -> Iterator[str]:
    colours = [("#{:02x}{:02x}{:02x}".format(*colour)) for colour in info.palette]
    yield "| index | class |" + " colour |" * bool(colours)
    yield "|---|---|" + "---|" * bool(colours)
    for i, name in enumerate(info.classes):
        yield f"| {i} | {_line(name)} |" + (f" {colours[i]} |" if colours else "")


def _conversion(net: Net) -> Iterator[str]:
    kinds = {str(parameter.dtype).removeprefix("torch.") for parameter in net.parameters()}
    words = f" as {', '.join(sorted(kinds))}" if kinds else ""
    yield f"caffe_port {__version__} wrote this folder: `{WEIGHTS}` holds the weights{words},"
    yield f"`{PROTOTXT}` the net's text, in the dialect {net.spec.dialect}. Caffe reads what"
    yield "`caffe-port convert FOLDER -o net.caffemodel` writes."


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for name, value in rows.items():
        yield f"| {_line(name)} | {_line(value)} |"


def _plain(text: str) -> str:
    """One line without control codes."""
    return escaped(" ".join(text.split()))


def _line(text: str) -> str:
    """One line of Markdown that shows the text: no tags, no further cells."""
    return html.escape(_plain(text), quote=False).replace("|", "\\|")
