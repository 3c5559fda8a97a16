"""Classifier and Detector against the net run by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe_port.pycaffe as caffe
from caffe_port.errors import UsageError
from tests.pycaffe.nets import IMAGES, write


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    net = write(tmp_path / "net.prototxt", IMAGES)
    caffe.Net(net, caffe.TEST).save(tmp_path / "w.caffemodel")
    return net, tmp_path / "w.caffemodel"


def scores(model: tuple[Path, Path], data: np.ndarray) -> np.ndarray:
    """One item after another through a net of its own."""
    net = caffe.Net(model[0], caffe.TEST, weights=model[1])
    found = []
    for item in data:
        net.blobs["data"].data[...] = item
        found.append(net.forward()["prob"][0].copy())
    return np.array(found)


def test_classifying_centres(model: tuple[Path, Path]) -> None:
    classifier = caffe.Classifier(
        *model, image_dims=(12, 10), mean=np.ones(3), raw_scale=2, channel_swap=(2, 1, 0),
        input_scale=0.5,
    )  # fmt: skip
    images = list(np.random.default_rng(0).random((6, 12, 10, 3)).astype(np.float32))
    data = np.array([(i[2:10, 1:9, ::-1].transpose(2, 0, 1) * 2 - 1) * 0.5 for i in images])
    np.testing.assert_allclose(
        classifier.predict(images, oversample=False), scores(model, data), rtol=1e-4
    )


def test_classifying_ten_crops(model: tuple[Path, Path]) -> None:
    classifier = caffe.Classifier(*model, image_dims=(12, 10))
    images = list(np.random.default_rng(0).random((2, 12, 10, 3)).astype(np.float32))
    crops = caffe.io.oversample(images, (8, 8)).transpose(0, 3, 1, 2)
    wanted = scores(model, crops).reshape(2, 10, 5).mean(1)
    np.testing.assert_allclose(classifier.predict(images), wanted, rtol=1e-4)


def test_images_are_scaled_to_the_input_by_default(model: tuple[Path, Path]) -> None:
    classifier = caffe.Classifier(*model)
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    data = caffe.io.resize_image(image, (8, 8)).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(
        classifier.predict([image], oversample=False), scores(model, data), rtol=1e-4
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_detecting_windows(model: tuple[Path, Path], picture: Path) -> None:
    detector = caffe.Detector(*model, mean=np.ones(3), raw_scale=255, channel_swap=(2, 1, 0))
    windows = [(2, 3, 10, 11), (0, 0, 20, 30)]
    found = detector.detect_windows([(picture, windows)])
    image = caffe.io.load_image(picture)
    data = []
    for top, left, bottom, right in windows:
        cut = caffe.io.resize_image(image[top:bottom, left:right], (8, 8))
        data.append(cut[:, :, ::-1].transpose(2, 0, 1) * 255 - 1)
    np.testing.assert_allclose(
        [f["prediction"] for f in found], scores(model, np.array(data)), rtol=1e-3
    )
    assert [f["window"] for f in found] == windows
    assert {f["filename"] for f in found} == {picture}
    assert detector.detect_windows([]) == []


def test_context_around_windows(model: tuple[Path, Path], picture: Path) -> None:
    mean = np.array([10.0, 20, 30])
    detector = caffe.Detector(
        *model, mean=np.tile(mean[:, None, None], (1, 8, 8)), raw_scale=255,
        channel_swap=(2, 1, 0), context_pad=2,
    )  # fmt: skip
    image = caffe.io.load_image(picture)
    # 8 pixels of input, 2 of context per side: the window is widened to twice its size
    inside = detector.crop(image, np.array([6, 6, 9, 9]))
    np.testing.assert_array_equal(inside, caffe.io.resize_image(image[4:12, 4:12], (8, 8)))
    corner = detector.crop(image, np.array([0, 0, 7, 7]))
    assert corner.shape == (8, 8, 3)
    # what lies outside the picture is the mean, in the picture's own order and scale
    np.testing.assert_allclose(corner[0, 0], mean[::-1] / 255, rtol=1e-6)
    np.testing.assert_allclose(corner[:2].reshape(-1, 3), np.tile(mean[::-1] / 255, (16, 1)))


def test_selective_search_is_refused_with_a_reason(model: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match=r"MATLAB.*call detect_windows"):
        caffe.Detector(*model).detect_selective_search(["a.jpg"])
