"""Images, label maps and lists as users have them: formats, spellings, EXIF, sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from caffe_port.cli import main
from caffe_port.data.decoding import decoding, upright
from caffe_port.data.images import decode_image, exif_orientation, read_grey, read_rgb, stored_size
from caffe_port.data.voc import voc_items
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import Network, Options
from tests.evaluation.standins import Brightest, evaluate

TRUTH = np.kron(np.array([[0, 1], [2, 0]], np.uint8), np.ones((8, 8), np.uint8))
COLOURS = np.eye(3, dtype=np.uint8)[:, ::-1][TRUTH] * 255
OPTIONS = Options((16, 16), (0.0, 0.0, 0.0))
LOSSLESS = {"webp": {"lossless": True}}
EXIF = 0x0112


@dataclass(frozen=True)
class AboveHalf(Brightest):
    """Class 1 where blue is at least 128."""

    def __call__(self):
        return Network(lambda x: np.concatenate([np.full_like(x[:, :1], 127.5), x[:, :1]], axis=1))


def folder(root, image="a.png", label="a.png", colours=COLOURS, truth=TRUTH, **saved):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "out"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(root / "JPEGImages" / image, **saved)
    Image.fromarray(truth).save(root / "SegmentationClass" / label)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    return root


@pytest.mark.parametrize("name", ["a.bmp", "a.tif", "a.ppm", "a.webp", "a.Jpg", "a.JPEG", "a.Png"])
def test_formats_and_spellings_of_images(tmp_path, name):
    kind = name.split(".")[1].lower()
    items = voc_items(folder(tmp_path, name, **LOSSLESS.get(kind, {})))
    assert items[0].image.name == name
    result = evaluate(items, Brightest(), tmp_path / "result", OPTIONS)
    assert result.before.mean_iou() == 1


@pytest.mark.parametrize("name", ["a.bmp", "a.tif", "a.PNG", "a.Tiff", "a.pgm", "a.gif"])
def test_formats_and_spellings_of_label_maps(tmp_path, name):
    items = voc_items(folder(tmp_path, label=name))
    result = evaluate(items, Brightest(), tmp_path / "result", OPTIONS)
    assert result.before.mean_iou() == 1
    Image.fromarray(TRUTH).save(tmp_path / "out" / "a.png")
    arguments = ["score", str(tmp_path / "out"), "--images", str(tmp_path), "--classes", "3"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "100.000" in done.output


def test_lists_with_a_bom_tabs_and_absolute_paths(tmp_path):
    root = folder(tmp_path / "voc")
    other = folder(tmp_path / "other", colours=COLOURS[::-1], truth=TRUTH[::-1])
    image, label = other / "JPEGImages" / "a.png", other / "SegmentationClass" / "a.png"
    for text in (f"\ufeff{image}\t{label}\n", f"{image}   {label}\r\n"):
        (tmp_path / "list.txt").write_bytes(text.encode())
        (item,) = voc_items(root, tmp_path / "list.txt")
        assert (item.image, item.label) == (image, label)
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbf/JPEGImages/a.png\t/SegmentationClass/a.png\n"
    )
    (item,) = voc_items(root, tmp_path / "list.txt")
    assert item.image == root / "JPEGImages" / "a.png"


def test_a_folder_of_images_without_a_list(tmp_path):
    for name in ("b.Jpg", "a.png", "c.webp"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    assert [item.image.name for item in voc_items(tmp_path)] == ["a.png", "b.Jpg", "c.webp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder and no ImageSets; name a list"):
        voc_items(tmp_path / "empty")


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_images_of_16_bits_keep_the_high_byte(tmp_path, suffix):
    truth = TRUTH == 1
    grey = np.where(truth, 0x8000, 0x7FFF).astype(np.uint16)
    root = folder(tmp_path, f"a.{suffix}", colours=grey, truth=truth.astype(np.uint8))
    assert set(np.unique(read_rgb(root / "JPEGImages" / f"a.{suffix}"))) == {0x7F, 0x80}
    result = evaluate(voc_items(root), AboveHalf(), tmp_path / "result", OPTIONS)
    assert result.before.mean_iou() == 1


def oriented(path, number, pixels=COLOURS[:8]):
    exif = Image.Exif()
    exif[EXIF] = number
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_orientations(tmp_path, number, suffix):
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = oriented(tmp_path / f"a.{suffix}", number, pixels)
    assert exif_orientation(path) == number
    with Image.open(path) as image:
        image.load()
        turned = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    stored = read_rgb(path)
    assert stored.shape[:2] == stored_size(path) == (5, 7)
    assert np.array_equal(upright(stored, number), turned)
    grey = read_grey(path)
    with decoding(exif="apply"):
        assert np.array_equal(read_rgb(path), turned)
        assert np.array_equal(decode_image(path.read_bytes(), "a", True), turned[:, :, ::-1])
        assert np.array_equal(read_grey(path), upright(grey, number))
        assert stored_size(path) == turned.shape[:2]
    assert np.array_equal(read_rgb(path), stored)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_tiffs_orientation_is_always_applied_as_opencv_does(tmp_path, number):
    pixels = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = oriented(tmp_path / "a.tif", number, pixels)
    for exif in ("ignore", "apply"):
        with decoding(exif=exif):
            assert np.array_equal(read_rgb(path), upright(pixels, number))
            assert stored_size(path) == read_rgb(path).shape[:2]


def test_a_size_mismatch_names_exif(tmp_path):
    root = folder(tmp_path, truth=TRUTH[:8].T[:, ::-1].copy())  # upright: turned clockwise
    oriented(root / "JPEGImages" / "a.png", 6)
    items = voc_items(root)
    with pytest.raises(DataError, match=r"has the EXIF orientation 6, which is ignored: .*'apply'"):
        evaluate(items, Brightest(), tmp_path / "result", OPTIONS)
    with decoding(exif="apply"):
        result = evaluate(items, Brightest(), tmp_path / "turned", OPTIONS)
        again = evaluate(items, Brightest(), tmp_path / "turned", OPTIONS)
    assert result.before.mean_iou() == 1
    assert again.outcomes[0].reused
    with pytest.raises(UsageError, match="exif"):  # label maps of images that were turned
        evaluate(items, Brightest(), tmp_path / "turned", OPTIONS)
    Image.fromarray(TRUTH[:8]).save(root / "out" / "a.png")
    arguments = ["score", str(root / "out"), "--images", str(root), "--classes", "3"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "EXIF orientation 6, which is ignored: the sizes agree with --exif apply" in done.output
    Image.fromarray(TRUTH[:9]).save(root / "out" / "a.png")  # another size altogether
    Image.fromarray(TRUTH).save(root / "SegmentationClass" / "a.png")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "EXIF" not in done.output


def test_the_largest_image_can_be_set(tmp_path, monkeypatch):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    with decoding(max_pixels=255), pytest.raises(DataError, match=r"expected at most 255 pixels"):
        read_rgb(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit; an error from 200
    with decoding(max_pixels=256):
        assert read_rgb(tmp_path / "a.png").shape == (16, 16, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UsageError, match="at least 1"), decoding(max_pixels=0):
        pass


def test_the_largest_image_in_the_command(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(TRUTH).save(root / "out" / "a.png")
    arguments = ["score", str(root / "out"), "--images", str(root), "--classes", "3"]
    done = CliRunner().invoke(main, [*arguments, "--max-pixels", "255"])
    assert done.exit_code == 1
    assert "expected at most 255 pixels (set by --max-pixels N of" in done.output
    assert CliRunner().invoke(main, [*arguments, "--max-pixels", "256"]).exit_code == 0
