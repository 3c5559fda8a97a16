"""``caffe-port convert``: Caffe model files into PyTorch ones, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import net_options

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
    required=True,
    help="The file to write: .pt, .safetensors, .caffemodel or .caffemodel.h5.",
)
@click.option(
    "--lenient",
    is_flag=True,
    help="Pass over weights that are missing or left over, as Caffe did, and list them.",
)
@net_options
def command(net: Path, weights: Path | None, out: Path, lenient: bool, **options: Any) -> None:
    """Convert the model of NET and WEIGHTS.

    NET is a prototxt, with WEIGHTS a .caffemodel or .caffemodel.h5; or NET alone is a .pt or
    .safetensors made by this command, which remembers its prototxt.

    Exit status: 0 written, 2 a file cannot be read, does not fit or cannot be written.
    """  # fmt: skip
    from caffe_port.loading import load
    from caffe_port.weights import format_of

    format_of(out)  # an unknown suffix is refused before the work
    if weights is None and net.suffix not in (".pt", ".safetensors"):
        raise click.UsageError("a prototxt needs WEIGHTS")
    built = load(net, weights, strict=not lenient, **options)
    if lenient and built.loaded is not None:
        for name in built.loaded.missing:
            click.echo(f"kept its filler: {name}", err=True)
        for name in built.loaded.extra:
            click.echo(f"not in the net: {name}", err=True)
    built.save(out)
    _show(built, out)


def _show(built: Net, out: Path) -> None:
    layers = sum(1 for layer in built.spec.layers if layer.params)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    size = out.stat().st_size
    click.echo(f"{out}: {layers} layers with {parameters:,} parameters, {size:,} bytes")
    inputs = ", ".join(f"{name} {built.spec.shapes[name]}" for name in built.spec.sources)
    click.echo(f"inputs: {inputs}; outputs: {', '.join(built.spec.outputs)}")
