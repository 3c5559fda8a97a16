"""A label that is no class: the message names the list and its line, wherever the label is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_port
import caffe_port.pycaffe as caffe
from caffe_port.data.lmdb import write_lmdb
from caffe_port.errors import LayerError
from caffe_port.labels import WrongLabelError, checked
from caffe_port.proto import caffe_pb2

SCORES = """
layer { name: "s" type: "Convolution" bottom: "data" top: "s"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""
CLASSES = """
layer { name: "s" type: "InnerProduct" bottom: "data" top: "s"
  inner_product_param { num_output: 3 } }
"""
MAPS = """
layer {{ name: "d" type: "ImageSegData" top: "data" top: "label" top: "dim" image_data_param {{
  root_folder: "{0}" source: "{0}/list.txt" batch_size: 4 label_type: PIXEL }}
  transform_param {{ crop_size: 9 }} }}
layer {{ name: "e" type: "Silence" bottom: "dim" }}
"""
DATA = 'layer {{ name: "d" type: "{}" top: "data" top: "label" {} }}'
LOSS = 'layer {{ name: "l" type: "{}" bottom: "{}" bottom: "{}" top: "l" {} }}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images; the label map of line 3 has a pixel of 7, those of lines 2 and 4 the void."""
    for i in range(4):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / f"{i}.png")
        labels = np.full((9, 9), i % 3, np.uint8)
        labels[2, 3] = {2: 7, 1: 255, 3: 255}.get(i, 0)
        Image.fromarray(labels).save(tmp_path / f"{i}_label.png")
    (tmp_path / "list.txt").write_text("".join(f"/{i}.png /{i}_label.png\n" for i in range(4)))
    return tmp_path


def refused(folder: Path, text: str, phase: str = "TEST") -> str:
    path = folder / "net.prototxt"
    path.write_text(text)
    with pytest.raises(LayerError) as caught:
        caffe_port.load(path, phase=phase)({}, keep="all")
    pycaffe = caffe.Net(str(path), caffe.TRAIN if phase == "TRAIN" else caffe.TEST)
    with pytest.raises(LayerError) as again:
        pycaffe.forward()
    assert str(again.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_a_loss_names_the_line(folder: Path, phase: str) -> None:
    ignore = "loss_param { ignore_label: 255 }"
    text = MAPS.format(folder) + SCORES + LOSS.format("SoftmaxWithLoss", "s", "label", ignore)
    message = refused(folder, text, phase)
    assert message == (
        "layer 'l' (SoftmaxWithLoss): label 7; expected 0 to 2 or an ignored label "
        f"({folder}/list.txt: line 3: /2_label.png); caffe-port prepare_voc --check-only finds all "
        "wrong label maps"
    )


def test_a_void_label_names_the_option(folder: Path) -> None:
    text = MAPS.format(folder) + SCORES + LOSS.format("SoftmaxWithLoss", "s", "label", "")
    message = refused(folder, text)
    assert "label 255; expected 0 to 2 or an ignored label; set ignore_label: 255 where" in message
    assert "list.txt: line 2: /1_label.png" in message


def test_through_a_split_and_a_smaller_label_map(folder: Path) -> None:
    small = 'layer { name: "i" type: "Interp" bottom: "label" top: "small" '
    small += "interp_param { shrink_factor: 2 } }"
    other = (
        'layer { name: "j" type: "Interp" bottom: "s" top: "t" interp_param { shrink_factor: 2 } }'
    )
    labels = np.full((9, 9), 1, np.uint8)
    labels[4, 4] = 9  # a place that a shrink of 2 keeps
    Image.fromarray(labels).save(folder / "3_label.png")
    (folder / "list.txt").write_text("".join(f"/0.png /{i}_label.png\n" for i in (0, 0, 0, 3)))
    text = MAPS.format(folder) + SCORES + small + other
    text += 'layer { name: "x" type: "Silence" bottom: "label" }'
    text += LOSS.format("SegAccuracy", "t", "small", "seg_accuracy_param { ignore_label: 255 }")
    message = refused(folder, text)
    assert "layer 'l' (SegAccuracy): label 9" in message
    assert "list.txt: line 4: /3_label.png" in message


@pytest.mark.parametrize("type", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss"])
def test_lists_of_classes_and_databases(folder: Path, type: str) -> None:
    (folder / "list.txt").write_text("/0.png 0\n\n/1.png 5\n")
    source = f'source: "{folder}/list.txt" batch_size: 2 root_folder: "{folder}"'
    images = DATA.format("ImageData", f"image_data_param {{ {source} }}")
    text = images + CLASSES + LOSS.format(type, "s", "label", "")
    assert f"({folder}/list.txt: line 3: /1.png)" in refused(folder, text)
    records = [
        caffe_pb2.Datum(channels=1, height=1, width=1, data=b"\x01", label=label)
        for label in (2, 1, 3)
    ]
    write_lmdb(
        folder / "db", ((f"key{i}".encode(), r.SerializeToString()) for i, r in enumerate(records))
    )
    source = f'data_param {{ source: "{folder}/db" batch_size: 3 backend: LMDB }}'
    data = DATA.format("Data", source)
    text = data + CLASSES + LOSS.format(type, "s", "label", "")
    assert f"({folder}/db/data.mdb: record b'key2')" in refused(folder, text)


def test_labels_that_the_caller_gives_have_no_place(folder: Path) -> None:
    path = folder / "net.prototxt"
    path.write_text(
        'input: "s" input_shape { dim: 2 dim: 3 } input: "label" input_shape { dim: 2 }'
        + LOSS.format("SoftmaxWithLoss", "s", "label", "")
    )
    net = caffe_port.load(path)
    with pytest.raises(LayerError, match=r"label 4; expected 0 to 2 or an ignored label$"):
        net({"s": torch.zeros(2, 3), "label": torch.tensor([0.0, 4.0])})


def test_the_item_of_a_label() -> None:
    labels = torch.tensor([[[0, 1], [1, 0]], [[0, 0], [5, 6]]])
    with pytest.raises(WrongLabelError) as caught:
        checked(labels, 2)
    wrong = caught.value
    assert (wrong.label, wrong.index, wrong.count, wrong.item(2)) == (5, 6, 8, 1)
