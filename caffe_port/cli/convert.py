"""`caffe-port convert` between Caffe and PyTorch, `upgrade` of old files, and `inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import MODEL, net_options, text_options
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.inspection import Listing
    from caffe_port.net import Net

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_REMEMBERING = (".pt", ".safetensors")  # the prototxt and more


@click.command(name="convert")
@click.argument("net", type=MODEL)
@click.argument("weights", type=_FILE, required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .pt, .safetensors, .caffemodel, .caffemodel.h5 or .onnx; with --names "
    ".pth, .pt or .safetensors; with "
    "--emit-module its state dict, .pt or .safetensors (default: FILE.state.pt).",
)
@click.option(
    "--emit-module",
    "module",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.py",
    help="Write a stand-alone PyTorch module, which needs only torch, and its state dict.",
)
@click.option(
    "--pretrained",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write a model folder: safetensors, prototxt, config.json and a model card.",
)
@click.option(
    "--card",
    type=_FILE,
    metavar="FILE.json",
    help="Store what else is known of the model: classes, mean, crf, licence and so on; see "
    "docs/hub.md; in a .pt, .safetensors or model folder.",
)
@click.option(
    "--parity",
    type=_FILE,
    metavar="REPORT.json",
    help="The report.json of verify, whose result the card of --pretrained states.",
)
@click.option(
    "--lenient",
    is_flag=True,
    help="Allow missing and extra weights, as Caffe does, and list them.",
)
@click.option(
    "--dataset", metavar="NAME",
    help="Store the class names and colours of a data set, for predict: see 'labels datasets', or "
    "a .json file; in a .pt, .safetensors or model folder.",
)  # fmt: skip
@click.option(
    "--dynamic/--no-dynamic",
    default=None,
    help="Whether an .onnx file takes inputs of any batch, height and width (default: yes, unless "
    "--input-shape gives the sizes).",
)
@click.option(
    "--opset",
    type=int,
    help="Operator set of an .onnx file, 13 to 22 (default: 18).",
)
@click.option(
    "--names",
    metavar="NAMES",
    help="The names of a plain state dict (.pth, .pt, .safetensors), WEIGHTS or else FILE of -o: "
    "kazuto1011, isht7, torchvision, timm, or a .json file with rules.",
)
@net_options
def convert_command(
    net: Path,
    weights: Path | None,
    out: Path | None,
    module: Path | None,
    pretrained: Path | None,
    card: Path | None,
    parity: Path | None,
    lenient: bool,
    dataset: str | None,
    dynamic: bool | None,
    opset: int | None,
    names: str | None,
    **options: Any,
) -> None:
    """Convert the model of NET and WEIGHTS.

    NET is a prototxt, and WEIGHTS a .caffemodel, .caffemodel.h5 or a plain state dict of PyTorch
    (.pth, .pt or .safetensors); or NET alone is a .pt, .safetensors or folder that this command
    wrote, which contains its prototxt.

    Exit status: 0 written, 2 a file cannot be read, does not fit or cannot be written.
    """  # fmt: skip
    from caffe_port.files import expect_writable

    known = _known(card, dataset)
    target = None if pretrained and not (out or module) else _target(out, module, names)
    for path in filter(None, (target, module, pretrained and pretrained / "config.json")):
        expect_writable(path)
    suffix = "" if target is None or module is not None else target.suffix
    _expect_uses(suffix, pretrained is not None, (dynamic, opset) != (None, None), known, parity)
    if weights is None and net.suffix not in _REMEMBERING and not net.is_dir():
        raise click.UsageError("a prototxt needs WEIGHTS")
    from caffe_port.loading import Model
    from caffe_port.weights.stored import StateDict

    model = Model(net, weights)
    spec = model.spec(**options)
    renamed = None if isinstance(model.weights, StateDict) else names
    if renamed is not None or (target and target.suffix == ".pth"):
        _expect_state_dict(target, module, renamed, None if pretrained else known)
    built = model.net(spec, strict=not lenient, names=None if renamed else names)
    _warn(built, lenient)
    if known:
        from caffe_port.hub.saving import completed

        built.info = completed(built, known)
    if pretrained is not None:
        built.save_pretrained(pretrained, parity=parity)
        _show(built, pretrained / "model.safetensors")
    if target is not None:
        if renamed is not None:
            _rename(built, target, renamed, lenient)
        else:
            free = not options["input_shapes"] if dynamic is None else dynamic
            _write(built, target, module, free, opset)
        _show(built, target)


def _expect_uses(
    suffix: str, folder: bool, onnx: bool, known: dict[str, Any], parity: Path | None
) -> None:
    """Refuses options for another kind of file than those that are written.

    Args:
        suffix: of the file of the net; "" where there is none.
        folder: whether a model folder is written.
        onnx: whether there are options of ONNX files.
        known: of the model.
        parity: the report for a model card.
    """
    if onnx and suffix != ".onnx":
        raise click.UsageError("--dynamic and --opset are for -o FILE.onnx")
    if known and not folder and suffix not in _REMEMBERING:
        raise click.UsageError(
            f"--dataset and --card: only {' and '.join(_REMEMBERING)} files and --pretrained "
            "folders store what is known of a model"
        )
    if parity is not None and not folder:
        raise click.UsageError("--parity is for the card of a model folder: give --pretrained")


def _known(card: Path | None, dataset: str | None) -> dict[str, Any]:
    """The fields of ``ModelInfo`` in the file of ``--card``, and ``--dataset``."""
    values = {}
    if card is not None:
        from caffe_port.errors import FormatError
        from caffe_port.files import read_json

        values = read_json(card)
        if not isinstance(values, dict):
            raise FormatError("not a JSON object of the fields that docs/hub.md lists", path=card)
    if dataset is not None:
        from caffe_port.datasets import dataset as find

        find(dataset)  # a name that is not known is refused
        values = {**values, "dataset": dataset}
    return values


def _write(built: Net, target: Path, module: Path | None, dynamic: bool, opset: int | None) -> None:
    """Writes a module and its state dict, an ONNX file or a file of weights."""
    from caffe_port.export import emit_module, write_onnx
    from caffe_port.export.onnx_file import OPSET

    if module is not None:
        _export(lambda: emit_module(built, module, target))
        echo(f"{module}: a PyTorch module; its state dict is {target}")
    elif target.suffix == ".onnx":
        _export(
            lambda: write_onnx(
                built, target, dynamic=dynamic, opset=OPSET if opset is None else opset
            )
        )
    else:
        built.save(target)


def _expect_state_dict(
    target: Path | None, module: Path | None, names: str | None, known: dict[str, Any] | None
) -> None:
    """Refuses options that do not go together where a state dict with names is written."""
    from caffe_port.weights import STATE_SUFFIXES

    if names is None:
        if module is None:
            raise click.UsageError(
                f"'{target}': .pth is a plain state dict: say whose names it has (--names NAMES, "
                "for weights with Caffe's names), or write .pt"
            )
    elif module is not None:
        raise click.UsageError("--names and --emit-module: give one of them")
    elif target is None or target.suffix not in STATE_SUFFIXES:
        raise click.UsageError(
            f"--names: WEIGHTS has Caffe's names, so it needs -o with {', '.join(STATE_SUFFIXES)}"
        )
    elif known:
        raise click.UsageError("--dataset and --card: a state dict with --names cannot store them")


def _rename(built: Net, target: Path, names: str, lenient: bool) -> None:
    """Writes the weights under other names."""
    from caffe_port.weights import write_state_dict
    from caffe_port.weights.named import to_names

    made = to_names(built.spec, built.stored_layers(), names, strict=not lenient)
    for layer in made.left_out:
        echo(f"left out, for it has no name there: {layer}", err=True)
    write_state_dict(target, made.state)


def _warn(built: Net, lenient: bool) -> None:
    """Warns of what does not fit, and of NaN and infinite weights: they are loaded, as in Caffe."""
    if lenient and built.loaded is not None:
        for name in built.loaded.missing:
            echo(f"kept its filler: {name}", err=True)
        for name in built.loaded.extra:
            echo(f"not in the net: {name}", err=True)
    for name, parameter in built.named_parameters():
        bad = int((~parameter.detach().isfinite()).sum())
        if bad:
            count = parameter.numel()
            echo(f"warning: {name}: {bad} of {count} values are NaN or infinite", err=True)


def _target(out: Path | None, module: Path | None, names: str | None) -> Path:
    """The file for the weights; refuses an unknown suffix before the conversion."""
    if module is not None:
        from caffe_port.export.module import state_path

        return state_path(module, out)
    if out is None:
        raise click.UsageError("nothing to write: give -o, --emit-module or --pretrained")
    if names is not None:
        from caffe_port.weights import name_map

        name_map(names)
    if out.suffix not in (".onnx", ".pth"):
        from caffe_port.weights import format_of

        format_of(out)
    return out


def _export(write: Callable[[], object]) -> None:
    """Writes an ONNX file or a module; its warnings go to standard error."""
    import warnings

    from caffe_port.export import ExportWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExportWarning)
        write()
    for warning in caught:
        echo(f"warning: {warning.message}", err=True)


def _show(built: Net, out: Path) -> None:
    layers = sum(1 for layer in built.spec.layers if layer.params)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    size = out.stat().st_size
    echo(f"{out}: {layers} layers with {parameters:,} parameters, {size:,} bytes")
    inputs = ", ".join(f"{name} {built.spec.shapes[name]}" for name in built.spec.sources)
    echo(f"inputs: {inputs}; outputs: {', '.join(built.spec.outputs)}")


@click.command(name="upgrade")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@text_options
def upgrade_command(source: Path, target: Path, **options: Any) -> None:
    """Write SOURCE in Caffe's current format to TARGET.

    SOURCE is the prototxt of a net (V0, V1 or V2) or of a solver, or a binary .caffemodel, of
    Caffe or of DeepLab v1 or v2. TARGET has the same kind. Caffe 1.0 reads it, or DeepLab v2 if it
    has layers of DeepLab v2.

    Exit status: 0 written, 2 a file cannot be read or written.
    """
    from caffe_port.inspection import upgrade_file

    for remark in upgrade_file(source, target, **options):
        echo(remark, err=True)
    echo(f"{target}: {target.stat().st_size:,} bytes")


@click.command(name="inspect")
@click.argument("file", type=MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--net", "embedded", is_flag=True, help="Show the layers embedded in a .caffemodel.")
@net_options
def inspect_command(file: Path, as_json: bool, embedded: bool, **options: Any) -> None:
    """Show the content of FILE: a prototxt, weights, a model folder, a solver state or a mean.

    For a net: layers, blobs, shapes, parameters, multiply-adds and memory. For weights: layers,
    blobs and shapes.

    Exit status: 0 shown, 2 the file cannot be read.
    """
    from caffe_port.inspection import inspect_embedded, inspect_file

    if file.is_dir():
        from caffe_port.inspection import net_listing
        from caffe_port.loading import Model

        listing = net_listing(Model(file).spec(**options), str(file), "a model folder")
    elif embedded:
        listing = inspect_embedded(file, options["dialect"])
    else:
        listing = inspect_file(file, **options)
    if as_json:
        click.echo(json.dumps(listing.as_dict(), indent=1))
    else:
        _print(listing)


def _print(listing: Listing) -> None:
    import sys

    from rich.table import Table

    from caffe_port.errors import console

    table = Table(title=listing.title, title_justify="left", caption_justify="left")
    for i, column in enumerate(listing.columns):
        number = bool(listing.rows) and isinstance(listing.rows[0][i], int)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in listing.rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    shown = console(width=None if sys.stdout.isatty() else 160)
    shown.print(table)
    for name, value in listing.totals.items():
        shown.print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    for note in listing.notes:
        shown.print(note)
