"""ImageReader: lists, sizes, order. Values: test_recorded."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.image import ImageReader, read_image, read_labelled
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import Transformer
from caffe_port.errors import DataError, UsageError
from caffe_port.spec.ops.data import Transform


@pytest.fixture
def folder(tmp_path):
    for number, (height, width) in enumerate([(4, 6), (4, 6), (5, 3)]):
        pixels = np.full((height, width, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"a {number}.png")
    lines = [f"/a {number}.png {number + 5}" for number in range(3)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def reader(folder, batch_size=2, transform=None, **options):
    transformer = Transformer(transform or Transform(), "TEST", CaffeRandom(1))
    return ImageReader(folder / "list.txt", str(folder), batch_size, transformer, **options)


def test_names_may_contain_spaces_and_labels_a_sign(tmp_path):
    (tmp_path / "l").write_text("/a b.png -3\n\n  c.png   7 \n")
    lines = read_labelled(tmp_path / "l")
    assert [(line.image, line.label) for line in lines] == [("/a b.png", -3), ("c.png", 7)]
    assert lines[1].where.endswith("l: line 3")


def test_a_line_without_a_label_has_0_with_a_warning(tmp_path):
    """As real Caffe 1.0's layer gives 0, 3 for this list."""
    (tmp_path / "l").write_text("a.jpg\nb.jpg 3\n")
    with pytest.warns(UserWarning, match=r"1 of 2 lines have no label \(the first is line 1\)"):
        lines = read_labelled(tmp_path / "l")
    assert [(line.image, line.label) for line in lines] == [("a.jpg", 0), ("b.jpg", 3)]


def test_batches_and_the_end_of_the_list(folder):
    images = reader(folder, 4, Transform(crop_size=3))
    data, label = images.next_batch()
    assert (data.shape, label.shape) == ((4, 3, 3, 3), (4,))
    assert label.tolist() == [5, 6, 7, 5]
    assert data[:, 0, 0, 0].tolist() == [0, 10, 20, 0]
    assert images.next_batch()[1].tolist() == [6, 7, 5, 6]


def test_each_batch_may_have_its_own_size(folder):
    images = reader(folder, 1)
    assert [images.next_batch()[0].shape[2:] for _ in range(3)] == [(4, 6), (4, 6), (5, 3)]
    with pytest.raises(DataError, match=r"line 3: /a 2\.png is \(3, 5, 3\), the first one"):
        reader(folder, 3).next_batch()
    assert reader(folder, 3, size=(7, 8)).next_batch()[0].shape == (3, 3, 7, 8)


def test_grey_has_one_channel(folder):
    assert reader(folder, is_color=False).next_batch()[0].shape == (2, 1, 4, 6)
    assert read_image(folder / "a 1.png", (2, 2), False).tolist() == [[[10], [10]]] * 2


def test_reshuffled_at_every_end(folder):
    random, order, want = CaffeRandom(6), [5, 6, 7], []
    images = reader(folder, 3, Transform(crop_size=3), order=CaffeRandom(6))
    for _ in range(4):
        random.shuffle(order)
        want.append(list(order))
    got = [[int(label) for label in images.next_batch()[1]] for _ in range(4)]
    assert got == want
    assert len({tuple(labels) for labels in got}) > 1


def test_skipping(folder):
    images = reader(folder, 1, skip=2)
    assert [int(images.next_batch()[1][0]) for _ in range(3)] == [7, 5, 6]
    with pytest.raises(UsageError, match="rand_skip skips all of its 3 lines"):
        reader(folder, skip=3)


@pytest.mark.parametrize("line", ["/a.png x", "/a.png 1.5", "/a.png 99999999999", "7"])
def test_malformed_lines(tmp_path, line):
    (tmp_path / "l").write_text(f"/b.png 1\n{line}\n")
    with pytest.raises(DataError, match="l: line 2: expected 'image label', found"):
        read_labelled(tmp_path / "l")


def test_a_missing_image_is_named_with_its_line(folder):
    (folder / "a 1.png").unlink()
    with pytest.raises(DataError, match=r"list\.txt: line 2: .*a 1\.png: cannot be read"):
        reader(folder).next_batch()


def test_a_byte_order_mark_and_tabs_in_a_list(tmp_path):
    source = tmp_path / "list.txt"
    source.write_bytes(b"\xef\xbb\xbfa b.jpg\t3\nc.jpg \t 4\n")
    found = [(line.image, line.label) for line in read_labelled(source)]
    assert found == [("a b.jpg", 3), ("c.jpg", 4)]
