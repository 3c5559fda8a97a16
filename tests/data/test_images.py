"""Images and label maps: what is read, what is refused, what is written."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.images import (
    read_bgr,
    read_grey,
    read_labels,
    read_note,
    read_rgb,
    voc_palette,
    write_labels,
)
from caffe_port.errors import DataError
from tests.goldens_dir import FULL_SHAPES, SHAPES, VOC_SAMPLE


def png_of_size(width, height):
    """A PNG whose header claims a size its content does not have."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(b"\0" * 10))
    return b"\x89PNG\r\n\x1a\n" + header + content + chunk(b"IEND", b"")


def mode_of(path):
    with Image.open(path) as image:
        return image.mode


def test_palette_begins_and_ends_as_vocs():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for index, colour in expected.items():
        assert tuple(palette[index]) == colour
    assert tuple(palette[255]) == (224, 224, 192)


def test_palette_is_that_of_the_examples_masks():
    with Image.open(SHAPES / "SegmentationClass" / "shape_val_0000.png") as mask:
        stored = np.array(mask.getpalette(), np.uint8).reshape(-1, 3)
    assert np.array_equal(stored, voc_palette()[: len(stored)])


@pytest.mark.skipif(FULL_SHAPES is None, reason="the index masks are not next to the repository")
def test_palette_masks_hold_the_same_indices_as_the_grey_ones():
    files = sorted((SHAPES / "SegmentationClass").glob("*.png"))
    assert len(files) == 460
    for file in files:
        grey = FULL_SHAPES / "SegmentationClassAug" / file.name
        assert (mode_of(file), mode_of(grey)) == ("P", "L")
        assert np.array_equal(read_labels(file), read_labels(grey))


@pytest.mark.skipif(VOC_SAMPLE is None, reason="the photographs are not next to the repository")
def test_masks_of_the_photographs_agree_in_both_forms():
    for file in sorted((VOC_SAMPLE / "SegmentationClass").glob("*.png")):
        grey = VOC_SAMPLE / "SegmentationClassAug" / file.name
        assert np.array_equal(read_labels(file), read_labels(grey))


def test_a_palette_of_few_colours_is_read_as_indices(tmp_path):
    labels = np.array([[0, 1], [3, 2]], np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(list(range(200, 212)))
    image.save(tmp_path / "four.png", bits=2)
    assert np.array_equal(read_labels(tmp_path / "four.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_label_maps_of_colours_are_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(DataError, match=r"mask\.png.*mode"):
        read_labels(path)


def test_channels_come_in_the_order_asked_for(tmp_path):
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[..., 0], colours[..., 2] = 200, 10
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png")[0, 0].tolist() == [200, 0, 10]
    assert read_bgr(tmp_path / "a.png")[0, 0].tolist() == [10, 0, 200]
    assert read_bgr(tmp_path / "a.png").flags.c_contiguous


def test_an_exif_orientation_is_ignored(tmp_path):
    image = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").shape == (4, 6, 3)


def test_grey_of_a_jpeg_is_its_luminance():
    path = SHAPES / "JPEGImages" / "shape_val_0000.jpg"
    grey, rgb = read_grey(path), read_rgb(path).astype(float)
    expected = rgb @ [0.299, 0.587, 0.114]
    assert grey.shape == rgb.shape[:2]
    assert np.abs(grey - expected).mean() < 1


@pytest.mark.parametrize("reader", [read_rgb, read_labels, read_grey])
def test_missing_empty_and_foreign_files_are_named(tmp_path, reader):
    for name, content in (("empty.png", b""), ("text.png", b"hello"), ("half.png", b"\x89PNG\r\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            reader(tmp_path / name)
    with pytest.raises(DataError, match=r"gone\.png.*No such file"):
        reader(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        reader(tmp_path)


@pytest.mark.filterwarnings("ignore")  # so that it is not pytest that turns warnings into errors
def test_images_too_large_to_decode_are_refused(tmp_path):
    for side in (12_000, 60_000):
        (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
        with pytest.raises(DataError, match=r"bomb\.png.*too large"):
            read_rgb(tmp_path / "bomb.png")


def test_every_truncation_of_a_label_map_is_refused_or_read_whole(tmp_path):
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    write_labels(tmp_path / "whole.png", labels)
    content = (tmp_path / "whole.png").read_bytes()
    refused = 0
    for length in range(len(content)):
        (tmp_path / "cut.png").write_bytes(content[:length])
        try:
            assert np.array_equal(read_labels(tmp_path / "cut.png"), labels)
        except DataError:
            refused += 1
    assert refused > len(content) - 25  # only checksums and the end may be missing


def test_damaged_jpegs_raise_only_dataerror(tmp_path):
    content = (SHAPES / "JPEGImages" / "shape_val_0001.jpg").read_bytes()
    random = np.random.default_rng(3)
    outcomes = set()
    for _ in range(150):
        broken = bytearray(content)
        for place in random.integers(0, len(content), 12):
            broken[place] = random.integers(0, 256)
        (tmp_path / "broken.jpg").write_bytes(bytes(broken))
        try:
            outcomes.add(read_rgb(tmp_path / "broken.jpg").ndim)
        except DataError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_written_labels_come_back_with_vocs_palette_and_their_note(tmp_path):
    labels = np.array([[0, 20, 255], [1, 2, 3]], np.uint8)
    path = tmp_path / "deep" / "er" / "a.png"
    write_labels(path, labels, note="from here")
    assert np.array_equal(read_labels(path), labels)
    assert np.array_equal(read_rgb(path), voc_palette()[labels])
    assert read_note(path) == "from here"
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_only_index_arrays_are_written(tmp_path):
    for wrong in (np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            write_labels(tmp_path / "a.png", wrong)
    assert not (tmp_path / "a.png").exists()


def test_notes_of_missing_broken_and_foreign_files(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, "PNG")
    (tmp_path / "plain.png").write_bytes(stream.getvalue())
    assert read_note(tmp_path / "gone.png") is None
    assert read_note(tmp_path / "broken.png") is None
    assert read_note(tmp_path / "plain.png") == ""


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(tmp_path):
    Image.new("L", (2000, 2000)).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_grey(tmp_path / "a.jpg").shape == (2000, 2000)
    start = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:start] + data[start:-2] * 200 + data[-2:])
    with pytest.raises(DataError, match="205 scans of 4000000 pixels"):
        read_grey(tmp_path / "a.jpg")


def test_other_segments_of_a_jpeg_are_not_counted(tmp_path):
    Image.new("L", (2000, 2000)).save(tmp_path / "a.jpg", progressive=True)
    data, path = (tmp_path / "a.jpg").read_bytes(), tmp_path / "b.jpg"
    film = b"\xff\xda" * 500
    note = b"\xff\xe1" + (len(film) + 2).to_bytes(2, "big") + film
    path.write_bytes(data[:2] + note + data[2:] + film)
    assert read_grey(path).shape == (2000, 2000)
    # neither a marker without a length nor too many of them hide what would be decoded
    scan = data[data.rindex(b"\xff\xda") : -2]
    hidden = data[:-2] + b"\xff\x01\x7f\xff" + scan * 200 + data[-2:]
    for content in (hidden, data[:-2] + b"\xff\xfe\0\2" * 10_000 + scan * 200 + data[-2:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="scans of 4000000 pixels"):
            read_grey(path)
