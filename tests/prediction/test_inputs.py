"""Which images a command line names, and what their results are called."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.prediction.inputs import Inputs, check_inputs, is_input
from tests.prediction.nets import photo, write_photos


def names(*words, **options):
    return [image.name for image in Inputs([str(word) for word in words], **options)]


def test_a_folder_is_searched_with_its_subfolders_in_order(tmp_path):
    write_photos(tmp_path / "b", [(5, 6), (5, 7)])
    write_photos(tmp_path / "a" / "deep", [(5, 6)], ".JPG")
    write_photos(tmp_path / ".hidden", [(5, 6)])
    write_photos(tmp_path / "out" / "overlays", [(5, 6)])
    (tmp_path / "b" / "notes.txt").write_text("no image")
    found = names(tmp_path, without=tmp_path / "out")
    assert found == ["a/deep/photo0", "b/photo0", "b/photo1"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".ppm", ".webp", ".gif"])
def test_every_format_that_data_reads(tmp_path, suffix):
    write_photos(tmp_path / "photos", [(9, 12)], suffix)
    (image,) = Inputs([str(tmp_path / "photos")])
    assert image.error == ""
    assert image.pixels.shape == (9, 12, 3)


def test_pixels_are_blue_first_and_the_digest_is_that_of_the_file(tmp_path):
    (path,) = write_photos(tmp_path, [(9, 12)])
    (image,) = Inputs([str(path)])
    np.testing.assert_array_equal(image.pixels, photo(9, 12)[:, :, ::-1])
    Image.fromarray(photo(9, 12)).save(path, compress_level=1)
    (again,) = Inputs([str(path)])
    assert again.digest != image.digest


def test_patterns(tmp_path):
    write_photos(tmp_path / "one", [(5, 6), (5, 6)])
    write_photos(tmp_path / "two", [(5, 6)], ".jpg")
    (tmp_path / "one" / "text.md").write_text("no image")
    assert names(tmp_path / "one" / "*") == ["photo0", "photo1"]
    assert names(tmp_path / "**" / "*.jpg") == ["photo0"]
    assert names(tmp_path / "one" / "photo[1-9].png") == ["photo1"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    (path,) = write_photos(tmp_path, [(5, 6)])
    os.rename(path, tmp_path / "photo[1].png")
    assert names(tmp_path / "photo[1].png") == ["photo[1]"]


def test_a_list_with_everything_that_lists_have(tmp_path, monkeypatch):
    write_photos(tmp_path / "voc" / "JPEGImages", [(5, 6), (5, 6), (5, 6)])
    write_photos(tmp_path / "two words", [(5, 6)], ".bmp")
    write_photos(tmp_path / "here", [(5, 6)], ".tif")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "voc" / "list.txt"
    whole = tmp_path / "voc" / "JPEGImages" / "photo2.png"
    path.write_text(
        "\ufeffJPEGImages/photo0.png\r\n\n"
        "/JPEGImages/photo1.png /SegmentationClass/photo1.png\n"
        f"{whole}\t7\n../two words/photo0.bmp\nhere/photo0.tif\n",
        encoding="utf-8",
    )
    assert names(path) == ["photo0", "photo1", "photo2", "photo0_2", "photo0_3"]


def test_a_list_on_standard_input(tmp_path, monkeypatch):
    paths = write_photos(tmp_path, [(5, 6), (5, 6)])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, reversed(paths)))))
    assert names("-") == ["photo1", "photo0"]


def test_a_file_named_twice_is_taken_once(tmp_path):
    paths = write_photos(tmp_path, [(5, 6), (5, 6)])
    assert names(paths[1], tmp_path, tmp_path / "*.png") == ["photo1", "photo0"]


def test_images_of_one_name_get_numbers(tmp_path):
    for name, suffix in (("a", ".png"), ("b", ".png"), ("b", ".jpg")):
        write_photos(tmp_path / name, [(5, 6)], suffix)
    files = [tmp_path / "a" / "photo0.png", *sorted((tmp_path / "b").iterdir())]
    assert names(*files) == ["photo0", "photo0_2", "photo0_3"]


def test_bad_files_are_images_with_an_error(tmp_path):
    write_photos(tmp_path, [(5, 6)])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "list.txt").write_text("photo0.png\nmissing.png\n")
    words = [tmp_path / "broken.png", tmp_path / "absent.jpg", tmp_path / "list.txt"]
    found = list(Inputs([str(word) for word in words]))
    assert [bool(image.error) for image in found] == [True, True, False, True]
    for image, name in zip(found, ["broken.png", "absent.jpg", "", "missing.png"], strict=True):
        assert name in image.error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "*.png", "no image matches"),
        (lambda folder: folder, "hold no image"),
        (lambda folder: folder / "empty.txt", "the list is empty"),
        (lambda folder: folder / "absent.txt", "absent.txt"),
    ],
)
def test_inputs_without_files(tmp_path, make, message):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match=message):
        Inputs([str(make(tmp_path))])


def test_weights_are_distinguished_from_inputs(tmp_path):
    (path,) = write_photos(tmp_path, [(5, 6)])
    for word in ("-", "camera:0", "a/*.jpg", "film.mp4", "list.txt", str(tmp_path), str(path)):
        assert is_input(word)
    for word in ("net.caffemodel", "net.caffemodel.h5", "net.pt", "net.safetensors"):
        assert not is_input(word)


def test_no_input():
    with pytest.raises(UsageError, match="no image is given"):
        check_inputs([])
    with pytest.raises(CaffePortError, match="named twice"):
        check_inputs(["-", "-"])
