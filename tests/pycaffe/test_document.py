"""What docs/pycaffe.md shows works as shown."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from tests.goldens_dir import ROOT

NET = """input: "x" input_shape { dim: 2 }
layer { name: "s" type: "Python" bottom: "x" top: "s"
  python_param { module: "shown" layer: "Scaled" param_str: "3" } }"""


def test_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "pycaffe.md").read_text()
    net, layer = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    shown = types.ModuleType("shown")
    exec(net, shown.__dict__)
    assert (tmp_path / "net.caffemodel").stat().st_size > 0
    exec(layer, shown.__dict__)
    monkeypatch.setitem(sys.modules, "shown", shown)
    (tmp_path / "scaled.prototxt").write_text(NET)
    caffe.allow_python_layers()
    try:
        made = caffe.Net("scaled.prototxt", caffe.TEST)
    finally:
        caffe.allow_python_layers(False)
    made.blobs["x"].data[...] = [1, 2]
    np.testing.assert_array_equal(made.forward()["s"], [3, 6])
