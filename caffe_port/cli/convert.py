"""`caffe-port convert` between Caffe and PyTorch, `upgrade` of old files, and `inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import net_options, text_options
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.inspection import Listing
    from caffe_port.net import Net

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_REMEMBERING = (".pt", ".safetensors")  # the prototxt and more


@click.command(name="convert")
@click.argument("net", type=_FILE)
@click.argument("weights", type=_FILE, required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .pt, .safetensors, .caffemodel, .caffemodel.h5 or .onnx; with "
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
    "--lenient",
    is_flag=True,
    help="Allow missing and extra weights, as Caffe does, and list them.",
)
@click.option(
    "--dataset", metavar="NAME",
    help="Store the class names and colours of a data set, for predict: see 'labels datasets', or "
    "a .json file; only in a .pt or .safetensors.",
)  # fmt: skip
@net_options
def convert_command(
    net: Path,
    weights: Path | None,
    out: Path | None,
    module: Path | None,
    lenient: bool,
    dataset: str | None,
    **options: Any,
) -> None:
    """Convert the model of NET and WEIGHTS.

    NET is a prototxt, and WEIGHTS a .caffemodel or .caffemodel.h5; or NET alone is a .pt or
    .safetensors that this command wrote, which contains its prototxt.

    Exit status: 0 written, 2 a file cannot be read, does not fit or cannot be written.
    """  # fmt: skip
    from caffe_port.files import expect_writable

    target = _target(out, module)
    for path in [target] if module is None else [module, target]:
        expect_writable(path)
    if weights is None and net.suffix not in _REMEMBERING:
        raise click.UsageError("a prototxt needs WEIGHTS")
    if dataset is not None and (module is not None or target.suffix not in _REMEMBERING):
        raise click.UsageError(f"--dataset: only {' and '.join(_REMEMBERING)} files store classes")
    from caffe_port.loading import load

    built = load(net, weights, strict=not lenient, **options)
    if lenient and built.loaded is not None:
        for name in built.loaded.missing:
            echo(f"kept its filler: {name}", err=True)
        for name in built.loaded.extra:
            echo(f"not in the net: {name}", err=True)
    _warn_of_nan(built)
    if dataset is not None:
        _remember(built, dataset)
    if module is not None:
        _export(built, module, target)
    elif target.suffix == ".onnx":
        _export(built, target)
    else:
        built.save(target)
    _show(built, target)


def _remember(built: Net, name: str) -> None:
    """Adds the classes of a data set to what the file will remember.

    Raises:
        UsageError: the net has no scores of so many classes.
    """
    from caffe_port.datasets import dataset
    from caffe_port.datasets.description import class_notes
    from caffe_port.errors import UsageError
    from caffe_port.evaluation.network import score_blob

    data, spec = dataset(name), built.spec
    try:
        blobs = [score_blob(spec)]
    except UsageError:  # several could be it; predict --blob says which
        blobs = [blob for blob in spec.outputs if len(spec.shapes[blob]) == 4]
    found = {spec.shapes[blob][1] for blob in blobs}
    if len(data.classes) not in found:
        data.rules.expect_classes(min(found, default=0))
    built.notes |= class_notes(data)


def _warn_of_nan(built: Net) -> None:
    """Warns of weights that are NaN or infinite: they are loaded, as in Caffe."""
    for name, parameter in built.named_parameters():
        bad = int((~parameter.detach().isfinite()).sum())
        if bad:
            count = parameter.numel()
            echo(f"warning: {name}: {bad} of {count} values are NaN or infinite", err=True)


def _target(out: Path | None, module: Path | None) -> Path:
    """The file for the weights; refuses an unknown suffix before the conversion."""
    if module is not None:
        from caffe_port.export.module import state_path

        return state_path(module, out)
    if out is None:
        raise click.UsageError("nothing to write: give -o, --emit-module or both")
    if out.suffix != ".onnx":
        from caffe_port.weights import format_of

        format_of(out)
    return out


def _export(built: Net, file: Path, state: Path | None = None) -> None:
    """Writes an ONNX file, or, with ``state``, a module and its state dict."""
    import warnings

    from caffe_port.export import ExportWarning, emit_module, write_onnx

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExportWarning)
        if state is None:
            write_onnx(built, file)
        else:
            emit_module(built, file, state)
            echo(f"{file}: a PyTorch module; its state dict is {state}")
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
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--net", "embedded", is_flag=True, help="Show the layers embedded in a .caffemodel.")
@net_options
def inspect_command(file: Path, as_json: bool, embedded: bool, **options: Any) -> None:
    """Show the content of FILE: a prototxt, a weight file, a solver state or a mean image.

    For a net: layers, blobs, shapes, parameters, multiply-adds and memory. For weights: layers,
    blobs and shapes.

    Exit status: 0 shown, 2 the file cannot be read.
    """
    from caffe_port.inspection import inspect_embedded, inspect_file

    if embedded:
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
