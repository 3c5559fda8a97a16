"""docs/export.md says what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from caffe_port.export.module import module_types
from caffe_port.export.onnx_file import onnx_types
from caffe_port.spec.ops import BUILTIN, op_class
from tests.export.making import NETS, case_net
from tests.export.test_module import emit
from tests.goldens_dir import ROOT

TEXT = (ROOT / "docs" / "export.md").read_text()
NEEDS_NOTHING = {"Split", "Silence"}


def row(title):
    return set(re.search(rf"^\| {title} \| (.*) \|$", TEXT, re.MULTILINE)[1].split())


def stays_in_caffe(type):
    kind = op_class("", type)
    return kind.auto_top or kind.kind != "plain" or type == "DenseCRF"


def test_the_types_are_all_there():
    assert set(module_types()) == set(onnx_types()) == row("both") - NEEDS_NOTHING
    computing = {type for type in BUILTIN if not stays_in_caffe(type)}
    assert row("neither") == computing - row("both") - NEEDS_NOTHING


def test_the_example_runs(tmp_path):
    emit(case_net(next(f for f in NETS if "v1_hole" in f.name)), tmp_path / "largefov.py")
    (example,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    name = re.search(r"class (\w+)\(nn", (tmp_path / "largefov.py").read_text())[1]
    code = re.sub(r"\bLargeFOV\b", name, example) + "assert scores.shape[1] == 21"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
