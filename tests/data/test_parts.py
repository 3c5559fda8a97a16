"""Readers that leave out the items of other processes give the rest unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from caffe_port.data import open_database, write_database
from caffe_port.data.database import DatabaseReader
from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader
from caffe_port.data.image_seg import Transform as SegTransform
from caffe_port.data.list_file import skipping_bad_images
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Transformer
from caffe_port.spec.ops.data import Transform
from tests.goldens_dir import SHAPES

DB = SHAPES / "caffe_run" / "lmdb" / "db"
BATCH, BATCHES = 4, 7


def random(seed):
    made = CaffeRandom()
    made.reseed(seed)
    return made


def pictures(folder, count=6):
    """A list of images of several sizes, with label images."""
    numbers, lines = np.random.default_rng(0), []
    for i in range(count):
        size = (12 + i, 14 + 2 * i)
        Image.fromarray(numbers.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(numbers.integers(0, 5, size, np.uint8)).save(folder / f"l{i}.png")
        lines.append(f"{i}.png l{i}.png")
    (folder / "seg.txt").write_text("\n".join(lines))
    (folder / "list.txt").write_text("\n".join(f"{i}.png {i}" for i in range(count)))


def seg(folder, **options):
    transform = SegTransform(crop_size=9, mirror=True, scale_factors=(0.8, 1, 1.3))
    return ImageSegReader(
        folder / "seg.txt", f"{folder}/", batch_size=BATCH, label_type="PIXEL", phase="TRAIN",
        transform=transform, shuffle=True, rng=random(3), shuffle_rng=random(5), **options,
    )  # fmt: skip


def listed(folder, phase="TRAIN"):
    transformer = Transformer(Transform(crop_size=9, mirror=True), phase, random(3))
    return ImageReader(folder / "list.txt", f"{folder}/", BATCH, transformer, order=random(5))


def resized(folder):
    transformer = Transformer(Transform(mirror=True), "TRAIN", random(3))
    return ImageReader(folder / "list.txt", f"{folder}/", BATCH, transformer, size=(7, 8))


def records(folder):
    return DatabaseReader(DB, BATCH, Transformer(Transform(crop_size=9), "TRAIN", random(3)))


@pytest.mark.parametrize("make", [seg, listed, resized, records, lambda f: listed(f, "TEST")])
def test_a_part_is_that_of_the_whole_batch(make, tmp_path):
    pictures(tmp_path)
    whole, first, last = (make(tmp_path) for _ in range(3))
    first.own, last.own = range(2), range(2, 4)
    for _ in range(BATCHES):
        expected, one, other = (reader.next_batch() for reader in (whole, first, last))
        for blob, left, right in zip(expected, one, other, strict=True):
            assert np.array_equal(blob, np.concatenate([left[:2], right[2:]]))
        assert not one[0][2:].any()
        assert not other[0][:2].any()
        assert whole.places == first.places == last.places


@pytest.mark.parametrize("make", [seg, listed])
def test_files_of_other_items_are_not_opened(make, tmp_path, monkeypatch):
    pictures(tmp_path)
    reader, opened = make(tmp_path), []
    reader.own = range(1)
    wanted = reader.lines.current.image
    original = reader.lines.read
    monkeypatch.setattr(
        reader.lines,
        "read",
        lambda read: opened.append(reader.lines.current.image) or original(read),
    )
    reader.next_batch()
    assert opened == [wanted]


def test_records_of_other_items_are_not_decoded(tmp_path):
    found = list(open_database(DB, "lmdb"))[:4]
    damaged = [(key, record if i < 2 else b"\xff") for i, (key, record) in enumerate(found)]
    write_database(tmp_path / "db", damaged, "lmdb")
    transformer = Transformer(Transform(crop_size=9), "TRAIN", random(3))
    reader = DatabaseReader(tmp_path / "db", BATCH, transformer)
    reader.own = range(2)
    assert reader.next_batch()[0][:2].any()


def test_where_bad_images_are_skipped_all_are_read(tmp_path):
    """Which item is next depends on whether the one before can be read."""
    pictures(tmp_path)
    (tmp_path / "2.png").write_bytes(b"")
    with skipping_bad_images(lambda wrong: None):
        whole, part = seg(tmp_path), seg(tmp_path)
        part.own = range(2)
        for _ in range(BATCHES):
            assert all(map(np.array_equal, whole.next_batch(), part.next_batch()))
            assert whole.places == part.places


def test_without_a_size_all_are_read(tmp_path):
    """The first item of a batch sets its size."""
    pictures(tmp_path, count=1)
    transformer = Transformer(Transform(), "TEST", random(3))
    reader = ImageReader(tmp_path / "list.txt", f"{tmp_path}/", 2, transformer)
    reader.own = range(1, 2)
    assert reader.next_batch()[0][0].any()
