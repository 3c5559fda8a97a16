"""``caffe-port inspect``: what a file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import net_options

if TYPE_CHECKING:
    from caffe_port.inspection import Listing


@click.command(name="inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--net", "embedded", is_flag=True, help="The layers that a .caffemodel embeds.")
@net_options
def command(file: Path, as_json: bool, embedded: bool, **options: Any) -> None:
    """Show what FILE holds: a prototxt, a weight file, a solver state or a mean image.

    Of a net: layers, blobs, shapes, parameters, multiply-adds and memory. Of weights: layers, blobs
    and shapes.

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

    from caffe_port.printing import console

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
