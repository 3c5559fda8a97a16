"""Writes docs/LAYERS.md, the table of all layer types, from the registry and the recordings.

usage: python tools/layers_table.py
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from caffe_port.layers._registry import layer_class
from caffe_port.proto import caffe_pb2, read_net
from caffe_port.proto.dialects import LAST_BVLC_V1_TYPE
from caffe_port.proto.upgrade import v1_type_name
from caffe_port.spec.ops import BUILTIN, op_class

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "LAYERS.md"
HEAD = """# Layer types

Made by `python tools/layers_table.py` from the registry; a test keeps it current.

- *Text*: the generations that can write the type; V1 shows its name there, with * where only
  DeepLab v1 had it.
- *Recorded*: cases of real Caffe under `tests/goldens/layers` in which the type occurs. A type
  without any is proven by hand calculation, the paper's formula or upstream's own unit tests, as
  its test says.

| type | text | forward | backward | recorded | source | remarks |
|---|---|---|---|---|---|---|
"""


def _source(*classes: type | None) -> str:
    """The first `Source:` in the docstrings of a type's classes and their bases."""
    for one in (base for each in classes if each for base in each.__mro__):
        found = re.search(
            r"Source:\s+(.*?)(?:\.\s|\.?\n\s*\n|\.?\s*$)", one.__doc__ or "", re.DOTALL
        )
        if found and one.__module__.startswith("caffe_port"):
            return " ".join(found[1].split())
    return ""


def _v1_names() -> dict[str, str]:
    values = caffe_pb2.V1LayerParameter.LayerType.items()
    return {
        v1_type_name(number): name + ("*" if number > LAST_BVLC_V1_TYPE else "")
        for name, number in values
        if name != "NONE"
    }


def _recorded() -> Counter[str]:
    cases: Counter[str] = Counter()
    for path in sorted((ROOT / "tests" / "goldens" / "layers").glob("*/net.prototxt")):
        cases.update({layer.type for layer in read_net(path).layer})
    return cases


def table() -> str:
    """The whole document."""
    v1, recorded = _v1_names(), _recorded()
    rows = []
    for name in sorted(BUILTIN, key=str.lower):
        op = op_class(name)
        source = _source(op, layer_class(name))
        text = f"V2, V1 `{v1[name]}`" if name in v1 else "V2"
        backward = "yes" if op.has_backward() else "none"
        count = str(recorded[name] or "")
        rows.append(f"| {name} | {text} | yes | {backward} | {count} | {source} | {op.remark} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(table())
