"""``caffe-port verify``: compares a net with a recording of real Caffe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import device_option, net_options
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.parity.verify import VerifyResult


_FILE = click.Path(exists=True, path_type=Path)


def _two_or_three(
    ctx: click.Context, param: click.Parameter, paths: tuple[Path, ...]
) -> tuple[Path, Path | None, Path]:
    if len(paths) not in (2, 3):
        raise click.BadParameter(f"{len(paths)} paths, expected NET [WEIGHTS] RECORDING")
    return paths[0], paths[1] if len(paths) == 3 else None, paths[-1]


@click.command(name="verify")
@click.argument(
    "paths", type=_FILE, nargs=-1, metavar="NET [WEIGHTS] RECORDING", callback=_two_or_three
)
@click.option("--isolate", is_flag=True, help="Run each layer alone on Caffe's bottoms.")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.html and report.json.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
    help="File for the result as JSON only.",
)  # fmt: skip
@device_option
@net_options
def verify_command(
    paths: tuple[Path, Path | None, Path],
    isolate: bool,
    device: str,
    out: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Compare a converted net with Caffe, blob by blob.

    NET is a prototxt, and WEIGHTS a file in any format; or NET alone is a .pt or .safetensors that
    contains its prototxt, or a model folder. RECORDING is a file written by tools/record_caffe.py
    inside a real pycaffe, or a folder with case.json and case.npz. Phase, inputs, their shapes and
    parameters without weights are taken from the recording. Prints a table of errors.

    Exit status: 0 everything passes, 1 something fails, 2 a file cannot be read or compared.
    """
    from caffe_port.files import expect_writable

    pages = [] if out is None else [out / "report.html", out / "report.json"]
    for path in [*pages, *([] if json_file is None else [json_file])]:
        expect_writable(path)
    from caffe_port.parity.report import write_json, write_report

    result = _verify(*paths, isolate, device, options)
    _show(result)
    if out is not None:
        page, _ = write_report(result, out)
        echo(f"report: {page}")
    if json_file is not None:
        write_json(result, json_file)
    raise click.exceptions.Exit(0 if result.passed else 1)


def _verify(
    net: Path,
    weights: Path | None,
    recording: Path,
    isolate: bool,
    device: str,
    options: dict[str, Any],
) -> VerifyResult:
    from caffe_port.parity.recording import load_recorded
    from caffe_port.parity.verify import verify

    port, case, adopted = load_recorded(net, weights, recording, options)
    return verify(port, case, isolate=isolate, adopted=adopted, device=device)


def _show(result: VerifyResult) -> None:
    from caffe_port.errors import console
    from caffe_port.parity.report import footnotes, headline, terminal_table

    shown = console(width=None if sys.stdout.isatty() else 160)
    shown.print(terminal_table(result))
    for line in [headline(result), *footnotes(result)]:
        shown.print(line, style="green" if result.passed else "bold red")
