"""The one call: its arguments, and what its result says and shows."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

import caffe_port as cp
from caffe_port.crf import parse_parameters
from caffe_port.data.images import voc_palette
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation import CRFFactory
from caffe_port.prediction import Segmentation, Segmenter
from caffe_port.prediction.output import Output
from tests.prediction.nets import HALVING, halving, model_file, photo, write_photos

CRF = "bi_w=4,bi_xy_std=19,bi_rgb_std=13,pos_w=3,pos_xy_std=3,iterations=5"


def test_files_arrays_and_pillow_images_are_the_same(tmp_path):
    segment = cp.Segmenter(model_file(tmp_path))
    (path,) = write_photos(tmp_path / "photos", [(30, 25)])
    expected = segment(path).scores
    for image in (str(path), photo(30, 25), Image.open(path), np.asfortranarray(photo(30, 25))):
        np.testing.assert_array_equal(segment(image).scores, expected)


def test_grey_arrays_have_three_equal_channels(tmp_path):
    segment, grey = Segmenter(halving(tmp_path)), photo(12, 9)[:, :, 0]
    expected = segment(np.repeat(grey[:, :, None], 3, 2)).scores
    np.testing.assert_array_equal(segment(grey).scores, expected)
    np.testing.assert_array_equal(segment(Image.fromarray(grey)).scores, expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 5, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros(3, np.uint8),
     np.zeros((0, 4, 3), np.uint8)],
    ids=["float", "channels first", "a vector", "no pixels"],
)  # fmt: skip
def test_arrays_that_are_not_images(tmp_path, image):
    with pytest.raises(UsageError, match="the image is"):
        Segmenter(halving(tmp_path))(image)


def test_a_missing_image_file(tmp_path):
    with pytest.raises(DataError, match="absent"):
        Segmenter(halving(tmp_path))(tmp_path / "absent.png")


def test_what_a_result_holds():
    scores = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    result = Segmentation(photo(7, 9), scores, list("abcde"))
    p = np.exp(scores.astype(np.float64))
    p /= p.sum(0)
    np.testing.assert_allclose(result.probabilities, p, rtol=1e-5)
    np.testing.assert_allclose(result.confidence, p.max(0), rtol=1e-5)
    np.testing.assert_allclose(result.entropy, -(p * np.log(p)).sum(0) / math.log(5), rtol=1e-4)
    np.testing.assert_array_equal(result.labels, scores.argmax(0))
    assert result.labels.dtype == np.uint8
    shares = [one.share for one in result.found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert {one.name for one in result.found} == set("abcde")


def test_entropy_and_confidence_at_their_ends():
    scores = np.zeros((4, 1, 2), np.float32)
    scores[2, 0, 1] = 1000
    result = Segmentation(np.zeros((1, 2, 3), np.uint8), scores, list("abcd"))
    assert result.entropy[0].tolist() == pytest.approx([1, 0])
    assert result.confidence[0].tolist() == pytest.approx([0.25, 1])
    assert result.labels[0].tolist() == [0, 2]


@pytest.mark.parity
@pytest.mark.parametrize("colours", ["layer", "rgb"])
def test_the_crf_gives_the_labels_of_evaluate(tmp_path, colours):
    net, image = halving(tmp_path), photo(40, 50)
    refined = Segmenter(net, crf=CRF, crf_colours=colours)(image)
    plain = Segmenter(net)(image)
    refiner = CRFFactory(parse_parameters(CRF), colours)(1)
    expected = refiner(plain.scores, np.ascontiguousarray(image[:, :, ::-1]))
    np.testing.assert_array_equal(refined.labels, expected)
    assert (refined.labels != plain.labels).any()
    np.testing.assert_array_equal(refined.scores, plain.scores)
    np.testing.assert_allclose(refined.probabilities.sum(0), 1, rtol=1e-4)
    np.testing.assert_array_equal(refined.confidence, refined.probabilities.max(0))


def data_layer(transform):
    """``HALVING`` whose input is a data layer with these lines in its transform_param."""
    end = HALVING.index('layer { name: "conv"')
    return (
        'name: "halving" layer { name: "data" type: "ImageSegData" top: "data" top: "label" '
        f"transform_param {{ crop_size: 17 {transform} }} "
        'image_data_param { source: "absent.txt" batch_size: 1 } }' + HALVING[end:]
    )


@pytest.mark.parametrize(
    ("transform", "mean", "scale"),
    [
        ("", (104.008, 116.669, 122.675), 1.0),
        ("mean_value: 1 mean_value: 2 mean_value: 3", (1, 2, 3), 1.0),
        ("mean_value: 128 scale: 0.5", (128, 128, 128), 0.5),
    ],
)
def test_the_mean_is_that_of_the_nets_data_layer(tmp_path, transform, mean, scale):
    path = tmp_path / "net.prototxt"
    path.write_text(data_layer(transform))
    shapes = {"data": (1, 3, 17, 17), "label": (1, 1, 17, 17)}
    net = cp.load(path, input_shapes=shapes)
    segment = Segmenter(net)
    assert (segment.mean, segment.scale) == (mean, scale)
    image = photo(17, 17)
    data = (image[:, :, ::-1].astype(np.float32) - np.array(mean, np.float32)) * np.float32(scale)
    expected = net({"data": data.transpose(2, 0, 1)[None]}, keep=["full"])["full"][0]
    np.testing.assert_array_equal(segment(image).scores, expected.detach().numpy())
    assert Segmenter(net, mean=(5, 6, 7)).mean == (5, 6, 7)


def test_a_mean_image_needs_a_mean(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(data_layer('mean_file: "mean.binaryproto"'))
    net = cp.load(path, input_shapes={"data": (1, 3, 17, 17), "label": (1, 1, 17, 17)})
    with pytest.raises(UsageError, match=r"mean\.binaryproto"):
        Segmenter(net)
    assert Segmenter(net, mean=(1, 2, 3)).mean == (1, 2, 3)


def test_names(tmp_path):
    net, path = halving(tmp_path), tmp_path / "names.txt"
    path.write_text("sky\nsea\nsand\nstone\n")
    assert Segmenter(net).names == ["0", "1", "2", "3"]
    assert Segmenter(net, names=path).names == ["sky", "sea", "sand", "stone"]
    assert Segmenter(net, names=["a", "b", "c", "d"]).names == ["a", "b", "c", "d"]
    with pytest.raises(UsageError, match="3 class names for a network of 4"):
        Segmenter(net, names=["a", "b", "c"])


def test_an_overlay_mixes_colours_and_leaves_black_classes_alone():
    scores = np.zeros((3, 10, 400), np.float32)
    scores[1, :, 100:] = 1
    scores[2, :, 300:] = 2
    image = photo(10, 400)
    drawn = Segmentation(image, scores, list("abc")).overlay(opacity=0.25, legend=False)
    np.testing.assert_array_equal(drawn[:, :100], image[:, :100])
    mixed = 0.75 * image[:, 100:300] + 0.25 * voc_palette()[1]
    np.testing.assert_allclose(drawn[:, 100:300], mixed, atol=0.51)


def test_a_small_image_is_enlarged_for_its_legend():
    scores = np.zeros((2, 20, 30), np.float32)
    scores[1, 5:] = 1
    result = Segmentation(photo(20, 30), scores, ["left\nright \x1b[31m", "b"])
    assert result.overlay(legend=False).shape == (220, 330, 3)
    drawn = result.overlay()
    assert drawn.shape[1] == 330
    assert drawn.shape[0] > 220
    below = {tuple(colour) for colour in drawn[220:].reshape(-1, 3).tolist()}
    assert tuple(voc_palette()[1].tolist()) in below


def test_many_classes_wrap_in_the_legend():
    scores = np.eye(100, dtype=np.float32).reshape(100, 10, 10)
    result = Segmentation(photo(10, 10), scores, [f"a rather long name {n}" for n in range(100)])
    drawn = result.overlay()
    assert drawn.shape[1] == 320
    assert drawn.shape[0] > 320 + 50 * 15


def test_a_notebook_shows_the_overlay(tmp_path):
    result = Segmenter(halving(tmp_path), names=["<b>", "c", "d", "e"])(photo(30, 25))
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, result.overlay())
    html = result._repr_html_()
    assert 'src="data:image/png;base64,' in html
    assert "<b>" not in html
    assert all(f"{100 * one.share:.1f} %" in html for one in result.found)


def test_a_prototxt_alone_has_no_weights(tmp_path):
    halving(tmp_path)
    with pytest.raises(UsageError, match="a prototxt holds no weights"):
        Segmenter(tmp_path / "halving.prototxt")


def test_options_that_do_not_exist(tmp_path):
    with pytest.raises(UsageError, match="unknown option flips; options: scales, flip"):
        Segmenter(halving(tmp_path), flips=True)


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((1, 1), (320, 320)), ((5000, 20), (5000, 20)), ((40, 30), (320, 240)),
     ((2, 40000), (1, 16384))],
)  # fmt: skip
def test_overlays_of_extreme_sizes(tmp_path, size, drawn):
    scores = np.zeros((2, *size), np.float32)
    result = Segmentation(np.zeros((*size, 3), np.uint8), scores, ["a", "b"])
    assert result.overlay(legend=False).shape == (*drawn, 3)
    shown = result.overlay()
    assert shown.shape[1] == max(drawn[1], 320)
    output = Output(tmp_path / "out", {})
    output.save("x", "digest", result)
    np.testing.assert_array_equal(output.kept("x", "digest"), result.labels)
    with Image.open(output.paths("x")["overlays"]) as stored:
        assert stored.size == (shown.shape[1], shown.shape[0])
