"""From files to a net: prototxts, weights, converted models, a layer of one's own fork."""

import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import caffe_port
from caffe_port.errors import (
    CaffePortError,
    FormatError,
    UnknownFieldWarning,
    UsageError,
    WeightMismatchError,
)
from caffe_port.evaluation import NetFactory
from caffe_port.files import OpenFile
from caffe_port.layers import _registry
from caffe_port.loading import Model
from caffe_port.spec.ops import _base
from caffe_port.weights import read_weights, write_weights
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import net_of
from tests.spec.making import INPUT, conv, layer

CASE = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
CONV = GOLDENS / "layers" / "bvlc_conv_group"


def write(folder, text):
    path = folder / "net.prototxt"
    path.write_text(text)
    return path


def recorded(folder):
    with np.load(folder / "case.npz") as arrays:
        names = [key for key in arrays.files if key.startswith("input/")]
        return {name[6:]: torch.from_numpy(arrays[name]) for name in names}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_converted_model_needs_nothing_else(tmp_path, suffix):
    net = caffe_port.load(CASE / "net.prototxt", CASE / "net.caffemodel")
    net.save(tmp_path / f"net.{suffix}")
    again = caffe_port.load(tmp_path / f"net.{suffix}")
    assert again.spec == net.spec
    inputs = recorded(CASE)
    with torch.no_grad():
        one, two = net(inputs), again(inputs)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name])


def test_settings_are_remembered_and_can_be_overruled(tmp_path):
    text = INPUT + conv("c", "x") + layer("d", "Dropout", "c", more="include { phase: TRAIN }")
    text += layer("s", "ReLU", "c", more='include { min_level: 2 stage: "deploy" }')
    net = caffe_port.load(
        write(tmp_path, text), phase="TRAIN", level=2, stages=["deploy"],
        input_shapes={"x": (1, 3, 4, 4)}, dialect="deeplab2",
    )  # fmt: skip
    net.save(tmp_path / "net.pt")
    again = caffe_port.load(tmp_path / "net.pt")
    assert again.spec == net.spec
    assert {"d", "s"} <= set(again.spec.shapes)
    test = caffe_port.load(tmp_path / "net.pt", phase="TEST", input_shapes={"x": (5, 3, 2, 2)})
    assert "d" not in test.spec.shapes
    assert test.spec.shapes["c"] == (5, 3, 2, 2)


def test_a_net_built_without_text_is_remembered_all_the_same(tmp_path):
    net = net_of(conv("c", "b0") + layer("a", "ReLU", "c") + layer("b", "TanH", "c"), (2, 3, 6, 6))
    assert net.spec.text == ""
    net.save(tmp_path / "net.pt")
    x = torch.randn(2, 3, 6, 6)
    again = caffe_port.load(tmp_path / "net.pt")
    assert torch.equal(again(x)["b"], net(x)["b"])


def test_weights_beside_a_converted_model_replace_its_own(tmp_path):
    first = caffe_port.load(CONV / "net.prototxt")
    first.save(tmp_path / "first.pt")
    second = caffe_port.load(tmp_path / "first.pt", CONV / "net.caffemodel")
    wanted = read_weights(CONV / "net.caffemodel").layers[-1].blobs[0].data
    assert np.array_equal(second.layer_params("op")[0].detach().numpy(), wanted)


def test_variables(tmp_path):
    path = write(
        tmp_path, INPUT + '\n\nlayer { name: "fc8_${EXP}" type: "ReLU" bottom: "x" top: "r" }'
    )
    with pytest.raises(FormatError, match=r"\$\{EXP\} has no value") as caught:
        caffe_port.load(path)
    assert (caught.value.path, caught.value.line) == (str(path), 4)
    net = caffe_port.load(path, variables={"EXP": "voc12"})
    assert net.spec.layers[1].name == "fc8_voc12"
    net.save(tmp_path / "net.pt")
    assert caffe_port.load(tmp_path / "net.pt").spec == net.spec


def test_unknown_fields_are_warned_of_at_the_call(tmp_path):
    path = write(
        tmp_path, INPUT + '\nlayer { name: "r" type: "ReLU" bottom: "x" top: "r" mine: 1 }'
    )
    with pytest.warns(UnknownFieldWarning) as caught:
        net = caffe_port.load(path)
    assert str(caught[0].message) == f"{path}:\n  line 3: layer 'r': unknown field 'mine'"
    assert caught[0].filename == __file__
    assert net.spec.layer("r").extra == {"mine": 1}


@pytest.fixture
def twice():
    """A layer of a user's fork, in one place; unregistered afterwards."""

    @caffe_port.register_op
    @dataclass(frozen=True)
    class TwiceOptions(caffe_port.Op):
        type: ClassVar[str] = "Twice"

    @caffe_port.register_layer("Twice")
    class Twice(caffe_port.Layer):
        def forward(self, *bottoms):
            (times,) = self.spec.extra["twice_param"]["times"]
            return (bottoms[0] * times,)

    yield Twice
    del _base._ops["Twice"], _registry._layers["Twice"]


def test_a_layer_of_ones_own_fork(tmp_path, twice):
    text = INPUT + layer("t", "Twice", "x", more="twice_param { times: 3 }")
    with pytest.warns(UnknownFieldWarning, match="twice_param"):
        net = caffe_port.load(write(tmp_path, text))
    assert isinstance(net.module("t"), twice)
    assert torch.equal(net(torch.ones(2, 3, 6, 6))["t"], torch.full((2, 3, 6, 6), 3.0))
    net.save(tmp_path / "net.pt")
    with pytest.warns(UnknownFieldWarning, match="twice_param"):
        again = caffe_port.load(tmp_path / "net.pt")
    assert torch.equal(again(torch.ones(2, 3, 6, 6))["t"], net(torch.ones(2, 3, 6, 6))["t"])


def test_strict_and_lenient(tmp_path):
    text = (CONV / "net.prototxt").read_text()
    renamed = write(tmp_path, text.replace('"op"', '"renamed"'))
    with pytest.raises(WeightMismatchError, match=r"missing: layer 'renamed', blob 0"):
        caffe_port.load(renamed, CONV / "net.caffemodel")
    net = caffe_port.load(renamed, CONV / "net.caffemodel", strict=False)
    assert net.loaded.extra == ["layer 'op' with 2 blobs"]
    assert net.loaded.missing == ["layer 'renamed', blob 0", "layer 'renamed', blob 1"]


def test_files_given_in_the_wrong_order_or_of_the_wrong_kind(tmp_path):
    with pytest.raises(FormatError, match="binary file, expected prototxt"):
        caffe_port.load(CASE / "net.caffemodel", CASE / "net.prototxt")
    with pytest.raises(FormatError, match=r"net\.prototxt"):
        caffe_port.load(CASE / "net.prototxt", CASE / "net.prototxt")
    with pytest.raises(FormatError, match="cannot be read"):
        caffe_port.load(tmp_path / "none.prototxt")
    with pytest.raises(CaffePortError, match="phase is 'test'"):
        caffe_port.load(CONV / "net.prototxt", phase="test")
    write_weights(tmp_path / "bare.pt", read_weights(CONV / "net.caffemodel").layers)
    with pytest.raises(FormatError, match="remembers no prototxt; give the prototxt first"):
        caffe_port.load(tmp_path / "bare.pt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("level", "high"), ("level", "9" * 30), ("stages", "5"), ("stages", "{"),
        ("stages", "[" * 100_000), ("input_shapes", "[]"), ("input_shapes", '{"x": 3}'),
        ("input_shapes", '{"x": [1e999]}'), ("input_shapes", '{"x": ["a"]}'),
    ],
)  # fmt: skip
def test_damaged_metadata(tmp_path, key, value):
    stored = read_weights(CONV / "net.caffemodel")
    path = tmp_path / "net.pt"
    text = (CONV / "net.prototxt").read_text()
    write_weights(path, stored.layers, prototxt=text, metadata={key: value})
    with pytest.raises(FormatError, match="its metadata is not what") as caught:
        caffe_port.load(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "metadata", [{"phase": "x"}, {"dialect": "x"}, {"input_shapes": json.dumps({"q": [1]})}]
)
def test_settings_that_mean_nothing(tmp_path, metadata):
    stored = read_weights(CONV / "net.caffemodel")
    text = (CONV / "net.prototxt").read_text()
    write_weights(tmp_path / "net.pt", stored.layers, prototxt=text, metadata=metadata)
    with pytest.raises(UsageError):
        caffe_port.load(tmp_path / "net.pt")


_listeners = []


def _note(event, arguments):
    if event == "open":
        for names in _listeners:
            names.append(str(arguments[0]))


sys.addaudithook(_note)


@contextlib.contextmanager
def opened():
    """Names of the files that the block opens."""
    names = []
    _listeners.append(names)
    try:
        yield names
    finally:
        _listeners.remove(names)


def converted(folder, name="net.pt"):
    caffe_port.load(CONV / "net.prototxt", CONV / "net.caffemodel").save(folder / name)
    return str(folder / name)


# torch opens the file by its name once more; how HDF5 and safetensors open it is not seen here
@pytest.mark.parametrize(
    ("name", "times"),
    [("n.caffemodel", 1), ("n.caffemodel.h5", 1), ("n.pt", 2), ("n.safetensors", 1)],
)
def test_a_command_opens_each_file_of_a_model_once(tmp_path, name, times):
    weights = converted(tmp_path, name)
    net = str(shutil.copy(CONV / "net.prototxt", tmp_path / "net.prototxt"))
    factory = NetFactory(net, weights, blob="y")
    with opened() as names:
        caffe_port.load(net, weights)
    assert (names.count(net), names.count(weights)) == (1, times)
    with opened() as names:
        assert factory.spec is factory.spec
        factory.describe()
        factory.load()
    assert (names.count(net), names.count(weights)) == (1, times)


def test_digest_and_weights_are_of_the_file_that_was_opened(tmp_path):
    weights, other = tmp_path / "net.caffemodel", tmp_path / "other.caffemodel"
    net = caffe_port.load(CONV / "net.prototxt", CONV / "net.caffemodel")
    net.save(weights)
    was, values = OpenFile(weights).digest(), net.layer_params("op")[0].detach().clone()
    model = Model(CONV / "net.prototxt", weights)
    with torch.no_grad():
        net.layer_params("op")[0].zero_()
    net.save(other)
    assert model.is_current()
    os.replace(other, weights)
    assert not model.is_current()
    assert model.digests() == {"net": OpenFile(CONV / "net.prototxt").digest(), "weights": was}
    assert torch.equal(model.net(model.spec()).layer_params("op")[0], values)


def test_a_file_that_is_replaced_while_a_library_opens_it_is_refused(tmp_path, monkeypatch):
    first, read = converted(tmp_path), torch.load

    def load(*args, **kwargs):
        shutil.copy(first, tmp_path / "second")
        with open(tmp_path / "second", "ab") as longer:
            longer.write(b"\0")
        content = read(*args, **kwargs)
        os.replace(tmp_path / "second", first)
        return content

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(FormatError, match="changed while it was read"):
        read_weights(first)
