"""Rows that DetectionOutput chooses among scores that are equal within rounding."""

from __future__ import annotations

import json

import numpy as np
import pytest

import caffe_port as cp
from caffe_port.parity.compare import Verdict
from caffe_port.parity.recording import read_recording
from caffe_port.parity.report import footnotes
from caffe_port.parity.verify import verify

TEXT = """input: "x" input_shape { dim: 1 dim: 4 }
input: "loc" input_shape { dim: 1 dim: 8 }
input: "priors" input_shape { dim: 1 dim: 2 dim: 8 }
layer { name: "e" type: "Power" bottom: "x" top: "conf" power_param { scale: 0.7 } }
layer { name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "out"
  detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.45 } } }
"""
PRIORS = [[[0.1, 0.1, 0.3, 0.3, 0.6, 0.6, 0.9, 0.9], [0.1] * 8]]


def verified(folder, swapped, conf_recorded=True):
    """Caffe's scores of the two boxes are one unit apart; the port's are equal."""
    (folder / "net.prototxt").write_text(TEXT)
    net = cp.Net(cp.NetSpec.read(folder / "net.prototxt"))
    x = np.array([[0.1, 0.5, 0.1, 0.5]], np.float32)
    inputs = {"x": x, "loc": np.zeros((1, 8), np.float32), "priors": np.array(PRIORS, np.float32)}
    blobs = {name: blob.numpy().copy() for name, blob in net(inputs, keep="all").items()}
    if swapped:
        conf = blobs["conf"]
        conf[0, 3] = np.nextafter(conf[0, 3], np.float32(9))
        blobs["out"] = blobs["out"][:, :, ::-1].copy()
        blobs["out"][0, 0, 0, 2] = conf[0, 3]
    if not conf_recorded:
        del blobs["conf"]
    arrays = {f"input/{name}": value for name, value in inputs.items()}
    np.savez(folder / "case.npz", **arrays, **{f"data/{name}": b for name, b in blobs.items()})
    kept = "all" if conf_recorded else "chosen"
    meta = {"phase": "TEST", "backward": False, "blobs_kept": kept}
    (folder / "case.json").write_text(json.dumps(meta))
    result = verify(net, read_recording(folder))
    return result, {row.name: row.comparison for row in result.rows}["out"]


def test_equal_rows_need_no_note(tmp_path):
    result, out = verified(tmp_path, swapped=False)
    assert (out.verdict, out.reason, out.ties) == (Verdict.PASS, "", 0)
    assert not any("equal within rounding" in note for note in footnotes(result))


def test_swapped_rows_are_counted(tmp_path):
    result, out = verified(tmp_path, swapped=True)
    assert out.verdict is Verdict.PASS
    assert out.distance == pytest.approx(0.6)
    assert out.reason == "2 rows differ, as values equal within rounding choose them"
    assert any(note.startswith("2 places were decided") for note in footnotes(result))


def test_without_the_scores_the_reason_names_them(tmp_path):
    _, out = verified(tmp_path, swapped=True, conf_recorded=False)
    assert out.verdict is Verdict.FAIL
    assert "'conf' not recorded, and rows change where its values are equal" in out.reason
