"""A folder with good files of every kind, of which an attack replaces some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
"""
TRAIN = """
layer {{ name: "data" type: "{type}" top: "data" top: "label" {options} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
DUMMY = "dummy_data_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } shape { dim: 2 } }"
SOLVER = """
net: "{net}"
base_lr: 0.01
lr_policy: "fixed"
max_iter: 2
display: 0
snapshot_prefix: "snap"
snapshot_after_train: false
"""


def train_net(type: str, options: str) -> str:
    """A net to train whose data layer is of that type."""
    return TRAIN.format(type=type, options=options)


def build(folder: Path) -> None:
    """Writes the good files: net and weights, solver and state, images, scores, a list."""
    import caffe_port as cp

    (folder / "good.prototxt").write_text(NET)
    cp.load(folder / "good.prototxt").save(folder / "good.caffemodel")
    (folder / "train.prototxt").write_text(train_net("DummyData", DUMMY))
    (folder / "solver.prototxt").write_text(SOLVER.format(net="train.prototxt"))
    (folder / "hostile_solver.prototxt").write_text(SOLVER.format(net="net.prototxt"))
    (folder / "home").mkdir()
    (folder / "secret.txt").write_text("a secret that no result may hold\n" * 8)
    _images(folder)


def _images(folder: Path) -> None:
    random = np.random.default_rng(0)
    voc = folder / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True)
    colours = random.integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(colours).save(voc / "JPEGImages" / "a.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(voc / "SegmentationClass" / "a.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    for name in ("images", "features"):
        (folder / name).mkdir()
    Image.fromarray(colours).save(folder / "images" / "a.ppm")
