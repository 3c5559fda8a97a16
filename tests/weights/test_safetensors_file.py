"""The .safetensors format, against the library and against broken headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from caffe_port.errors import FormatError
from caffe_port.weights import read_weights
from caffe_port.weights.state_dict import read_safetensors, write_safetensors
from tests.weights.making import array, assert_same_layers, layer, same_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def strings(**changes: str | None) -> dict[str, str]:
    whole: dict[str, str | None] = {
        "format": "caffe_port", "version": "1", "layers": '[["a", "X", ["a.weight"]]]'
    }  # fmt: skip
    return {k: v for k, v in (whole | changes).items() if v is not None}


def test_the_library_reads_it(path: Path) -> None:
    write_safetensors(path, [layer("conv", array(2, 3), array(2, dtype="f8"))], prototxt="text")
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"conv.weight", "conv.bias"}
        assert same_bits(file.get_tensor("conv.weight"), array(2, 3))
        assert same_bits(file.get_tensor("conv.bias"), array(2, dtype="f8"))
        assert file.metadata()["prototxt"] == "text"


def test_tensors_are_views_in_caffes_order(path: Path) -> None:
    layers = [layer("z", array(2), array(3, dtype="f8")), layer("a", array(4))]
    write_safetensors(path, layers)
    back = read_safetensors(path).layers
    assert_same_layers(back, layers)
    assert not any(b.data.flags.owndata for x in back for b in x.blobs)


def test_a_shared_parameter_is_stored_once(path: Path) -> None:
    weight = array(100, 100)
    layers = [layer("a", weight), layer("b", weight), layer("c", weight)]
    write_safetensors(path, layers)
    assert path.stat().st_size < 1.1 * weight.nbytes
    back = read_safetensors(path).layers
    assert_same_layers(back, layers)
    assert np.shares_memory(back[0].blobs[0].data, back[2].blobs[0].data)
    again = path.with_name("again.safetensors")
    write_safetensors(again, back)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": None}, "only files written by caffe_port do"),
        ({"version": "2"}, "it has version '2'"),
        ({"layers": None}, "are not lists"),
        ({"layers": "[["}, "metadata 'layers' is not JSON"),
        ({"layers": "[" * 100_000}, "metadata 'layers' is not JSON"),
        ({"layers": "[]"}, "'a.weight' does not belong to a layer"),
        ({"legacy": "{}"}, "are not lists"),
        ({"aliases": "[]"}, "not a dict of strings"),
        ({"aliases": '{"b.weight": "c.weight"}'}, "alias 'b.weight' of 'c.weight' is not valid"),
        ({"aliases": '{"a.weight": "a.weight"}'}, "alias 'a.weight' of 'a.weight' is not valid"),
        ({"aliases": '{"b.weight": "a.weight"}'}, "'b.weight' does not belong to a layer"),
        ({"metadata": '{"a": 1}'}, "not a dict of strings"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refused_arguments(path: Path, changes: dict[str, Any], match: str) -> None:
    save_file({"a.weight": array(2)}, path, metadata=strings(**changes))
    with pytest.raises(FormatError, match=match) as caught:
        read_weights(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(("dtype", "name"), [("f2", "F16"), ("i8", "I64")])
def test_other_types_are_refused(path: Path, dtype: str, name: str) -> None:
    save_file({"a.weight": np.ones(3, dtype)}, path, metadata=strings())
    with pytest.raises(FormatError, match=f"'a.weight' is {name}, expected F32 or F64"):
        read_safetensors(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_lying_headers(path: Path, entry: object) -> None:
    header = json.dumps({"__metadata__": strings(), "a.weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(FormatError, match="safetensors cannot read it"):
        read_safetensors(path)


def test_cut_files(path: Path) -> None:
    write_safetensors(path, [layer("conv", array(2, 3))])
    data = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        for read in (read_safetensors, read_weights):
            with pytest.raises(FormatError):
                read(cut)
