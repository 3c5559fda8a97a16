"""What `import caffe` finds by PYTHONPATH; it puts caffe_port.pycaffe in its own place."""

import importlib
import sys

try:
    from caffe_port.live import mode
    from caffe_port.pycaffe import alias
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "caffe_port":
        raise
    message = "PYTHONPATH says that caffe_port is to provide caffe, but it is not installed in"
    raise ModuleNotFoundError(f"{message} {sys.executable}", name="caffe") from None

sys.modules.pop("caffe", None)  # this file
alias.install()
mode.allow_python_layers()  # because the script itself is run too
if __name__ == "caffe":  # not where sitecustomize.py reads this file
    importlib.import_module("caffe")
