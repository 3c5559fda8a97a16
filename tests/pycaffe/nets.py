"""Nets and solvers that several tests of the pycaffe face use."""

from __future__ import annotations

from pathlib import Path

SMALL = """name: "small" force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""

IMAGES = """input: "data" input_shape { dim: 4 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 8 weight_filler { type: "xavier" } } }
layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" }
layer { name: "prob" type: "Softmax" bottom: "flat" top: "prob" }
"""


def write(path: Path, text: str) -> Path:
    """Writes a text and returns its path."""
    path.write_text(text)
    return path


def solver(folder: Path, options: str = "", net: str = SMALL) -> Path:
    """A solver of the small net in a folder, fixed rate 0.1."""
    write(folder / "net.prototxt", net)
    text = f'net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 6 {options}'
    if "snapshot_prefix" not in options:
        text += f' snapshot_prefix: "{folder}/snap"'
    return write(folder / "solver.prototxt", text)
