"""`caffe-port modernize`: rewrites old scripts; `pythonpath`: where processes find `caffe`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.modernizing import Modernized

_COOKIE = re.compile(r"\A((?:.*\n)?[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")


@click.command(name="modernize")
@click.argument(
    "scripts", nargs=-1, required=True, metavar="SCRIPT...",
    type=click.Path(exists=True, path_type=Path),
)  # fmt: skip
@click.option("--write", is_flag=True, help="Change the files; without it only a diff is shown.")
def modernize_command(scripts: Sequence[Path], write: bool) -> None:
    """Rewrite scripts for Python 2 and old numpy, SciPy, PyYAML and Pillow.

    SCRIPT is a file, a Jupyter notebook, or a folder with *.py and *.ipynb files. Shows the changes
    as a diff. Divisions that Python 2 may have rounded are listed: check whether their operands
    are integers.

    Exit status: 0 done, 2 a file cannot be read, understood or written.
    """
    from caffe_port.errors import CaffePortError, described
    from caffe_port.files import write_text

    failed = False
    for path in _files(scripts):
        try:
            old, result = _modernized(path)
            if write and result.text != old:
                permissions = path.stat().st_mode
                write_text(path, result.text)
                path.chmod(permissions)
        except (CaffePortError, OSError) as error:
            message = described(error) if isinstance(error, OSError) else error
            echo(f"caffe-port modernize: {message}", err=True)
            failed = True
            continue
        _report(path, old, result, write)
    if failed:
        raise click.exceptions.Exit(2)


def _files(scripts: Sequence[Path]) -> Iterator[Path]:
    for script in scripts:
        if script.is_dir():
            yield from sorted(p for p in script.rglob("*") if p.suffix in (".py", ".ipynb"))
        else:
            yield script


def _modernized(path: Path) -> tuple[str, Modernized]:
    """The text of a file, and its rewritten form."""
    import io
    import tokenize

    from caffe_port.errors import FormatError
    from caffe_port.files import read_bytes
    from caffe_port.modernizing import modernize, modernize_notebook

    data = read_bytes(path)
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise FormatError(f"its encoding: {error}", path=path) from error
    if path.suffix == ".ipynb":
        return text, modernize_notebook(text, str(path))
    # the output is UTF-8
    given = _COOKIE.sub(r"\g<1>utf-8", text, count=1) if encoding != "utf-8" else text
    return text, modernize(given, str(path))


def _report(path: Path, old: str, result: Modernized, written: bool) -> None:
    if result.text != old:
        if written:
            echo(f"{path}: rewritten")
        else:
            lines = (old.splitlines(keepends=True), result.text.splitlines(keepends=True))
            for line in difflib.unified_diff(*lines, f"{path}", f"{path} (new)"):
                echo(line.rstrip("\r\n"))
    for note in result.notes:
        echo(f"{path}, {note}", err=True)


@click.command(name="pythonpath")
@click.option("--pydensecrf", is_flag=True, help="Also for `import pydensecrf`.")
def pythonpath_command(pydensecrf: bool) -> None:
    """Print the value of PYTHONPATH with which `import caffe` imports this package.

    \b
    export PYTHONPATH="$(caffe-port pythonpath)${PYTHONPATH:+:$PYTHONPATH}"
    ./train.sh            # and every Python process it starts

    Scripts that import caffe in this way may use Python layers; for `caffe train` and the other
    programs set CAFFE_PORT_ALLOW_PYTHON_LAYERS=1.

    Exit status: 0.
    """
    from caffe_port import pythonpath

    click.echo(pythonpath.folders(pydensecrf))
