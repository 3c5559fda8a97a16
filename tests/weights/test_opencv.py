"""OpenCV's own importer reads what we write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffe_port.weights import read_weights, write_weights
from tests.goldens_dir import SHAPES
from tests.weights.making import same_bits

RECORDING = SHAPES / "caffe_run" / "recording"


def test_opencv_reads_our_caffemodel(tmp_path: Path) -> None:
    cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV has no Caffe importer")
    original = read_weights(RECORDING / "net.caffemodel")
    ours = tmp_path / "ours.caffemodel"
    write_weights(ours, original.layers, name=original.name)
    net = cv2.dnn.readNetFromCaffe(str(RECORDING / "net.prototxt"), str(ours))
    compared = 0
    for layer in original.layers:
        for index, blob in enumerate(layer.blobs):
            found = net.getParam(layer.name, index)
            assert same_bits(found.reshape(blob.data.shape), blob.data), layer.name
            compared += 1
    assert compared >= 32
