"""Every format to every format and back: the same blobs, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffe_port.errors import UsageError
from caffe_port.weights import StoredBlob, StoredLayer, read_weights, write_weights
from tests.goldens_dir import GOLDENS, SHAPES
from tests.weights.making import array, assert_same_layers, layer

FORMATS = ["pt", "safetensors", "caffemodel", "caffemodel.h5"]
MODEL = SHAPES / "caffe_run" / "model" / "train_iter_2400.caffemodel"


def odd_layers() -> list[StoredLayer]:
    """NaNs with payloads, both zeros, infinities, denormals, in both precisions; odd shapes."""
    single = np.array(
        [0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0, 0x7F800000, 1, 0x3F800000], "u4"
    ).view("f4")
    double = np.array([0x7FF8000000000001, 0x8000000000000000, 1, 0x7FF0000000000001], "u8")
    return [
        layer("a", single, double.view("f8"), np.array(1.5, "f4"), np.empty((0, 2), "f4")),
        layer("b", type="ReLU"),
        layer("bn", array(3), array(3, seed=1), array(1, seed=2), type="BatchNorm"),
        layer("z", array(2, 3, 1, 1, dtype="f8")),
    ]


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_through_two_formats(tmp_path: Path, first: str, second: str) -> None:
    layers = odd_layers()
    write_weights(tmp_path / f"x.{first}", layers)
    one = read_weights(tmp_path / f"x.{first}")
    write_weights(tmp_path / f"y.{second}", one.layers)
    two = read_weights(tmp_path / f"y.{second}")
    assert (one.format, two.format) == (first, second)
    types = "caffemodel.h5" not in (first, second)
    assert_same_layers(one.layers, layers, types=first != "caffemodel.h5")
    assert_same_layers(two.layers, layers, types=types)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    format=st.sampled_from(FORMATS),
)
def test_any_bits(tmp_path: Path, bits: list[int], format: str) -> None:
    values = np.array(bits, "u8")
    layers = [layer("x", values.view("f4"), values.view("f8"))]
    write_weights(tmp_path / f"x.{format}", layers)
    assert_same_layers(read_weights(tmp_path / f"x.{format}").layers, layers, types=False)


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_the_example_comes_back_byte_for_byte(tmp_path: Path, format: str) -> None:
    original = read_weights(MODEL)
    write_weights(tmp_path / f"x.{format}", original.layers, name=original.name)
    between = read_weights(tmp_path / f"x.{format}")
    assert between.name == original.name
    assert_same_layers(between.layers, original.layers)
    write_weights(tmp_path / "direct.caffemodel", original.layers, name=original.name)
    write_weights(tmp_path / "back.caffemodel", between.layers, name=between.name)
    assert (tmp_path / "back.caffemodel").read_bytes() == (
        tmp_path / "direct.caffemodel"
    ).read_bytes()


def test_the_example_through_hdf5(tmp_path: Path) -> None:
    original = read_weights(MODEL).layers
    write_weights(tmp_path / "x.caffemodel.h5", original)
    by_name = sorted(original, key=lambda x: x.name)
    assert_same_layers(read_weights(tmp_path / "x.caffemodel.h5").layers, by_name, types=False)


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_a_v1_file_keeps_its_legacy_shapes(tmp_path: Path, format: str) -> None:
    path = min((GOLDENS / "nets").glob("deeplab1_*/net.caffemodel"))
    original = read_weights(path)
    assert all(b.legacy for x in original.layers for b in x.blobs)
    write_weights(tmp_path / f"x.{format}", original.layers)
    write_weights(tmp_path / "y.caffemodel", read_weights(tmp_path / f"x.{format}").layers)
    back = read_weights(tmp_path / "y.caffemodel")
    assert back.generation == "V2"
    assert_same_layers(back.layers, original.layers)


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_what_a_converted_model_remembers(tmp_path: Path, format: str) -> None:
    text = 'name: "né"\nlayer { name: "conv" }\n'
    metadata = {"phase": "TEST", "variables": '{"EXP": "voc12"}'}
    path = tmp_path / f"x.{format}"
    write_weights(path, odd_layers(), name="né", prototxt=text, metadata=metadata)
    weights = read_weights(path)
    assert (weights.name, weights.prototxt, weights.metadata) == ("né", text, metadata)
    names = [b.name for x in weights.layers for b in x.blobs]
    assert names == [
        "weight", "bias", "blob2", "blob3", "mean", "variance", "factor", "weight", "bias"
    ][: len(names)]  # fmt: skip
    write_weights(path, odd_layers())
    assert read_weights(path).prototxt is None


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_parameter_names_are_kept(tmp_path: Path, format: str) -> None:
    blobs = (
        StoredBlob(array(2), name="mean"),
        StoredBlob(array(1)),
        StoredBlob(array(3), name="f"),
    )
    write_weights(tmp_path / f"x.{format}", [StoredLayer("bn.1", "X", blobs)])
    (stored,) = read_weights(tmp_path / f"x.{format}").layers
    assert [b.name for b in stored.blobs] == ["mean", "bias", "f"]
    assert stored.parameter_names() == ("mean", "bias", "f")


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_layers_of_one_name_keep_their_blobs(tmp_path: Path, format: str) -> None:
    write_weights(tmp_path / f"x.{format}", [layer("x", array(1)), layer("x", array(2))])
    found = read_weights(tmp_path / f"x.{format}").layers
    assert [(one.name, one.blobs[0].data.size) for one in found] == [("x", 1), ("x", 2)]
    keys = [layer("x", array(1)), layer("x#2", array(1)), layer("x", array(1))]
    write_weights(tmp_path / f"x.{format}", keys)
    assert len(read_weights(tmp_path / f"x.{format}").layers) == 3
    twice = [layer("data", type="Data")] * 2  # one for TRAIN, one for TEST
    write_weights(tmp_path / f"x.{format}", twice)
    assert len(read_weights(tmp_path / f"x.{format}").layers) == 2


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    for format in FORMATS:
        write_weights(tmp_path / "weights.bin", odd_layers(), format=format)
        assert read_weights(tmp_path / "weights.bin").format == format


def test_the_suffix_decides_how_to_write(tmp_path: Path) -> None:
    write_weights(tmp_path / "x.h5", odd_layers())
    assert read_weights(tmp_path / "x.h5").format == "caffemodel.h5"
    accepted = r"expected one of .caffemodel, .caffemodel.h5, .h5, .pt, .safetensors"
    for name in ("x.onnx", "x", "x.pt.bak", "caffemodel"):
        with pytest.raises(UsageError, match=accepted):
            write_weights(tmp_path / name, odd_layers())
    with pytest.raises(UsageError, match="unknown weight format 'onnx'"):
        write_weights(tmp_path / "x.pt", odd_layers(), format="onnx")


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_may_be_rewritten_from_itself(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    write_weights(path, odd_layers())
    write_weights(path, read_weights(path).layers)
    assert_same_layers(read_weights(path).layers, odd_layers(), types=False)


def test_inspecting_a_caffemodel_imports_neither_torch_nor_h5py() -> None:
    code = (
        "import sys; from caffe_port.weights import read_weights; "
        f"assert read_weights({str(MODEL)!r}).layers; "
        "print([m for m in ('torch', 'h5py', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
