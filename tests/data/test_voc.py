"""Lists and folders in every form VOC comes in, and what is refused, by file and line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.list_file import list_words
from caffe_port.data.voc import VOC_CLASSES, voc_items
from caffe_port.errors import DataError
from tests.goldens_dir import SHAPES


@pytest.fixture
def devkit(tmp_path):
    """A VOC folder with three images, two of them with label maps in both folders."""
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 3)).save(root / "JPEGImages" / f"{name}.jpg")
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        for name in ("a", "b"):
            Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / folder / f"{name}.png")
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("a\n\nb\n")
    (sets / "test.txt").write_text("c\n")
    return root


def ids(items):
    return [item.id for item in items]


def test_the_default_is_val_with_segmentationclass(devkit):
    items = voc_items(devkit)
    assert ids(items) == ["a", "b"]
    assert items[0].image == devkit / "JPEGImages" / "a.jpg"
    assert items[0].label == devkit / "SegmentationClass" / "a.png"
    assert items[1].where.endswith("val.txt: line 3")


def test_the_image_folder_itself_is_accepted(devkit):
    items = voc_items(devkit / "JPEGImages", "val")
    assert [item.label for item in items] == [
        devkit / "SegmentationClass" / f"{name}.png" for name in "ab"
    ]


def test_a_chosen_label_folder_wins_over_the_lists(devkit, tmp_path):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("/JPEGImages/a.jpg /SegmentationClass/a.png\n")
    assert voc_items(devkit, pairs)[0].label == devkit / "SegmentationClass" / "a.png"
    chosen = voc_items(devkit, pairs, devkit / "SegmentationClassAug")
    assert chosen[0].label == devkit / "SegmentationClassAug" / "a.png"


def test_pairs_without_leading_slash_and_image_paths_alone(devkit, tmp_path):
    text = tmp_path / "list.txt"
    text.write_text("JPEGImages/b.jpg SegmentationClassAug/b.png\r\nJPEGImages/a.jpg\n")
    labels = [item.label for item in voc_items(devkit, text)]
    assert labels == [
        devkit / "SegmentationClassAug" / "b.png",
        devkit / "SegmentationClass" / "a.png",
    ]


def test_a_test_list_has_no_labels(devkit):
    assert voc_items(devkit, "test", with_labels=False)[0].label is None
    with pytest.raises(DataError, match=r"test\.txt: line 1: the label map of 'c' is missing"):
        voc_items(devkit, "test")


def test_a_folder_of_images_alone_has_no_labels(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.png")
    (tmp_path / "all.txt").write_text("x\n")
    items = voc_items(tmp_path, tmp_path / "all.txt")
    assert ids(items) == ["x"]
    assert items[0].label is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ngone\n", r"line 2: image 'gone' is missing"),
        ("a b c\n", "line 1: expected an id or 'image label'"),
        ("a\nb\na\n", r"line 3: a is already on .*line 1"),
        ("../VOC2012/JPEGImages/a\n", "neither an id nor an image file"),
        ("..\n", "neither an id nor an image file"),
        ("a\0\n", "expected an id"),
        ("\n \n", "the list is empty"),
        ("JPEGImages/a.jpg SegmentationClass/z.png\n", "label map of 'a' is missing"),
    ],
)
def test_bad_lists_are_refused_by_line(devkit, tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        voc_items(devkit, path)


def test_missing_folders_and_lists_are_named(devkit, tmp_path):
    with pytest.raises(DataError, match="not a folder of images"):
        voc_items(tmp_path / "gone")
    with pytest.raises(DataError, match="not a folder of label maps"):
        voc_items(devkit, "val", tmp_path / "gone")
    with pytest.raises(DataError, match="trainaug: neither a list file nor the name of one"):
        voc_items(devkit, "trainaug")


def test_binary_and_missing_lists_are_refused(tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"ab\xff\xfe")
    with pytest.raises(DataError, match="byte 2: not a text file"):
        list(list_words(tmp_path / "binary.txt"))
    with pytest.raises(DataError, match="cannot be read"):
        list(list_words(tmp_path / "gone.txt"))


@pytest.mark.parametrize(
    ("name", "count"), [("val.txt", 60), ("train.txt", 400), ("val_id.txt", 60)]
)
def test_the_examples_own_lists(name, count):
    items = voc_items(SHAPES, SHAPES / name)
    assert len(items) == count
    assert all(item.label.parent.name == "SegmentationClass" for item in items)


def test_vocs_class_names():
    assert len(VOC_CLASSES) == 21
    assert (VOC_CLASSES[0], VOC_CLASSES[15], VOC_CLASSES[20]) == (
        "background", "person", "tvmonitor",
    )  # fmt: skip


def test_a_list_of_whole_paths_with_a_byte_order_mark(tmp_path):
    folder = tmp_path / "V"
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    (folder / "JPEGImages" / "a.bmp").write_bytes(b"")
    (folder / "SegmentationClass" / "a.png").write_bytes(b"")
    source = tmp_path / "list.txt"
    source.write_bytes(f"\ufeff{folder}/JPEGImages/a.bmp {folder}/SegmentationClass/a.png".encode())
    (item,) = voc_items(folder, source)
    assert (item.image.name, item.label.name) == ("a.bmp", "a.png")
    source.write_bytes(b"\xef\xbb\xbfa\n")
    assert voc_items(folder, source)[0].id == "a"
