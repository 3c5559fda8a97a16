"""docs/LAYERS.md says what the registry holds."""

import importlib.util
import sys

from caffe_port.spec.ops import BUILTIN
from tests.goldens_dir import ROOT


def _tool():
    spec = importlib.util.spec_from_file_location("layers_table", ROOT / "tools/layers_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["layers_table"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_is_current():
    tool = _tool()
    assert tool.TARGET.read_text() == tool.table(), "run python tools/layers_table.py"


def test_every_type_has_a_source():
    rows = _tool().table().splitlines()
    missing = [row for row in rows if any(row.startswith(f"| {t} |") for t in BUILTIN)
               and row.split("|")[6].strip() == ""]  # fmt: skip
    assert missing == []
