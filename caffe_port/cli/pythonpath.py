"""``caffe-port pythonpath``: where other Python processes find caffe."""

from __future__ import annotations

import click


@click.command(name="pythonpath")
@click.option("--pydensecrf", is_flag=True, help="Also give `import pydensecrf` this package's.")
def command(pydensecrf: bool) -> None:
    """Print what to put on PYTHONPATH, so that `import caffe` gives this package.

    \b
    export PYTHONPATH="$(caffe-port pythonpath)${PYTHONPATH:+:$PYTHONPATH}"
    ./train.sh            # and every python in it

    Python layers of scripts that find caffe so are allowed; for `caffe train` and the other
    programs set CAFFE_PORT_ALLOW_PYTHON_LAYERS=1.

    Exit status: 0.
    """
    from caffe_port import pythonpath

    click.echo(pythonpath.folders(pydensecrf))
