"""``caffe-port convert``: Caffe model files into PyTorch ones, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import net_options
from caffe_port.printing import echo

if TYPE_CHECKING:
    from caffe_port.net import Net

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
    help="Write a stand-alone PyTorch module, which needs torch only, and its state dict.",
)
@click.option(
    "--lenient",
    is_flag=True,
    help="Pass over weights that are missing or left over, as Caffe did, and list them.",
)
@net_options
def command(
    net: Path,
    weights: Path | None,
    out: Path | None,
    module: Path | None,
    lenient: bool,
    **options: Any,
) -> None:
    """Convert the model of NET and WEIGHTS.

    NET is a prototxt, with WEIGHTS a .caffemodel or .caffemodel.h5; or NET alone is a .pt or
    .safetensors made by this command, which remembers its prototxt.

    Exit status: 0 written, 2 a file cannot be read, does not fit or cannot be written.
    """  # fmt: skip
    from caffe_port.files import expect_writable

    target = _target(out, module)
    for path in [target] if module is None else [module, target]:
        expect_writable(path)
    if weights is None and net.suffix not in (".pt", ".safetensors"):
        raise click.UsageError("a prototxt needs WEIGHTS")
    from caffe_port.loading import load

    built = load(net, weights, strict=not lenient, **options)
    if lenient and built.loaded is not None:
        for name in built.loaded.missing:
            echo(f"kept its filler: {name}", err=True)
        for name in built.loaded.extra:
            echo(f"not in the net: {name}", err=True)
    _warn_of_nan(built)
    if module is not None:
        _export(built, module, target)
    elif target.suffix == ".onnx":
        _export(built, target)
    else:
        built.save(target)
    _show(built, target)


def _warn_of_nan(built: Net) -> None:
    """Says which weights are not numbers: they load, as in Caffe, and spoil what they touch."""
    for name, parameter in built.named_parameters():
        bad = int((~parameter.detach().isfinite()).sum())
        if bad:
            count = parameter.numel()
            echo(f"warning: {name}: {bad} of {count} values are NaN or infinite", err=True)


def _target(out: Path | None, module: Path | None) -> Path:
    """The file that holds the weights. A suffix that is not known is refused before the work."""
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
    """Writes an ONNX file, or a module where there is a place for its state dict."""
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
