"""What would stop a training late is said before its first step; weights from several files."""

from __future__ import annotations

import pytest

from caffe_port.errors import UsageError
from caffe_port.solver.training import Training
from caffe_port.weights import write_weights

NET = """
layer { name: "d" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "%s" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "second" type: "InnerProduct" bottom: "y" top: "z"
        inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "l" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "l" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 4 display: 1 '


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def training(name, options):
    with open("net.prototxt", "w") as file:
        file.write(NET % name)
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER + options)
    return Training("solver.prototxt")


@pytest.mark.parametrize("when", ["snapshot: 2", "snapshot: 0"])
def test_a_layer_name_that_hdf5_cannot_hold(when):
    made = training("a/b", f'{when} snapshot_format: HDF5 snapshot_prefix: "s"')
    with pytest.raises(UsageError, match=r"layer 'a/b' cannot be a group .* BINARYPROTO"):
        made.solve()
    assert made.iter == 0


def test_without_snapshots_any_name_trains():
    made = training("a/b", 'snapshot_after_train: false snapshot_format: HDF5 snapshot_prefix: "s"')
    made.solve()
    assert made.iter == 4


def test_a_prefix_that_cannot_be_written():
    with open("file", "w"):
        pass
    made = training("first", 'snapshot: 0 snapshot_prefix: "file/s"')
    with pytest.raises(OSError, match="file"):
        made.solve()
    assert made.iter == 0


def test_only_parameters_missing_in_all_files_keep_their_filler(capfd):
    made = training("first", 'snapshot_prefix: "s"')
    made.net.save("both.caffemodel")
    for name in ("first", "second"):
        one = made.net._net.stored_layers()
        kept = [layer for layer in one if layer.name == name]
        write_weights(f"{name}.caffemodel", kept)
    capfd.readouterr()
    made.finetune("first.caffemodel", "second.caffemodel")
    assert "keeps its filler" not in capfd.readouterr().err
    made.finetune("first.caffemodel")
    err = capfd.readouterr().err
    assert "second" in err
    assert "first.weight" not in err
