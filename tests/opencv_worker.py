"""Runs recorded cases through OpenCV's Caffe importer; a process of its own, as it can crash.

usage: opencv_worker.py CASE ...; prints a line of JSON per case: the blobs' errors relative to the
peak, or why OpenCV takes no such net.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import caffe_port
from tests.goldens_dir import dialect_of


def compare(folder: Path) -> dict[str, float] | str:
    """Largest distances between OpenCV's outputs and ours, by blob; or OpenCV's refusal."""
    text, weights = folder / "net.prototxt", folder / "net.caffemodel"
    files = [str(path) for path in (text, weights) if path.exists()]
    ours = caffe_port.load(
        text, weights if weights.exists() else None, phase="TEST", dialect=dialect_of(folder)
    )
    case = np.load(folder / "case.npz")
    inputs = {k[6:]: case[k] for k in case.files if k.startswith("input/")}
    with torch.no_grad():
        outputs = ours({k: torch.from_numpy(v) for k, v in inputs.items()})
    # OpenCV calls an output by the layer that makes it
    makers = {top: layer.name for layer in ours.spec.layers for top in layer.tops}
    try:
        net = cv2.dnn.readNetFromCaffe(*files)
        for name, values in inputs.items():
            net.setInput(values, name)
        theirs = net.forward([makers[name] for name in outputs])
    except cv2.error as error:
        return str(error).rpartition("error: ")[2][:80]
    errors = {}
    for (name, blob), found in zip(outputs.items(), theirs, strict=True):
        want = blob.numpy()
        if found.size != want.size:
            return f"{name}: {found.shape}, not {want.shape}"
        peak = max(float(np.abs(want).max()), 1e-9)
        errors[name] = float(np.abs(found.ravel() - want.ravel()).max()) / peak
    return errors


if __name__ == "__main__":
    for case in sys.argv[1:]:
        print(json.dumps([case, compare(Path(case))]), flush=True)
