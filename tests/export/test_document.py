"""docs/export.md says what is so."""

from __future__ import annotations

import re

from caffe_port.export.module import module_types
from caffe_port.export.onnx_file import onnx_types
from caffe_port.spec.ops import BUILTIN, op_class
from tests.goldens_dir import ROOT

TEXT = (ROOT / "docs" / "export.md").read_text()
NEEDS_NOTHING = {"Split", "Silence"}


def row(title):
    return set(re.search(rf"^\| {title} \| (.*) \|$", TEXT, re.MULTILINE)[1].split())


def stays_in_caffe(type):
    kind = op_class(type)
    return kind.auto_top or kind.kind != "plain" or type in (
        "DenseCRF", "DetectionOutput", "MultiStageMeanfield"
    )  # fmt: skip


def test_the_types_are_all_there():
    assert set(module_types()) == set(onnx_types()) == row("both") - NEEDS_NOTHING
    computing = {type for type in BUILTIN if not stays_in_caffe(type)}
    assert row("neither") == computing - row("both") - NEEDS_NOTHING
