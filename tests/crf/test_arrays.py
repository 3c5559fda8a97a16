"""Scores and labels in .npy, .npz and .h5: read, written, scored, refined, converted."""

from __future__ import annotations

import os
import pickle

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.crf.files import is_probabilities, read_array, read_bin, write_array, write_scores
from caffe_port.errors import DataError, FormatError
from caffe_port.evaluation.folder_scoring import read_prediction

FORMS = ["npy", "npz", "h5"]
SCORES = np.random.default_rng(0).normal(size=(3, 12, 14)).astype(np.float32) * 4
TRUTH = SCORES[:, :10, :11].argmax(0).astype(np.uint8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_written_arrays_come_back(tmp_path, form, dtype):
    path = tmp_path / f"a.{form}"
    write_array(path, SCORES.astype(dtype))
    assert np.array_equal(read_array(path), SCORES.astype(dtype).astype(np.float32))
    write_array(path, SCORES[None].astype(dtype))
    assert read_array(path).shape == SCORES.shape
    write_array(path, TRUTH)
    assert np.array_equal(read_array(path), TRUTH)
    assert os.listdir(tmp_path) == [f"a.{form}"]


def test_one_of_several_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", probabilities=SCORES, other=SCORES * 2)
    assert np.array_equal(read_array(tmp_path / "a.npz"), SCORES)
    np.savez(tmp_path / "a.npz", first=SCORES, second=SCORES)
    with pytest.raises(FormatError, match="arrays first, second; expected one, or"):
        read_array(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("empty")
    with pytest.raises(FormatError, match="arrays none"):
        read_array(tmp_path / "a.h5")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"x"])
def test_broken_files(tmp_path, form, content):
    path = tmp_path / f"a.{form}"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.\w+: (not an array that can|cannot) be read"):
        read_array(path)
    write_array(path, SCORES)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises((FormatError, DataError)):
        read_array(path)


@pytest.mark.parametrize(
    "values", [SCORES[0], SCORES[0, 0], np.array(["a"]), SCORES > 0, np.zeros((2, 3, 4, 5)),
               np.full((2, 3, 4), np.nan), np.zeros((0, 3, 4))]
)  # fmt: skip
def test_other_arrays(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(FormatError, match=r"an array \(|not finite"):
        read_array(tmp_path / "a.npy")


def activations(kind):
    maps = np.random.default_rng(1).random((2, 6, 7)).astype(np.float32)
    if kind == "irn":
        return {"keys": torch.tensor([4, 14]), "cam": torch.zeros(2, 2, 2), "high_res": maps}, maps
    return {4: maps[0], 14: maps[1]}, maps


@pytest.mark.parametrize("kind", ["irn", "seam"])
def test_activation_maps(tmp_path, kind):
    values, maps = activations(kind)
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=r"without a background; .*--background T"):
        read_array(tmp_path / "a.npy")
    labels = read_prediction(tmp_path / "a.npy", "npy", (6, 7), 0.5)
    best = np.where(maps[0] >= maps[1], 5, 15)  # class 4 without the background is class 5 with it
    assert np.array_equal(labels, np.where(maps.max(0) > 0.5, best, 0))


def test_a_pickle_that_could_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for value in ({4: Evil()}, np.array([Evil()], object)):
        np.save(tmp_path / "a.npy", value)
        with pytest.raises(FormatError, match=r"a pickle that uses posix\.mkdir"):
            read_array(tmp_path / "a.npy")
    assert not (tmp_path / "made").exists()
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FormatError):
        read_array(tmp_path / "b.npy")
    assert not (tmp_path / "made").exists()


def test_probabilities_are_distinguished_from_scores():
    p = np.exp(SCORES) / np.exp(SCORES).sum(0)
    assert is_probabilities(p)
    assert is_probabilities(p.astype(np.float16).astype(np.float32))
    assert not is_probabilities(SCORES)
    assert not is_probabilities(p / 2)


def images(root):
    (root / "images").mkdir()
    (root / "scores").mkdir()
    pixels = np.random.default_rng(2).integers(0, 256, (10, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / "a.png")


def run(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("form", FORMS)
def test_score(tmp_path, form):
    images(tmp_path)
    write_array(tmp_path / "scores" / f"a.{form}", SCORES)  # larger than the image: cut
    (tmp_path / "labels").mkdir()
    Image.fromarray(TRUTH).save(tmp_path / "labels" / "a.png")
    output = run("score", tmp_path / "scores", "--images", tmp_path / "images", "--labels",
                 tmp_path / "labels", "--classes", 3)  # fmt: skip
    assert output.count("100.000") == 7  # three classes and four means


@pytest.mark.parametrize("form", FORMS)
def test_crf_gives_what_it_gives_for_a_mat(tmp_path, form):
    images(tmp_path)
    (tmp_path / "mats").mkdir()
    write_scores(tmp_path / "mats" / "a_blob_0.mat", SCORES)
    write_array(tmp_path / "scores" / f"a.{form}", SCORES)
    for folder, out in (("mats", "one"), ("scores", "two")):
        run("crf", "-id", tmp_path / "images", "-fd", tmp_path / folder, "-sd", tmp_path / out)
    one, two = (read_bin(tmp_path / out / "a.bin") for out in ("one", "two"))
    assert np.array_equal(one, two)
    assert len(np.unique(one)) > 1


def test_crf_takes_probabilities(tmp_path):
    images(tmp_path)
    cut = SCORES[:, :10, :11]
    p = np.exp(cut) / np.exp(cut).sum(0)
    write_array(tmp_path / "scores" / "a.npy", p)
    run("crf", "-id", tmp_path / "images", "-fd", tmp_path / "scores", "-sd", tmp_path / "one",
        "-i", 0)  # fmt: skip
    assert np.array_equal(read_bin(tmp_path / "one" / "a.bin"), TRUTH)


@pytest.mark.parametrize("form", FORMS)
def test_crf_convert(tmp_path, form):
    write_scores(tmp_path / "a_blob_0.mat", SCORES)
    run("crf_convert", tmp_path / "a_blob_0.mat", "--to", form, "-o", tmp_path)
    assert np.array_equal(read_array(tmp_path / f"a.{form}"), SCORES)
    run("crf_convert", tmp_path / f"a.{form}", "--to", "bin", "-o", tmp_path)
    p = read_bin(tmp_path / "a.bin")
    assert np.allclose(p, np.exp(SCORES) / np.exp(SCORES).sum(0), atol=1e-6)
    run("crf_convert", tmp_path / "a.bin", "--to", form, "-o", tmp_path)
    assert np.array_equal(read_array(tmp_path / f"a.{form}"), p)
    run("crf_convert", tmp_path / f"a.{form}", "--to", "mat", "-o", tmp_path / "out")
