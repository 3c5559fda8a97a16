"""DenseImageData and ImageLabelmapData: what a batch holds, crops and flips, and refusals.

By hand after alexgkendall/caffe-segnet and TimoSaemann/caffe-enet dense_image_data_layer.cpp,
s9xie/hed and yun-liu/RCF image_labelmap_data_layer.cpp; no recording exists.
"""

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import DataError, LayerError
from tests.layers.helpers import layer

HEIGHT, WIDTH = 4, 6


def pixels(i):
    """Red holds the row, green the column, blue the number of the image."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = np.arange(HEIGHT)[:, None]
    image[..., 1] = np.arange(WIDTH)
    image[..., 2] = 10 * i
    return image


def truth():
    return (np.arange(HEIGHT)[:, None] * WIDTH + np.arange(WIDTH)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        Image.fromarray(pixels(i)).save(tmp_path / f"{i}.png")
        Image.fromarray(truth()).save(tmp_path / f"{i}_label.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}_label.png\n" for i in range(3)))
    return tmp_path


def dense(folder, options="batch_size: 2", transform="", **kwargs):
    given = f'source: "{folder}/list.txt" root_folder: "{folder}/" {options}'
    text = f"dense_image_data_param {{ {given} }} transform_param {{ {transform} }}"
    return layer(f'type: "DenseImageData" top: "data" top: "label" {text}', **kwargs)


def labelmap(folder, options="batch_size: 1", transform="", **kwargs):
    given = f'source: "{folder}/list.txt" root_folder: "{folder}/" {options}'
    text = f"image_data_param {{ {given} }} transform_param {{ {transform} }}"
    return layer(f'type: "ImageLabelmapData" top: "data" top: "label" {text}', **kwargs)


def test_a_batch_of_images_and_label_maps(folder):
    module = dense(folder, transform="scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3")
    assert module.spec.top_shapes == ((2, 3, HEIGHT, WIDTH), (2, 1, HEIGHT, WIDTH))
    data, label = module()
    wanted = (pixels(1)[..., ::-1].astype(np.float32) - [1, 2, 3]) * 0.5  # blue, green, red
    assert np.array_equal(data[1].numpy().transpose(1, 2, 0), wanted)
    assert np.array_equal(label[1, 0].numpy(), truth())  # without mean and scale
    data, _ = module()
    assert data[:, 0, 0, 0].tolist() == [(20 - 1) / 2, (0 - 1) / 2]  # the list starts again
    assert module.places[1].endswith("line 1: 0_label.png")


def test_labels_are_resized_to_the_nearest_and_divided_for_enets_encoder(folder):
    options = "batch_size: 1 new_height: 8 new_width: 12 label_divide_factor: 4"
    module = dense(folder, options)
    assert module.spec.top_shapes == ((1, 3, 8, 12), (1, 1, 2, 3))
    data, label = module()
    assert tuple(data.shape) == (1, 3, 8, 12)
    assert label[0, 0].tolist() == truth()[::2, ::2].tolist()


@pytest.mark.parametrize("make", [dense, labelmap])
def test_crops_and_flips_move_image_and_label_together(folder, make):
    places, flipped = set(), set()
    if make is dense:
        module = make(folder, "batch_size: 3 mirror: true crop_height: 2 crop_width: 3")
    else:
        module = make(folder, "batch_size: 3 normalize: false", "mirror: true crop_size: 2")
    for _ in range(30):
        data, label = module()
        for item, marks in zip(data.numpy(), label[:, 0].numpy(), strict=True):
            assert np.array_equal(item[2] * WIDTH + item[1], marks)
            steps = np.diff(item[1], axis=1)
            assert set(steps.ravel()) <= {1} or set(steps.ravel()) <= {-1}
            places.add((item[2].min(), item[1].min()))
            flipped.add(steps[0, 0])
    height, width = data.shape[2:]
    assert places == {(y, x) for y in range(HEIGHT - height + 1) for x in range(WIDTH - width + 1)}
    assert flipped == {1, -1}


def test_shuffled_lists_and_skipped_items(folder):
    module = dense(folder, "batch_size: 3 shuffle: true")
    rounds = [tuple(module()[0][:, 0, 0, 0].tolist()) for _ in range(20)]
    assert {tuple(sorted(items)) for items in rounds} == {(0, 10, 20)}
    assert len(set(rounds)) > 1
    firsts = {
        dense(folder, "batch_size: 1 rand_skip: 2")()[0][0, 0, 0, 0].item() for _ in range(30)
    }
    assert firsts == {0, 10}


def test_one_item_of_any_size_per_batch(folder):
    Image.fromarray(pixels(0)[:2]).save(folder / "1.png")
    Image.fromarray(truth()[:2]).save(folder / "1_label.png")
    module = dense(folder, "batch_size: 1")
    assert [tuple(module()[0].shape[2:]) for _ in range(2)] == [(4, 6), (2, 6)]
    with pytest.raises(DataError, match=r"line 2: 1.png is \(3, 2, 6\), the first one"):
        dense(folder, "batch_size: 3")()


@pytest.mark.parametrize(
    ("options", "dialect", "values"),
    [
        ("", "hed", [0, 0, 1, 1]),
        ("", "rcf", [0, 127 / 255, 1, 1]),
        ("normalize: true", None, [0, 0, 1, 1]),
        ("normalize: false", None, [0, 127, 128, 255]),
    ],
)
def test_what_grey_levels_become(folder, options, dialect, values):
    row = np.uint8([0, 127, 128, 255])
    Image.fromarray(np.tile(row, (2, 1))).save(folder / "0_label.png")
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(folder / "0.png")
    _, label = labelmap(folder, f"batch_size: 1 {options}", dialect=dialect)()
    assert label[0, 0, 1].tolist() == np.float32(values).tolist()


def test_edge_maps_are_resized_with_weights(folder):
    module = labelmap(folder, "batch_size: 1 new_height: 8 new_width: 12 normalize: false")
    _, label = module()
    assert label.shape == (1, 1, 8, 12)
    assert 1 <= label[0, 0, 1, 0] <= 2  # a quarter of the way from 0 to 6


@pytest.mark.parametrize(
    ("make", "options", "transform", "message"),
    [
        (dense, "batch_size: 0", "", "batch_size is 0"),
        (dense, "batch_size: 1 new_height: 4", "", "new_height and new_width"),
        (dense, "batch_size: 1 crop_height: 2", "", "crop_height and crop_width"),
        (dense, "batch_size: 1", "mirror: true", "which would move images and not their labels"),
        (dense, "batch_size: 1", "crop_size: 2", "which would move images and not their labels"),
        (dense, "batch_size: 1 label_divide_factor: 2", "", "label_divide_factor needs"),
        (dense, "batch_size: 1 label_divide_factor: 0", "", "label_divide_factor is 0"),
        (labelmap, "batch_size: 1 new_width: 4", "", "new_height and new_width"),
    ],
)
def test_wrong_options_are_refused(folder, make, options, transform, message):
    with pytest.raises(LayerError, match=message):
        make(folder, options, transform)


def test_faults_in_lists_and_images(folder):
    crop = dense(folder, "batch_size: 1 crop_height: 5 crop_width: 5")
    with pytest.raises(DataError, match=r"line 1: 0\.png: 6x4, smaller than the crop 5x5"):
        crop()
    Image.fromarray(truth()[:3]).save(folder / "0_label.png")
    with pytest.raises(DataError, match=r"label 0_label.png \(3, 6\); expected \(4, 6\)"):
        dense(folder)()
    (folder / "list.txt").write_text("0.png\n")
    with pytest.raises(DataError, match=r"expected 'image label', found '0\.png'"):
        dense(folder)()
