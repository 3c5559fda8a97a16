"""``caffe-port upgrade``: files of older generations in the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caffe_port.cli.options import text_options
from caffe_port.printing import echo


@click.command(name="upgrade")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@text_options
def command(source: Path, target: Path, **options: Any) -> None:
    """Write SOURCE in Caffe's present generation to TARGET.

    SOURCE is the prototxt of a net (V0, V1 or V2) or of a solver, or a binary .caffemodel, of
    Caffe or of DeepLab v1 or v2. A prototxt becomes a prototxt, a caffemodel a caffemodel; both
    are read by Caffe 1.0, or by DeepLab v2 where they have its layers.

    Exit status: 0 written, 2 a file cannot be read or written.
    """
    from caffe_port.upgrading import upgrade_file

    for remark in upgrade_file(source, target, **options):
        echo(remark, err=True)
    echo(f"{target}: {target.stat().st_size:,} bytes")
