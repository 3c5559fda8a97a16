"""``caffe-port verify``: hold a net against a recording of real Caffe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from caffe_port.parity.verify import VerifyResult

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_FOLDER = click.Path(exists=True, path_type=Path)


@click.command(name="verify")
@click.argument("net", type=FILE)
@click.argument("weights", type=FILE)
@click.argument("recording", type=FILE_OR_FOLDER)
@click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), help="Default: the recording's.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Fills ${NAME}.")
@click.option("--isolate", is_flag=True, help="Run each layer alone on what Caffe gave it.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="JSON file."
)
def command(
    net: Path,
    weights: Path,
    recording: Path,
    phase: str | None,
    settings: tuple[str, ...],
    isolate: bool,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Prove a converted NET equal to Caffe, blob by blob.

    NET is a prototxt, WEIGHTS any weight file, RECORDING a folder with case.json and case.npz or a
    file made by tools/record_caffe.py inside a real pycaffe. Prints a table of errors; -o writes
    report.html and report.json.

    Exit status: 0 all passes, 1 something fails, 2 a file cannot be read or compared.
    """
    from caffe_port.errors import CaffePortError
    from caffe_port.parity.report import write_json, write_report

    try:
        result = _verify(net, weights, recording, phase, _variables(settings), isolate)
        _show(result)
        if out is not None:
            html, _ = write_report(result, out)
            click.echo(f"report: {html}")
        if json_file is not None:
            write_json(result, json_file)
    except (CaffePortError, OSError) as error:
        click.echo(f"caffe-port verify: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    raise click.exceptions.Exit(0 if result.passed else 1)


def _variables(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"'{name}': expected NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}


def _verify(
    net: Path,
    weights: Path,
    recording: Path,
    phase: str | None,
    variables: dict[str, str],
    isolate: bool,
) -> VerifyResult:
    import caffe_port
    from caffe_port.parity.recording import read_recording
    from caffe_port.parity.verify import verify

    case = read_recording(recording)
    port = caffe_port.load(net, weights, phase=phase or case.meta.phase, variables=variables)
    return verify(port, case, isolate=isolate)


def _show(result: VerifyResult) -> None:
    from rich.console import Console

    from caffe_port.parity.report import footnotes, headline, terminal_table

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(terminal_table(result))
    for line in [headline(result), *footnotes(result)]:
        console.print(line, style="green" if result.passed else "bold red", highlight=False)
