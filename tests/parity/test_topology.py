"""Writers, readers, outputs and the reach of random layers."""

from __future__ import annotations

from types import SimpleNamespace

from caffe_port.parity.topology import study
from caffe_port.spec.ops.neurons import Dropout
from tests.parity.fake import LAYERS, FakeLayer


def spec(*layers, phase="TEST", inputs=("data",)):
    return SimpleNamespace(name="n", phase=phase, inputs=inputs, layers=layers)


def names(layers):
    return [layer.name for layer in layers]


def test_in_place_layers_are_writers_not_readers():
    found = study(spec(*LAYERS, inputs=("data", "label")), frozenset({"data", "label"}))
    assert names(found.writers["conv1"]) == ["conv1", "relu1"]
    assert names(found.readers["conv1"]) == ["pool1"]
    assert found.writers["data"] == ()
    assert found.outputs == ("label_map", "loss", "accuracy")
    assert found.blobs[:4] == ("data", "label", "conv1", "pool1")


def test_data_layers_whose_tops_are_fed_do_not_run():
    reader = FakeLayer("reader", "ImageSegData", (), ("data", "label"))
    conv = FakeLayer("conv", "Convolution", ("data",), ("conv",))
    found = study(spec(reader, conv, inputs=()), frozenset({"data", "label"}))
    assert names(found.layers) == ["conv"]
    assert found.blobs == ("data", "label", "conv")


def test_layers_that_lack_a_bottom_do_not_run():
    reader = FakeLayer("reader", "ImageSegData", (), ("data", "label"))
    conv = FakeLayer("conv", "Convolution", ("data",), ("conv",))
    loss = FakeLayer("loss", "SoftmaxWithLoss", ("conv", "label"), ("loss",))
    found = study(spec(reader, conv, loss, inputs=()), frozenset({"data"}))
    assert names(found.layers) == ["conv"]
    assert found.blobs == ("data", "conv")
    assert found.outputs == ("conv",)


def test_dropout_in_training_makes_what_follows_random():
    layers = (
        FakeLayer("a", "Convolution", ("data",), ("a",)),
        FakeLayer("drop", "Dropout", ("a",), ("a",), op=Dropout(0.5)),
        FakeLayer("b", "Convolution", ("a",), ("b",)),
        FakeLayer("c", "Convolution", ("data",), ("c",)),
    )
    found = study(spec(*layers, phase="TRAIN"), frozenset({"data"}))
    assert found.random_data == {"a", "b"}
    assert found.random_diffs == {"a", "data"}
    assert study(spec(*layers), frozenset({"data"})).random_data == frozenset()


def test_dropout_that_samples_in_testing_is_random_too():
    drop = FakeLayer("drop", "Dropout", ("data",), ("a",), op=Dropout(0.5, in_test=True))
    assert study(spec(drop), frozenset({"data"})).random_data == {"a"}
    keeps_all = FakeLayer("drop", "Dropout", ("data",), ("a",), op=Dropout(0.0, in_test=True))
    assert study(spec(keeps_all), frozenset({"data"})).random_data == frozenset()
