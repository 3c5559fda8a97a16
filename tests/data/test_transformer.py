"""Caffe's DataTransformer, after upstream's own unit tests (test_data_transformer.cpp)."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Transformer
from caffe_port.errors import DataError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops.data import Transform

ITEM = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def run(item=ITEM, phase="TEST", seed=1701, **options):
    return Transformer(Transform(**options), phase, CaffeRandom(seed))(item, "item")


def mean_file(tmp_path, values):
    blob = caffe_pb2.BlobProto(data=np.ravel(values), num=1)
    blob.channels, blob.height, blob.width = values.shape
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    return str(tmp_path / "mean.binaryproto")


def test_no_options_change_nothing():
    got = run()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, ITEM)


def test_the_mean_is_subtracted_before_the_scale():
    got = run(mean_values=(1.0, 2.0, 3.0), scale=0.5)
    np.testing.assert_array_equal(got, (ITEM - np.array([1, 2, 3])[:, None, None]) * 0.5)
    np.testing.assert_array_equal(run(mean_values=(7.0,)), ITEM.astype(int) - 7)


def test_the_test_crop_is_the_middle_rounded_down():
    np.testing.assert_array_equal(run(crop_size=2), ITEM[:, 1:3, 1:3])
    np.testing.assert_array_equal(run(crop_size=3), ITEM[:, 0:3, 1:4])


def test_the_mean_image_is_cropped_as_the_item_is(tmp_path):
    mean = np.random.default_rng(2).random(ITEM.shape, np.float32)
    path = mean_file(tmp_path, mean)
    got = run(mean_file=path, crop_size=2)
    np.testing.assert_array_equal(got, (ITEM - mean)[:, 1:3, 1:3])


@pytest.mark.parametrize("mirror", [False, True])
def test_draws_are_mirror_row_column(mirror):
    random, draws = CaffeRandom(9), CaffeRandom(9)
    transformer = Transformer(Transform(crop_size=2, mirror=mirror), "TRAIN", random)
    flips = set()
    for _ in range(40):
        flip = mirror and draws.draw() % 2 == 1
        y, x = draws.draw() % 3, draws.draw() % 4
        want = ITEM[:, y : y + 2, x : x + 2]
        np.testing.assert_array_equal(transformer(ITEM, "i"), want[:, :, ::-1] if flip else want)
        flips.add(flip)
    assert flips == ({True, False} if mirror else {False})


def test_testing_mirrors_too_but_draws_no_crop():
    random, draws = CaffeRandom(9), CaffeRandom(9)
    transformer = Transformer(Transform(crop_size=4, mirror=True), "TEST", random)
    for _ in range(8):
        want = ITEM[:, :, 0:4]
        want = want[:, :, ::-1] if draws.draw() % 2 else want
        np.testing.assert_array_equal(transformer(ITEM, "i"), want)


def test_floats_stay_floats():
    item = np.array([[[0.25, -3.5]]], np.float32)
    np.testing.assert_array_equal(run(item, scale=2.0), [[[0.5, -7.0]]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": 5}, "item: 5x4, smaller than crop_size 5"),
        ({"mean_values": (1.0, 2.0)}, "item: 2 mean_value for 3 channels"),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(DataError, match=message):
        run(**options)


def test_a_mean_of_another_size(tmp_path):
    path = mean_file(tmp_path, np.zeros((3, 4, 4), np.float32))
    with pytest.raises(DataError, match=r"an item of \(3, 4, 5\), but the mean .* \(3, 4, 4\)"):
        run(mean_file=path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean_file": "m", "mean_value": [1]}, "mean_file and mean_value"),
        ({"force_color": True, "force_gray": True}, "force_color and force_gray"),
        ({"crop_height": 3}, "of ImageSegData only"),
        ({"scale_factors": [1]}, "of ImageSegData only"),
    ],
)
def test_options_that_do_not_go_together(fields, message):
    with pytest.raises(ValueError, match=message):
        Transform.parse(caffe_pb2.TransformationParameter(**fields))


def test_sizes_of_transformed_items():
    assert Transform().size(4, 5) == (4, 5)
    assert Transform(crop_size=3).size(4, 5) == (3, 3)
    with pytest.raises(ValueError, match="crop_size 9 of an item of 5x4"):
        Transform(crop_size=9).size(4, 5)
