"""What `import pydensecrf` finds by PYTHONPATH; it puts caffe_port.crf.pydensecrf in its place."""

import importlib
import sys

from caffe_port.pycaffe import alias

sys.modules.pop("pydensecrf", None)  # this file
alias.install_pydensecrf()
importlib.import_module("pydensecrf")
