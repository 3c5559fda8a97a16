"""Windows: the file, which are drawn, and how they are fitted; by hand and with OpenCV's resize.

There is no recording of this layer.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from caffe_port.data.list_file import skipping_bad_images
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.window_file import WindowReader, fit_window, read_windows
from caffe_port.errors import DataError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops.data import WindowData

FILE = """# 0
/a.png
3 20 24
3
7 0.9 2 3 9 12
7 0.2 0 0 7 7
2 0.6 4 4 5 15
# 1
/b.png 3 20 20 1
5 0.5 10 10 17 17
"""


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(3)
    for name, width in (("a", 24), ("b", 20)):
        pixels = random.integers(0, 256, (20, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "windows.txt").write_text(FILE)
    return tmp_path


def options(folder, crop=12, mirror=False, **fields):
    layer = caffe_pb2.LayerParameter(name="w", type="WindowData", top=["data", "label"])
    layer.transform_param.crop_size, layer.transform_param.mirror = crop, mirror
    layer.transform_param.mean_value.extend(fields.pop("mean", []))
    layer.window_data_param.source = str(folder / "windows.txt")
    layer.window_data_param.root_folder = str(folder)
    layer.window_data_param.batch_size = fields.pop("batch_size", 4)
    for name, value in fields.items():
        setattr(layer.window_data_param, name, value)
    return WindowData.parse(layer)


def bgr(folder, name):
    return cv2.imread(str(folder / name))


def test_overlaps_sort_windows_into_objects_and_background(folder):
    objects, background = read_windows(folder / "windows.txt", str(folder), 0.6, 0.5)
    assert [(w.label, w.box) for w in objects] == [(7, (2, 3, 9, 12)), (2, (4, 4, 5, 15))]
    assert [(w.label, w.box) for w in background] == [(0, (0, 0, 7, 7))]
    assert objects[0].image == f"{folder}/a.png"
    objects, _ = read_windows(folder / "windows.txt", "", 0.5, 0.5)
    assert objects[2].image == "/b.png"


def test_background_comes_first_and_draws_are_window_then_flip(folder):
    reader = WindowReader(
        options(folder, mirror=True, batch_size=5, fg_fraction=0.5), None, CaffeRandom(4)
    )
    random, want = CaffeRandom(4), []
    objects, background = read_windows(folder / "windows.txt", str(folder), 0.5, 0.5)
    for kind in [background] * 3 + [objects] * 2:
        window = kind[random.draw() % len(kind)]
        x1, y1, x2, y2 = window.box
        part = cv2.resize(cv2.imread(window.image)[y1 : y2 + 1, x1 : x2 + 1], (12, 12))
        want.append((window.label, part[:, ::-1] if random.draw() % 2 else part))
    data, label = reader.next_batch()
    assert label.tolist() == [float(number) for number, _ in want]
    np.testing.assert_allclose(
        data, np.array([part for _, part in want]).transpose(0, 3, 1, 2), atol=1
    )


def only(folder, box, **fields):
    """The crop of the one background window there is."""
    x1, y1, x2, y2 = box
    (folder / "windows.txt").write_text(
        f"# 0\n/b.png 3 20 20 2\n1 1 0 0 5 5\n1 0 {x1} {y1} {x2} {y2}\n"
    )
    reader = WindowReader(
        options(folder, batch_size=1, fg_fraction=0, **fields), None, CaffeRandom(1)
    )
    return reader.next_batch()[0][0]


def warped(folder, rows, columns, size):
    return cv2.resize(bgr(folder, "b.png")[slice(*rows), slice(*columns)], size).transpose(2, 0, 1)


def test_context_inside_the_image(folder):
    # 8 pixels and 2 of 12 on each side: 12 / 8 times 4 around the centre 10, 4 to 16
    got = only(folder, (6, 6, 13, 13), context_pad=2)
    np.testing.assert_allclose(got, warped(folder, (4, 17), (4, 17), (12, 12)), atol=1)


def test_context_beyond_the_corner_is_zero(folder):
    # -2 to 10: 2 of 13 pixels are missing, 2 * 12 / 13 is 2, 11 * 12 / 13 is 10
    got = only(folder, (0, 0, 7, 7), context_pad=2, mean=[9, 9, 9])
    assert not got[:, :2].any()
    assert not got[:, :, :2].any()
    want = warped(folder, (0, 11), (0, 11), (10, 10)).astype(int) - 9
    np.testing.assert_allclose(got[:, 2:, 2:], want, atol=1)


def test_padding_is_mirrored_too(folder):
    layer = options(folder, context_pad=2)
    box = (0, 0, 7, 7)
    assert fit_window(layer, box, (20, 20), False) == ((10, 10), (2, 2), (0, 0, 10, 10))
    assert fit_window(layer, box, (20, 20), True) == ((10, 10), (2, 0), (0, 0, 10, 10))


def test_a_square_has_the_longer_side(folder):
    # 2 x 12 around (6, 8): 0 to 12 both ways, with 2 to 14 down
    got = only(folder, (5, 2, 6, 13), crop_mode="square")
    np.testing.assert_allclose(got, warped(folder, (2, 15), (0, 13), (12, 12)), atol=1)


def test_the_scale_is_the_layers_own(folder):
    plain, scaled = only(folder, (2, 2, 9, 9)), only(folder, (2, 2, 9, 9), scale=0.5)
    np.testing.assert_array_equal(scaled, plain * 0.5)


def test_the_middle_of_a_mean_image_is_subtracted(folder):
    mean = np.random.default_rng(8).random((3, 16, 16), np.float32)
    layer = options(folder, batch_size=1, fg_fraction=0)
    with_mean = WindowReader(layer, mean, CaffeRandom(1)).next_batch()[0]
    without = WindowReader(layer, None, CaffeRandom(1)).next_batch()[0]
    np.testing.assert_allclose(with_mean[0], without[0] - mean[:, 2:14, 2:14], atol=1e-5)
    with pytest.raises(DataError, match=r"a mean of \(3, 8, 8\) for crops of \(3, 12, 12\)"):
        WindowReader(layer, mean[:, :8, :8], CaffeRandom(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no object window"),
        ("x 0", "line 1: expected '# 0', found 'x'"),
        ("# 1 /a.png", "line 1: image index 1; expected 0"),
        ("# 0\n", "line 1: the file ends before a path"),
        ("# 0\n/a.png 1 9 9 0", "line 2: expected images of 3 channels"),
        ("# 0\n/a.png 3 9 x 0", "line 2: width is 'x'; expected a whole number"),
        ("# 0\n/a.png 3 9 1_0 0", "line 2: width is '1_0'; expected a whole number"),
        ("# 0\n/a.png 3 9 9 1\n1 high 0 0 1 1", "line 3: overlap is 'high'; expected a number"),
        ("# 0\n/a.png 3 9 9 1\n0 1 0 0 1 1", "line 3: an object of class 0; expected 1 or more"),
        ("# 0\n/a.png 3 9 9 2\n1 1 0 0 1 1", "line 3: the file ends before class"),
        ("# 0\n/a.png 3 9 9 1\n1 1 0 0 1 99999999999", "y2 is '99999999999'"),
        ("# 0\n/a.png 3 9 9 1\n1 1 0 0 1 1", "there is no background window"),
        ("# 0\n/a.png 3 9 9 1\n1 0 0 0 1 1", "there is no object window"),
        ("# 0\n/a.png 3 9 9 1\n1 1 5 5 4 9", r"line 3: window \[5, 5, 4, 9\] ends before"),
        ("# " * 40000, "line 1: a line too long"),
    ],
)
def test_malformed_files(folder, text, message):
    (folder / "windows.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_windows(folder / "windows.txt", "", 0.5, 0.5)


def test_missing_files(folder):
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        read_windows(folder / "gone.txt", "", 0.5, 0.5)
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"windows\.txt: image 0: .*a\.png: cannot be read"):
        WindowReader(options(folder), None, CaffeRandom(1)).next_batch()


def test_windows_of_bad_images_are_skipped(folder):
    """The next window of their kind stands in; the draws are those of the whole file."""
    (folder / "a.png").unlink()
    with open(folder / "windows.txt", "a") as file:
        file.write("# 2\n/b.png 3 20 20 1\n0 0.1 0 0 7 7\n")
    layer, messages = options(folder, batch_size=6, mirror=True, fg_threshold=0.5), []
    with skipping_bad_images(messages.append):
        reader = WindowReader(layer, None, CaffeRandom(1))
    random, want = CaffeRandom(1), []
    for _ in range(6):
        random.draw()
        want.append(random.draw() % 2)
    data, label = reader.next_batch()
    assert label.tolist() == [0] * 5 + [5]
    part = cv2.resize(bgr(folder, "b.png")[:8, :8], (12, 12)).transpose(2, 0, 1)
    for item, mirrored in zip(data[:5], want, strict=False):
        np.testing.assert_allclose(item[:, :, ::-1] if mirrored else item, part, atol=1)
    assert len(messages) == 1
    assert "windows.txt: image 0: " in messages[0]


def test_windows_of_bad_images_alone_end_the_run(folder):
    (folder / "a.png").unlink()
    with skipping_bad_images(lambda wrong: None):
        reader = WindowReader(options(folder), None, CaffeRandom(1))
    with pytest.raises(DataError, match=r"windows\.txt: none of 1 windows can be used"):
        reader.next_batch()


@pytest.mark.parametrize(
    ("box", "pad"),
    [((0, 0, 20, 5), 0), ((-1, 0, 5, 5), 0), ((25, 25, 30, 30), 0), ((25, 25, 30, 30), 2),
     ((-(2**31), 0, 2**31 - 1, 9), 2), ((2**31 - 9, 0, 2**31 - 1, 9), 2)],
)  # fmt: skip
def test_windows_outside_of_the_image(folder, box, pad):
    with pytest.raises(DataError, match=r"window \(.*\) (is not inside|leaves no pixel)"):
        only(folder, box, context_pad=pad)


def test_windows_partly_outside_are_cut_where_there_is_context(folder):
    assert only(folder, (-1, 0, 5, 5), context_pad=2).any()
