"""Cases of the kind 'files': weights and text that one side writes and the other reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import caffe_port
from caffe_port.errors import CaffePortError
from caffe_port.proto import parse_net
from caffe_port.proto.binary import read_net_binary
from caffe_port.spec import LayerSpec, NetSpec
from tools.differential.cases import Case
from tools.differential.exchanges import (
    Difference,
    Exchange,
    built_difference,
    given_arrays,
    sharing_values,
)
from tools.differential.sides import Answer, CaffeSide, ask_port


def exchange_files(caffe: CaffeSide, case: Case, text: str, spec: NetSpec, work: Path) -> Exchange:
    """Each side writes its files, and reads the other's."""
    given = {k: v for k, v in given_arrays(spec, case.seed).items() if k.startswith("param/")}
    request = {"do": "files", "net": text, "phase": case.phase, "seed": case.seed}
    mine = ask_port(request, given, caffe.timeout)
    theirs = caffe.ask(request, given | _files(mine))
    exchange = Exchange(mine, theirs, given)
    if exchange.answered:
        again = ask_port(request, given | _files(theirs), caffe.timeout)
        values = sharing_values(spec, given)
        exchange.difference = (
            built_difference(mine, theirs)
            or _read(theirs, values, "Caffe reads the port's")
            or _ended(again)
            or _read(again, values, "the port reads Caffe's")
            or _strictly_read(theirs, text, spec, values, work)
            or _texts(mine, theirs)
        )
    return exchange


def _files(answer: Answer) -> dict[str, Any]:
    return {f"file/{name}": content for name, content in answer.part("file").items()}


def _ended(again: Answer) -> Difference | None:
    if again.ended == "ok":
        return None
    return Difference("", "read", f"the port reads Caffe's files: {again.message}")


def _read(answer: Answer, wanted: dict[str, Any], what: str) -> Difference | None:
    """Whether what was read is what was written, bit for bit."""
    for key, values in answer.part("read").items():
        file, _, name = key.partition("/")
        if not np.array_equal(values.reshape(-1), wanted[name]):
            return Difference("", "read", f"{what} {file}: parameter '{name}' is not as written")
    return None


def _strictly_read(
    theirs: Answer, text: str, spec: NetSpec, wanted: dict[str, Any], work: Path
) -> Difference | None:
    """Caffe's files through `load`, which takes nothing that is missing or left over."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "net.prototxt").write_text(text, encoding="utf-8")
    for name, content in theirs.part("file").items():
        path = work / name
        path.write_bytes(content.tobytes())
        try:
            net = caffe_port.load(work / "net.prototxt", path, phase=spec.phase)
            embedded = None if path.suffix == ".h5" else read_net_binary(path)
        except CaffePortError as error:
            return Difference("", "load", f"the port loads Caffe's {name}: {error}")
        for layer in spec.layers:
            for index, param in enumerate(net.layer_params(layer.name)):
                key = f"{layer.name}/{index}"
                if not np.array_equal(param.detach().numpy().reshape(-1), wanted[key]):
                    return Difference("", "load", f"the port loads Caffe's {name}: '{key}' differs")
        if embedded is not None and (flaw := _embedded_difference(embedded.message, spec)):
            return Difference("", "embedded", f"the net inside of Caffe's {name}: {flaw}")
    return None


def _embedded_difference(message: Any, spec: NetSpec) -> str:
    again = NetSpec.build(message, phase=spec.phase, dialect=spec.dialect)
    if [layer.name for layer in again.layers] != [layer.name for layer in spec.layers]:
        return "other layers than in the text"
    if dict(again.shapes) != dict(spec.shapes):
        return "other shapes than from the text"
    for mine, theirs in zip(spec.layers, again.layers, strict=True):
        if _learned(mine) != _learned(theirs) or mine.op != theirs.op:
            return f"layer '{mine.name}' has other options or parameters than in the text"
    return ""


def _learned(layer: LayerSpec) -> list[tuple[object, ...]]:
    """Its parameters; of one that is not learned, Caffe writes another decay_mult."""
    return [
        (p.name, p.shape, p.owner, p.lr_mult, p.decay_mult if p.lr_mult else None)
        for p in layer.params
    ]


def _texts(mine: Answer, theirs: Answer) -> Difference | None:
    """The text as each side's protobuf printed it, read by the port."""
    nets = [parse_net(side.header["text"]).message for side in (mine, theirs)]
    if nets[0] == nets[1]:
        return None
    return Difference("", "text", "Caffe's protobuf prints the net with other content")
