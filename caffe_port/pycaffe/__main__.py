"""``python -m caffe_port.pycaffe SCRIPT ARGS``: runs a script with ``import caffe``.

``... -m MODULE ARGS`` runs a module, as ``python -m`` does. Python layers of the script's nets are
allowed, because the script itself runs too. Processes that the script starts find caffe here too.
"""

from __future__ import annotations

import os
import runpy
import sys

from caffe_port import pythonpath
from caffe_port.errors import CaffePortError
from caffe_port.live import mode
from caffe_port.pycaffe import alias
from caffe_port.spec.plugins import import_own

_USAGE = """usage: python -m caffe_port.pycaffe [OPTION ...] SCRIPT [ARGUMENT ...]
       python -m caffe_port.pycaffe [OPTION ...] -m MODULE [ARGUMENT ...]
       python -m caffe_port.pycaffe [--pydensecrf] -m ipykernel install [--user]

Runs a Python script or module whose `import caffe` gets caffe_port.pycaffe, in the processes that
it starts too. The last form makes a Jupyter kernel.

  --pydensecrf             `import pydensecrf` gets caffe_port.crf.pydensecrf
  --import FILE_OR_MODULE  import this first: layer types of your own; repeat for each
"""


def main(arguments: list[str]) -> int:
    """Runs the script or module of the arguments; returns 2 if it cannot be found."""
    try:
        pydensecrf, arguments = _take_options(arguments)
    except CaffePortError as error:
        print(f"python -m caffe_port.pycaffe: {error}", file=sys.stderr)
        return 2
    help_wanted = arguments[:1] in (["-h"], ["--help"])
    if not arguments or help_wanted or arguments == ["-m"]:
        print(_USAGE, end="", file=sys.stdout if help_wanted else sys.stderr)
        return 0 if help_wanted else 2
    if arguments[0] != "-m" and not os.path.isfile(arguments[0]):
        print(f"python -m caffe_port.pycaffe: no such script: {arguments[0]}", file=sys.stderr)
        return 2
    alias.install()
    if pydensecrf:
        alias.install_pydensecrf()
    mode.allow_python_layers()
    pythonpath.export(pydensecrf)
    # in a Caffe source tree pytest would import its folder as another module caffe and fail
    os.environ.setdefault("PY_IGNORE_IMPORTMISMATCH", "1")
    if arguments[0] == "-m":
        _run_module(arguments[1], arguments[1:], pydensecrf)
    else:
        _run_script(arguments)
    return 0


def _take_options(arguments: list[str]) -> tuple[bool, list[str]]:
    """Imports own layer types; returns whether --pydensecrf is given, and the other arguments."""
    pydensecrf, imports = False, list[str]()
    while arguments:
        name, _, value = arguments[0].partition("=")
        if arguments[0] == "--pydensecrf":
            pydensecrf = True
        elif name == "--import" and (value or len(arguments) > 1):
            imports.append(value or arguments[1])
            arguments = arguments[not value :]
        else:
            break
        arguments = arguments[1:]
    import_own(imports)
    return pydensecrf, arguments


def _run_module(name: str, arguments: list[str], pydensecrf: bool) -> None:
    if name == "ipykernel" and arguments[1:2] == ["install"]:
        arguments = [*arguments[:2], *pythonpath.kernel_arguments(arguments[2:], pydensecrf)]
    sys.argv = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_script(arguments: list[str]) -> None:
    sys.argv = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
