"""ImageSegData as a layer: what is opened when, and what is refused. Values: tests/data."""

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port.errors import LayerError
from tests.layers.helpers import layer, net_of


@pytest.fixture
def folder(tmp_path):
    for i in range(2):
        pixels = np.full((4, 6, 3), (10 * i, 20, 30), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((4, 6), i + 1, np.uint8)).save(tmp_path / f"{i}_label.png")
    (tmp_path / "list.txt").write_text("/0.png /0_label.png\n/1.png /1_label.png\n")
    return tmp_path


def text(folder, data="batch_size: 2 label_type: PIXEL", transform="mean_value: 5 crop_size: 8"):
    return (
        'type: "ImageSegData" top: "data" top: "label" top: "data_dim" '
        f'image_data_param {{ root_folder: "{folder}" source: "{folder}/list.txt" '
        f"{data} }} transform_param {{ {transform} }}"
    )


def test_a_padded_batch(folder):
    module = layer(text(folder, "batch_size: 2 label_type: PIXEL ignore_label: 255"))
    data, label, size = module()
    assert data.shape == (2, 3, 8, 8)
    assert data[1, :, 0, 0].tolist() == [25, 15, 5]  # blue, green, red less the mean
    assert not data[..., 4:, :].any()
    assert label[:, 0, 0, 0].tolist() == [1, 2]
    assert label[:, 0, 7, 7].tolist() == [255, 255]
    assert size.tolist() == [[[[4, 6]]]] * 2


def test_without_a_crop_the_first_image_gives_the_shape(folder):
    module = layer(text(folder, transform=""))
    assert module.spec.top_shapes == ((2, 3, 4, 6), (2, 1, 4, 6), (2, 1, 1, 2))
    assert [tuple(top.shape) for top in module()] == list(module.spec.top_shapes)


def test_the_list_is_opened_only_when_it_is_read(tmp_path):
    reader = f'layer {{ name: "d" {text(tmp_path)} }}'
    net = net_of(reader + ' layer { name: "r" type: "ReLU" bottom: "data" top: "y" }')
    assert net({"data": torch.rand(1, 3, 8, 8)}, keep=["y"])["y"].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("data", "transform", "message"),
    [
        ("batch_size: 0", "crop_size: 8", "batch_size is 0"),
        ("batch_size: 2 new_height: 4", "crop_size: 8", "new_height and new_width"),
        ("batch_size: 2", "crop_height: 8", "crop_height and crop_width"),
        ("batch_size: 2", "crop_size: 8 crop_height: 8 crop_width: 8", "exclude one another"),
        ("batch_size: 2", 'crop_size: 8 mean_value: 1 mean_file: "m"', "exclude one another"),
    ],
)
def test_options_it_refuses(folder, data, transform, message):
    with pytest.raises(LayerError, match=message):
        layer(text(folder, data, transform))


def test_a_missing_list_without_a_crop(tmp_path):
    with pytest.raises(LayerError, match="set crop_size; or give shapes: input_shapes="):
        layer(text(tmp_path, transform=""))
