"""What a file holds, and old files in the present generation."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.files import (
    HDF5_SIGNATURE,
    TORCH_SIGNATURE,
    ZIP_SIGNATURE,
    OpenFile,
    is_text,
    open_file,
    seems_to_be,
    write_text,
)
from caffe_port.proto import caffe_pb2, read_net_text, read_solver, read_solver_text
from caffe_port.proto.dialects import UnknownWord, is_v1_only
from caffe_port.proto.printer import print_text
from caffe_port.spec import NetSpec
from caffe_port.spec.rules import check_fields

if TYPE_CHECKING:
    from caffe_port.weights.stored import StateDict

# Listings of what files hold, as tables of plain values. Needs no torch for Caffe's own files, and
# no numpy for a prototxt.

Cell = str | int
_STATE = {"phase": "TEST", "level": 0, "stages": ()}  # where an option is not given


@dataclass(frozen=True)
class Listing:
    """A table with totals and remarks.

    Attributes:
        title: what the file is.
        columns, rows: the table.
        totals: sums over it.
        notes: remarks, such as unknown fields.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    totals: Mapping[str, Cell]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: rows become objects."""
        return {
            "title": self.title,
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "totals": dict(self.totals),
            "notes": self.notes,
        }


def inspect_file(path: str | os.PathLike[str], **options: Any) -> Listing:
    """Lists a prototxt (net or solver), a weight file, a solver state or a mean image.

    Args:
        path: the file, recognised by its content.
        options: phase, variables and other options of ``NetSpec.read``, for a prototxt.
    Raises:
        FormatError: the file is none of these, or damaged.
        CaffePortError: the net cannot be built.
    """
    file = open_file(path)
    return _prototxt(file, options) if is_text(file.head) else _binary(file)


def _binary(file: OpenFile) -> Listing:
    from caffe_port.weights.blobproto import is_blob
    from caffe_port.weights.solver_state import is_solver_state

    path, head = file.path, file.head
    known = (HDF5_SIGNATURE, ZIP_SIGNATURE, TORCH_SIGNATURE)
    if not head.startswith(known) and (what := seems_to_be(head)):
        message = f"neither a prototxt nor weights: the file seems to be {what}"
        raise FormatError(message, path=path)
    if is_solver_state(file):
        return _state(file)
    if is_blob(head, file.size) or Path(path).suffix == ".binaryproto":
        return _mean(file)
    return _weights(file)


def inspect_embedded(path: str | os.PathLike[str], dialect: str | None = None) -> Listing:
    """Lists the layers embedded in a binary caffemodel, upgraded, with their options.

    Raises:
        FormatError: the file is not a caffemodel, or damaged.
    """
    from caffe_port.proto.binary import read_net_binary

    net = read_net_binary(path, dialect)
    rows: list[tuple[Cell, ...]] = []
    for layer in net.message.layer:
        named = (layer.name, layer.type, ", ".join(layer.bottom), ", ".join(layer.top))
        for shown in ("name", "type", "bottom", "top"):
            layer.ClearField(shown)
        rows.append((*named, " ".join(print_text(layer).split())))
    title = f"{path}: net '{net.message.name}' as embedded, {net.generation}, {net.dialect}"
    columns = ("layer", "type", "bottoms", "tops", "options")
    return Listing(title, columns, rows, {"layers": len(rows)}, [str(f) for f in net.unknown])


def _prototxt(file: OpenFile, options: Mapping[str, Any]) -> Listing:
    variables = options.get("variables")
    parsed = read_net_text(file, variables, options.get("dialect"))
    if not parsed.message.layer and parsed.unknown:
        return _solver(file, variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownFieldWarning)  # the listing's notes name them
        check_fields(parsed, strict=options.get("strict_text", False))
    given = {k: v for k, v in options.items() if k not in ("variables", "dialect", "strict_text")}
    given |= {name: options.get(name) or default for name, default in _STATE.items()}
    spec = NetSpec.build(
        parsed.message, dialect=parsed.dialect, unknown=parsed.unknown, text=parsed.text, **given
    )
    return net_listing(spec, file.path, parsed.generation)


def net_listing(spec: NetSpec, path: str, generation: str) -> Listing:
    """Layers with shapes, parameters and multiply-adds."""
    rows: list[tuple[Cell, ...]] = []
    for layer in spec.layers:
        count = layer.parameter_count
        tops = ", ".join(_blob(*pair) for pair in zip(layer.tops, layer.top_shapes, strict=True))
        rows.append(
            (layer.name, layer.type, ", ".join(layer.bottoms), tops, count, layer.multiply_adds)
        )
    columns = ("layer", "type", "bottoms", "tops", "parameters", "multiply-adds")
    parameters = sum(int(row[4]) for row in rows)
    blobs = sum(math.prod(shape) for shape in spec.shapes.values())
    totals: dict[str, Cell] = {
        "parameters": parameters,
        "multiply-adds": sum(int(row[5]) for row in rows),
        "bytes of parameters": 4 * parameters,
        "bytes of blobs, all kept": 4 * blobs,
        "inputs": ", ".join(spec.sources),
        "outputs": ", ".join(spec.outputs),
    }
    title = f"{path}: net '{spec.name}', {generation}, {spec.dialect}, phase {spec.phase}"
    return Listing(title, columns, rows, totals, [str(field) for field in spec.unknown])


def _blob(name: str, shape: Sequence[int]) -> str:
    return f"{name} ({' x '.join(map(str, shape))})" if shape else f"{name} (scalar)"


def _solver(file: OpenFile, variables: Mapping[str, str] | None) -> Listing:
    message, unknown = read_solver_text(file, variables)
    rows: list[tuple[Cell, ...]] = [
        (field.name, str(value)) for field, value in message.ListFields()
    ]
    if not rows:
        first = unknown[0]
        wrong = f"neither a net, which has layers, nor a solver: '{first.field}' is of neither"
        raise FormatError(wrong, path=file.path, line=first.line, column=first.column)
    notes = [str(field).replace("the net: ", "") for field in unknown]
    return Listing(f"{file.path}: solver", ("field", "value"), rows, {}, notes)


def _mean(file: OpenFile) -> Listing:
    from caffe_port.weights import read_mean

    mean = read_mean(file)
    values = [float(channel.mean()) for channel in mean]
    rows: list[tuple[Cell, ...]] = [(str(i), f"{value:.4f}") for i, value in enumerate(values)]
    size = " x ".join(map(str, mean.shape))
    return Listing(f"{file.path}: mean image, {size}", ("channel (BGR)", "mean"), rows, {})


def _state(file: OpenFile) -> Listing:
    from caffe_port.weights.solver_state import read_solver_state

    state = read_solver_state(file)
    rows: list[tuple[Cell, ...]] = [
        (index, " x ".join(map(str, blob.shape)), str(blob.dtype), blob.size)
        for index, blob in enumerate(state.history)
    ]
    totals: dict[str, Cell] = {
        "iteration": state.iter,
        "steps of the rate": state.current_step,
        "weights": state.learned_net,
        "values": sum(blob.size for blob in state.history),
    }
    columns = ("history", "shape", "dtype", "count")
    return Listing(f"{file.path}: solver state", columns, rows, totals)


def _weights(file: OpenFile) -> Listing:
    from caffe_port.weights import read_any_weights
    from caffe_port.weights.stored import StateDict

    try:
        stored = read_any_weights(file)
    except FormatError as error:
        raise FormatError(f"neither a prototxt nor weights: {error.message}", path=file.path,
                          offset=error.offset) from error  # fmt: skip
    if isinstance(stored, StateDict):
        return _state_dict(file, stored)
    rows: list[tuple[Cell, ...]] = []
    for layer in stored.layers:
        for index, blob in layer.numbered():
            shape = " x ".join(map(str, blob.data.shape)) + (" (legacy)" if blob.legacy else "")
            dtype = "float16" if blob.half else str(blob.data.dtype)
            rows.append((layer.name, layer.type, index, shape, dtype, blob.data.size))
    columns = ("layer", "type", "blob", "shape", "dtype", "count")
    totals: dict[str, Cell] = {
        "layers": len(stored.layers),
        "layers with blobs": sum(1 for layer in stored.layers if layer.blobs),
        "parameters": sum(int(row[5]) for row in rows),
        "bytes of the file": file.size,
    }
    what = " ".join(filter(None, (stored.format, stored.generation, stored.name)))
    remembers = {"prototxt": f"{len(stored.prototxt)} characters"} if stored.prototxt else {}
    notes = [f"{name}: {value}" for name, value in (remembers | stored.metadata).items()]
    return Listing(f"{file.path}: {what}", columns, rows, totals, notes)


def _state_dict(file: OpenFile, stored: StateDict) -> Listing:
    from caffe_port.weights.named_loading import remembered_names

    rows: list[tuple[Cell, ...]] = [
        (key, " x ".join(map(str, blob.data.shape)), str(blob.data.dtype), blob.data.size)
        for key, blob in stored.tensors.items()
    ]
    totals: dict[str, Cell] = {
        "tensors": len(rows),
        "values": sum(blob.data.size for blob in stored.tensors.values()),
        "bytes of the file": file.size,
    }
    notes = [f"names: {names}"] if (names := remembered_names(stored)) else []
    title = f"{file.path}: {stored.format}, a plain state dict"
    return Listing(title, ("key", "shape", "dtype", "count"), rows, totals, notes)


_Path = str | os.PathLike[str]


def upgrade_file(
    source: _Path,
    target: _Path,
    *,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
) -> list[str]:
    """Writes the V2 form of a net or solver prototxt, or of a binary caffemodel.

    Args:
        source: a prototxt or a .caffemodel, recognised by content.
        target: the file to write, of the same kind.
        variables: values for ``${NAME}`` in a prototxt.
        dialect: the fork that the file was written for; None detects it.
    Returns:
        Remarks: fields that only DeepLab v1 reads, and words of other forks without an effect,
        which are omitted.
    Raises:
        FormatError: the file is neither, is damaged, or has fields that would be lost.
        OSError: it cannot be read, or the target cannot be written.
    """
    file = open_file(source)
    if not is_text(file.head):
        return _upgrade_binary(file, target, dialect)
    parsed = read_net_text(file, variables, dialect)
    if not parsed.message.layer and parsed.unknown:
        text, remarks = print_text(read_solver(file, variables)), []
    else:
        lost = [field for field in parsed.unknown if not isinstance(field, UnknownWord)]
        if lost:
            raise FormatError(f"{lost[0]}; it would be lost: remove it first", path=source)
        remarks = leave_v1(parsed.message) + [str(field) for field in parsed.unknown]
        text = print_text(parsed.message)
    write_text(target, text)
    return remarks


def _upgrade_binary(source: OpenFile, target: _Path, dialect: str | None) -> list[str]:
    from caffe_port.proto.binary import read_net_binary
    from caffe_port.weights.caffemodel import read_caffemodel, write_caffemodel

    stored = read_caffemodel(source)
    net = read_net_binary(source, dialect)
    remarks = leave_v1(net.message) + [str(field) for field in net.unknown]
    write_caffemodel(target, stored.layers, net_message=net.message)
    return remarks


def leave_v1(message: caffe_pb2.NetParameter) -> list[str]:
    """Renames DeepLab v1's loss options to the current names, in place.

    With at most one ignored label and no class weights, softmaxloss_param has the meaning of
    loss_param with its defaults.

    Returns:
        A remark for each remaining field that only DeepLab v1 has.
    """
    remarks = []
    for layer in message.layer:
        v1 = layer.softmaxloss_param
        if len(v1.ignore_label) <= 1 and not v1.weight_source:
            for label in v1.ignore_label:
                layer.loss_param.ignore_label = label
            layer.ClearField("softmaxloss_param")
        remarks += [
            f"layer '{layer.name}' ({layer.type}): only DeepLab v1 has '{field.name}'"
            for field, _ in layer.ListFields()
            if is_v1_only(field.number)
        ]
    return remarks
