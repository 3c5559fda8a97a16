"""``python -m caffe_port.pycaffe SCRIPT ARGS``: runs a script that says ``import caffe``.

``... -m MODULE ARGS`` runs a module, as ``python -m`` does. Python layers of the script's nets are
allowed: whoever runs a script trusts it with more.
"""

from __future__ import annotations

import os
import runpy
import sys

from caffe_port.live import mode
from caffe_port.pycaffe import alias

_USAGE = """usage: python -m caffe_port.pycaffe SCRIPT [ARGUMENT ...]
       python -m caffe_port.pycaffe -m MODULE [ARGUMENT ...]

Runs a Python script or module whose `import caffe` gets caffe_port.pycaffe.
"""


def main(arguments: list[str]) -> int:
    """Runs what the arguments name; returns 2 where they name nothing."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    as_module = arguments[0] == "-m"
    if as_module and len(arguments) < 2:
        print(_USAGE, end="", file=sys.stderr)
        return 2
    alias.install()
    mode.allow_python_layers()
    # pytest would take the folder of a Caffe source tree for another module caffe and refuse it
    os.environ.setdefault("PY_IGNORE_IMPORTMISMATCH", "1")
    if as_module:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    script = arguments[0]
    if not os.path.isfile(script):
        print(f"python -m caffe_port.pycaffe: no such script: {script}", file=sys.stderr)
        return 2
    sys.argv = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
