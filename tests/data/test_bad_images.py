"""Images that are missing or broken: named, or skipped and counted where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader, Transform
from caffe_port.data.images import write_labels
from caffe_port.data.list_file import SkippedImages, skipping_bad_images
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Transformer
from caffe_port.errors import DataError
from caffe_port.spec.ops.data import Transform as ImageTransform

GOOD = ("a", "d", "e")


@pytest.fixture
def folder(tmp_path):
    """Images a to e: b is missing, c is cut off, and d's label has another size in list odd."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
    for name, image in zip("abcde", pixels, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_label.png", image[:, :, 0] % 21)
    write_labels(tmp_path / "odd_label.png", np.zeros((6, 8), np.uint8))
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:90])
    lists = {"all": "abcde", "good": GOOD, "bad": "bc"}
    for name, ids in lists.items():
        pairs = "".join(f"/{id}.png /{id}_label.png\n" for id in ids)
        (tmp_path / f"{name}.txt").write_text(pairs)
        (tmp_path / f"{name}_cls.txt").write_text("".join(f"/{i}.png {ord(i)}\n" for i in ids))
    (tmp_path / "odd.txt").write_text("/a.png /a_label.png\n/d.png /odd_label.png\n")
    return tmp_path


def seg(folder, name, *, crop=True, shuffle=False):
    transform = Transform(crop_size=5 * crop, mirror=True, scale_factors=(0.75, 1.0) * crop)
    return ImageSegReader(
        folder / f"{name}.txt", str(folder), batch_size=4, label_type="PIXEL", phase="TRAIN",
        transform=transform, rng=CaffeRandom(3), shuffle=shuffle, shuffle_rng=CaffeRandom(4),
    )  # fmt: skip


def classes(folder, name):
    transformer = Transformer(ImageTransform(mirror=True), "TRAIN", CaffeRandom(3))
    return ImageReader(folder / f"{name}_cls.txt", str(folder), 4, transformer)


@pytest.mark.parametrize("reader", [seg, classes])
def test_a_bad_image_is_named_with_its_line(folder, reader):
    with pytest.raises(DataError, match=r"all\w*\.txt: line 2: .*/b\.png: cannot be read"):
        reader(folder, "all").next_batch()


@pytest.mark.parametrize("reader", [seg, classes])
def test_skipped_they_change_nothing_for_the_others(folder, reader):
    """Crops, flips and factors are those of the list without them: they draw nothing."""
    messages = []
    with skipping_bad_images(messages.append) as passed:
        mine = reader(folder, "all")
    theirs = reader(folder, "good")
    for _ in range(3):
        for one, other in zip(mine.next_batch(), theirs.next_batch(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert ["line 2" in messages[0], "line 3" in messages[1], len(messages)] == [True, True, 2]
    assert list(passed.times.values()) == [4, 4]
    assert passed.summary() == "2 bad images were skipped, 8 times in all."


def test_without_a_crop_the_first_good_image_sets_the_size(folder):
    (folder / "a.png").unlink()
    with skipping_bad_images(lambda wrong: None):
        reader = seg(folder, "all", crop=False)
    assert reader.shapes()[0] == (4, 3, 8, 6)
    assert reader.next_batch()[0].shape == (4, 3, 8, 6)


def test_a_label_of_another_size_is_skipped_too(folder):
    messages = []
    with skipping_bad_images(messages.append):
        seg(folder, "odd").next_batch()
    assert "odd.txt: line 2: image /d.png is 6x8 but its label /odd_label.png is 8x6" in messages[0]


def test_shuffled_every_good_image_comes_as_often(folder):
    with skipping_bad_images(lambda wrong: None) as passed:
        reader = seg(folder, "all", crop=False, shuffle=True)
    found = [
        np.sort(item, axis=None).tobytes() for _ in range(15) for item in reader.next_batch()[1]
    ]
    assert sorted(found.count(kind) for kind in set(found)) == [20, 20, 20]
    assert set(passed.times.values()) <= {19, 20, 21}


@pytest.mark.parametrize("reader", [seg, classes])
def test_a_list_without_a_good_image_ends_the_run(folder, reader):
    with (
        skipping_bad_images(lambda wrong: None),
        pytest.raises(DataError, match=r"bad\w*\.txt: none of its 2 images can be used"),
    ):
        reader(folder, "bad").next_batch()


def test_only_lists_opened_inside_skip(folder):
    with skipping_bad_images(lambda wrong: None):
        pass
    with pytest.raises(DataError, match="line 2"):
        seg(folder, "all").next_batch()


def test_each_is_reported_once():
    messages = []
    passed = SkippedImages(messages.append)
    for wrong in ("x", "y", "x"):
        passed.note(wrong)
    assert messages == ["x", "y"]
