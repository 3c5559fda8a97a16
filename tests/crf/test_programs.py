"""caffe-port crf and crf_convert compared with what DeepLab's own programs wrote."""

import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.crf import DenseCRF
from caffe_port.crf.files import read_array, read_bin, read_scores, write_bin, write_scores
from caffe_port.data.images import read_rgb
from caffe_port.errors import DataError, FormatError
from tests.crf.making import problem
from tests.goldens_dir import FULL_GOLDENS, GOLDENS

PROGRAMS = (FULL_GOLDENS or GOLDENS) / "programs"
FLAGS = "-i 10 -px 3 -py 3 -pw 3 -bx 49 -by 49 -br 13 -bg 13 -bb 13 -bw 4"


def run(*arguments):
    return CliRunner().invoke(main, ["crf", *map(str, arguments)])


@pytest.mark.parametrize(
    ("kind", "want", "flags"),
    [("bin", "out_bin", FLAGS), ("mat", "out_mat", FLAGS), ("mat", "out_mat_default", "")],
)
def test_the_files_are_those_of_the_original_programs(tmp_path, kind, want, flags):
    result = run("-id", PROGRAMS / "ppm", "-fd", PROGRAMS / kind, "-sd", tmp_path, *flags.split())
    assert result.exit_code == 0, result.output
    expected = sorted((PROGRAMS / want).glob("*.bin"))
    assert expected
    for path in expected:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        labels = np.array(Image.open(tmp_path / f"{path.stem}.png"))
        assert np.array_equal(labels, read_bin(path))


@pytest.fixture
def folders(tmp_path):
    """Three images with probabilities: a .png, a .jpg and a .ppm."""
    for name in ("images", "features", "out"):
        (tmp_path / name).mkdir()
    for seed, suffix in enumerate(("png", "jpg", "ppm")):
        image, unary = problem(9, 11, labels=3, seed=seed)
        Image.fromarray(image).save(tmp_path / "images" / f"im{seed}.{suffix}")
        p = np.exp(-unary)
        write_bin(tmp_path / "features" / f"im{seed}.bin", p / p.sum(0))
    return tmp_path


def refine(folders, *more):
    return run(
        "-id", folders / "images", "-fd", folders / "features", "-sd", folders / "out", *more
    )


def times(folders):
    return {path.name: path.stat().st_mtime_ns for path in (folders / "out").glob("*.bin")}


def test_a_repeated_run_does_only_what_is_missing_or_old(folders):
    assert refine(folders).exit_code == 0
    before = times(folders)
    assert len(before) == 3
    assert "3 of 3 images are done" in refine(folders).output
    assert times(folders) == before
    (folders / "out" / "im1.bin").unlink()
    (folders / "features" / "im2.bin").touch()
    assert "1 of 3 images are done" in refine(folders).output
    assert times(folders)["im0.bin"] == before["im0.bin"]
    assert times(folders)["im2.bin"] > before["im2.bin"]
    assert "done already" not in refine(folders, "--fresh").output
    assert "done already" not in refine(folders, "-bw", "2").output
    assert "3 of 3 images are done" in refine(folders, "-bw", "2").output


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_probabilities_are_written_and_scored(folders, kind):
    assert refine(folders).exit_code == 0
    before = times(folders)
    result = refine(folders, "--probabilities", kind)
    assert result.exit_code == 0, result.output
    assert not set(before.values()) & set(times(folders).values())  # made again, with them
    assert "3 of 3 images are done" in refine(folders, "--probabilities", kind).output
    labels = folders / "truth"
    labels.mkdir()
    for seed in range(3):
        image = read_rgb(next((folders / "images").glob(f"im{seed}.*")))
        p = read_bin(folders / "features" / f"im{seed}.bin")
        crf = DenseCRF(9, 11, 3).add_gaussian(3, weight=3).add_bilateral(60, 20, image, weight=10)
        q = crf.infer(-np.log(p), 10)
        found = read_array(folders / "out" / f"im{seed}.{kind}")
        assert np.array_equal(found, q)
        assert np.array_equal(q.argmax(0), read_bin(folders / "out" / f"im{seed}.bin"))
        Image.fromarray(q.argmax(0).astype(np.uint8)).save(labels / f"im{seed}.png")
    scored = CliRunner().invoke(
        main,
        ["score", *map(str, (folders / "out", "--images", folders / "images", "--labels", labels)),
         "--classes", "3", "--kind", kind],
    )  # fmt: skip
    assert scored.exit_code == 0, scored.output
    assert re.search(r"mean IoU\W+100\.000", scored.output)


def test_activation_maps_are_no_scores_of_all_classes(folders):
    np.save(folders / "features" / "im0.npy", {0: np.zeros((9, 11), np.float32)}, allow_pickle=True)
    result = refine(folders, "--kind", "npy")
    assert result.exit_code == 2
    assert "activation maps of 1 entries" in result.output
    assert "'caffe-port score' takes" in result.output


def test_images_asked_for_later_are_made(folders):
    assert refine(folders, "--no-png").exit_code == 0
    assert not list((folders / "out").glob("*.png"))
    assert "3 of 3 images are done" in refine(folders, "--no-png").output
    assert "done already" not in refine(folders).output
    assert len(list((folders / "out").glob("*.png"))) == 3
    assert "3 of 3 images are done" in refine(folders).output


def test_labels_that_fit_no_image_are_in_the_bin_file_alone(folders):
    p = np.full((300, 9, 11), 1e-6, np.float32)
    p[299] = 1
    write_bin(folders / "features" / "im0.bin", p)
    assert refine(folders).exit_code == 0
    assert read_bin(folders / "out" / "im0.bin").min() == 299
    assert not (folders / "out" / "im0.png").exists()
    assert "3 of 3 images are done" in refine(folders).output


def test_labels_beyond_int16_are_refused(tmp_path):
    with pytest.raises(DataError, match="labels 0 to 32768"):
        write_bin(tmp_path / "x.bin", np.array([[0, 32768]], np.int32))
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_not_json_means_that_nothing_is_done(folders):
    assert refine(folders).exit_code == 0
    for text in ("{", "[" * 100_000):
        (folders / "out" / "crf.json").write_text(text)
        assert "done already" not in refine(folders).output


def test_bad_files_are_named_and_the_others_done(folders):
    (folders / "features" / "im0.bin").write_bytes(b"short")
    (folders / "images" / "im2.ppm").unlink()
    result = refine(folders, "--no-png")
    assert result.exit_code == 1
    assert "im0: " in result.output
    assert "5 bytes" in result.output
    assert "there is no image im2" in result.output
    assert "2 of 3 images could not be refined" in result.output
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["crf.json", "im1.bin"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 9, 11), np.nan, np.float32), "negative or NaN"),
        (-np.ones((3, 9, 11), np.float32), "negative or NaN"),
        (np.ones((3, 11, 9), np.float32), "expected (C, 9, 11)"),
        (np.zeros((3, 9, 11), np.float32), "every label"),
        (np.zeros((9, 11), np.int16), "expected (C, 9, 11)"),
    ],
)
def test_features_that_are_not_probabilities_are_errors(folders, values, message):
    write_bin(folders / "features" / "im1.bin", values)
    result = refine(folders)
    assert result.exit_code == 1
    assert f"im1: {folders}" in result.output
    assert message in result.output


def test_scores_must_cover_the_image_and_one_kind_be_chosen(folders):
    write_scores(folders / "features" / "im0_blob_0.mat", np.zeros((3, 9, 10), np.float32))
    result = refine(folders)
    assert result.exit_code == 2
    assert "expected one kind" in result.output
    result = refine(folders, "--kind", "mat")
    assert result.exit_code == 2  # none could be refined
    assert "do not cover 9 x 11" in result.output
    assert refine(folders, "--kind", "bin").exit_code == 0


def test_an_empty_folder_is_an_error(folders):
    shutil.rmtree(folders / "features")
    (folders / "features").mkdir()
    result = refine(folders)
    assert result.exit_code == 2
    assert "neither" in result.output


def test_a_bin_file_of_a_wrong_length_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    with pytest.raises(DataError, match="cannot be read"):
        read_bin(path)
    for header, body in (((2, 3, 4), 95), ((2, 3, 1), 13), ((0, 3, 1), 0), ((-2, 3, 4), 96)):
        path.write_bytes(np.array(header, "<i4").tobytes() + bytes(body))
        with pytest.raises(FormatError, match=r"x\.bin"):
            read_bin(path)
    path.write_bytes(np.array([2**31 - 1] * 3, "<i4").tobytes())
    with pytest.raises(FormatError, match="0 bytes follow"):
        read_bin(path)


def convert(*arguments):
    return CliRunner().invoke(main, ["crf_convert", *map(str, arguments)])


def test_conversions_there_and_back(tmp_path):
    source = PROGRAMS / "mat" / "shape_val_0000_blob_0.mat"
    assert convert(source, "--to", "bin", "-o", tmp_path).exit_code == 0
    p, scores = read_bin(tmp_path / "shape_val_0000.bin"), read_scores(source)
    assert p.shape == scores.shape
    assert np.abs(p.sum(0) - 1).max() < 1e-6
    assert convert(tmp_path / "shape_val_0000.bin", "--to", "mat", "-o", tmp_path).exit_code == 0
    back = read_scores(tmp_path / "shape_val_0000_blob_0.mat")
    assert np.allclose(back - back.max(0), scores - scores.max(0), atol=1e-4)
    assert convert(source, "--to", "bin", "--raw", "-o", tmp_path).exit_code == 0
    assert np.array_equal(read_bin(tmp_path / "shape_val_0000.bin"), scores)


def test_label_maps_there_and_back(tmp_path):
    source = PROGRAMS / "out_bin" / "shape_val_0000.bin"
    assert convert(source, "--to", "png", "-o", tmp_path).exit_code == 0
    assert convert(tmp_path / "shape_val_0000.png", "--to", "bin", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "shape_val_0000.bin").read_bytes() == source.read_bytes()
    result = convert(source, "--to", "mat", "-o", tmp_path)
    assert result.exit_code == 2
    assert "has labels (81, 97), which a .mat file cannot hold" in result.output
