"""The figures of docs/coming_from.md are those that the benchmark recorded."""

from __future__ import annotations

import json

from tests.goldens_dir import ROOT


def test_the_table_has_the_recorded_figures():
    text = (ROOT / "docs" / "coming_from.md").read_text()
    tables = json.loads((ROOT / "benchmarks" / "results" / "ports.json").read_text())["tables"]
    checked = 0
    for program in ("kazuto1011", "MMdnn", "caffe2onnx"):
        for row in tables[program].values():
            change = f"{row['mean IoU of Caffe']:.2f} -> {row['mean IoU there']:.2f}"
            if change in text:
                share = row["labels changed, %"]
                assert f"{share:.2f} % of labels, {change}" in text or (
                    f"{share:.1f} % of labels, {change}" in text
                )
                checked += 1
    assert checked == 6
