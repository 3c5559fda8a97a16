"""A recipe small enough to train in a test, and a set of results without any training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from caffe_port.data.images import read_labels
from caffe_port.datasets import dataset
from caffe_port.finetuning.inputs import Images, Options, find_images
from caffe_port.finetuning.results import Results, Score
from caffe_port.finetuning.scoring import Setting
from caffe_port.finetuning.variants import Variant, find_variants
from caffe_port.loading import load
from tests.goldens_dir import SHAPES

_NET = """name: "tiny-largefov"
layer {{ name: "data" type: "ImageSegData" top: "data" top: "label" {more}
  transform_param {{ mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 crop_size: {crop}
    mirror: {mirror} }}
  image_data_param {{ root_folder: "x" source: "${{LIST}}" batch_size: 2 shuffle: {mirror}
    label_type: PIXEL }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 9 stride: 8 pad: 4
    weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv" }}
layer {{ name: "scores" type: "Convolution" bottom: "conv" top: "scores"
  convolution_param {{ num_output: 6 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
"""
_TRAIN = """
layer { name: "label_shrink" type: "Interp" bottom: "label" top: "label_shrink"
  interp_param { shrink_factor: 8 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label_shrink" top: "loss"
  loss_param { ignore_label: 255 } }
"""
_TEST = """
layer { name: "large" type: "Interp" bottom: "scores" top: "large" interp_param { zoom_factor: 8 } }
layer { name: "silence" type: "Silence" bottom: "data_dim" }
layer { name: "crf" type: "DenseCRF" bottom: "large" bottom: "data_dim" bottom: "data" top: "crf"
  dense_crf_param { max_iter: 1 pos_w: 3 pos_xy_std: 3 bi_w: 4 bi_xy_std: 49 bi_rgb_std: 13 } }
"""
FEEDBACK = """
layer { name: "feedback" type: "FeedbackLoss" bottom: "scores" bottom: "label_shrink"
  top: "feedback" loss_weight: 0.5 loss_param { ignore_label: 255 } }
"""
SOLVER = """
lr_policy: "step" gamma: 0.1 stepsize: 4 base_lr: 0.0001 momentum: 0.9 max_iter: 8 display: 2
average_loss: 3 snapshot: 3 snapshot_prefix: "${PREFIX}" solver_mode: GPU
"""


def make_recipes(root: Path) -> Path:
    """A net's folder with the recipes step_softmax and step_pull_push_cosine."""
    net = root / "tiny"
    train = _NET.format(more="", crop=113, mirror="true") + _TRAIN
    test = _NET.format(more='top: "data_dim"', crop=161, mirror="false") + _TEST
    for name, feedback in (("step_softmax", ""), ("step_pull_push_cosine", FEEDBACK)):
        folder = net / "recipes" / name
        folder.mkdir(parents=True)
        (folder / "solver.prototxt").write_text(SOLVER)
        if feedback:
            (folder / "feedback.prototxt").write_text(feedback)
    (net / "train.prototxt").write_text(train)
    (net / "test.prototxt").write_text(test)
    return net


VARIABLES = {"LIST": str(SHAPES / "val.txt"), "PREFIX": "anywhere"}


def make_init(root: Path, net: Path) -> Path:
    """Weights for it."""
    weights = root / "init.caffemodel"
    load(net / "test.prototxt", phase="TEST", variables=VARIABLES).save(weights)
    return weights


def make_images(root: Path, train: int = 6, val: int = 2) -> Images:
    """The first of the example's images."""
    names = []
    for kind, count in (("train", train), ("val", val)):
        path = root / f"{kind}_few.txt"
        lines = (SHAPES / f"{kind}_id.txt").read_text().splitlines()[:count]
        path.write_text("\n".join(lines) + "\n")
        names.append(str(path))
    return find_images(SHAPES, *names)


def make_setting(root: Path, **options: object) -> tuple[Setting, list[Variant]]:
    """A setting and both variants."""
    net = make_recipes(root)
    chosen = Options(VARIABLES, threads=1, **options)  # type: ignore[arg-type]
    setting = Setting(make_images(root), make_init(root, net), chosen, None)
    return setting, find_variants(net)


def made_results() -> Results:
    """Four variants under three seeds with figures that are easy to check by hand."""
    results = Results(
        net="tiny", net_name="tiny-largefov", init="init.caffemodel", names=["ground", "disc"],
        data={"folder": "drawn", "train": 6, "val": 2, "first": "a"}, planned=[1, 2, 3],
        start=Score(0.5, 0.6, [0.4, 0.6], [0.5, 0.7], [0.9, 0.25], _matrices(0.1)), steps=8,
        versions={"torch": "2"},
    )  # fmt: skip
    gains = {
        "poly_softmax": 0.02, "step_softmax": 0.0, "poly_pull_cosine": 0.03,
        "step_pull_cosine": 0.01,
    }  # fmt: skip
    for name, gain in gains.items():
        by_seed = {}
        for seed, noise in ((1, 0.0), (2, 0.01), (3, 0.02)):
            x = 0.5 + gain + noise + (0.001 * seed if "pull" in name else 0)
            lost = [0.9, 0.1 * seed]
            by_seed[seed] = Score(x, x + 0.1, [x, x], [x, None], lost, _matrices(gain), 0.3, 2.0)
        results.scores[name] = by_seed
        results.curves[name] = {"total": [[0, 2.0], [4, 1.0 - gain]], "loss": [[0, 1.5]]}
    return results


def _matrices(x: float) -> dict[str, list[list[float | None]]]:
    return {"cosine": [[0.9, x], [-x, 0.7]], "correlation": [[0.8, None], [None, 0.6]]}


def make_shifted(root: Path, train: int = 6, val: int = 2, classes: int = 6) -> Images:
    """The images of ``make_images`` as a data set whose label maps store each class plus one."""
    root.mkdir(exist_ok=True)
    plain = make_images(root, train, val)
    folder = root / "shifted"
    for split, items in (("train", plain.train), ("val", plain.val)):
        for item in items:
            to = folder / split / item.image.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.symlink_to(item.image)
            labels = read_labels(item.label)
            stored = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
            Image.fromarray(stored).save(folder / split / f"{item.id}_gt.png")
    suffix = plain.train[0].image.suffix
    description = {
        "name": "shifted",
        "classes": [f"class {i}" for i in range(classes)],
        "colours": [[30 * i, 0, 9] for i in range(classes)],
        "labels": {"first": 1, "ignored": [0]},
        "layout": {"images": ["{split}/{id}" + suffix], "labels": ["{split}/{id}_gt.png"]},
        "splits": {"train": {}, "val": {}},
    }
    if suffix == ".png":
        description["layout"]["list"] = ["{split}.txt"]  # type: ignore[index]
        for split, items in (("train", plain.train), ("val", plain.val)):
            (folder / f"{split}.txt").write_text("".join(f"{item.id}\n" for item in items))
    path = root / "shifted.json"
    path.write_text(json.dumps(description))
    return find_images(folder, data=dataset(path))
