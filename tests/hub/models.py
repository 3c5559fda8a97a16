"""A small model as a folder, with everything that can be known of one."""

from __future__ import annotations

import caffe_port as cp
from tests.goldens_dir import SHAPES
from tests.prediction.nets import halving

RECORDING = SHAPES / "caffe_run" / "recording"
NAMES = ("background", "disc", "box", "star")
PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (1, 2, 3))
KNOWN = {
    "title": "Halving", "classes": NAMES, "palette": PALETTE, "dataset": "shapes",
    "mean": (1.5, 2.0, 3.25), "scale": 0.5, "blob": "full", "crf": "v2_vgg16", "crf_colours": "rgb",
    "licence": "cc-by-4.0", "paper": "A paper", "source": "A page", "text": "A remark.",
}  # fmt: skip


def folder_of(tmp_path, **known):
    """A model folder of the net ``halving``, and that net."""
    net = halving(tmp_path)
    folder = tmp_path / "model"
    net.save_pretrained(folder, **known)
    return folder, net


def recorded_net():
    """The bundled net that was recorded in Caffe."""
    return cp.load(RECORDING / "net.prototxt", RECORDING / "net.caffemodel")
