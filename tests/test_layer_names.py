"""Layers of one name, or without any, which Caffe allows: built, run, loaded, saved, trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_port as cp
import caffe_port.pycaffe as caffe
from caffe_port.cli.caffe import main
from caffe_port.errors import NetError, WeightMismatchError
from caffe_port.spec.rules import unique_names
from caffe_port.weights import read_weights
from tests.solver.making import solver_file
from tests.spec.making import INPUT, conv, layer, spec_of

SIDE = [layer("side", "ReLU", blob, blob) for blob in "ab"]
TWICE = INPUT + conv("a", "x") + SIDE[0] + conv("b", "a") + SIDE[1]
# a parameterless layer before and after the one with parameters
AROUND = INPUT + layer("c", "AbsVal", "x", "p") + conv("c", "p", "q") + layer("c", "TanH", "q", "r")
NAMELESS = INPUT + conv("", "x", "a") + layer("", "ReLU", "a", "b") + layer("", "TanH", "b", "c")
NETS = {"twice": TWICE, "around": AROUND, "nameless": NAMELESS}


@pytest.mark.parametrize(
    ("names", "has_params", "expected"),
    [
        (["a", "b"], [0, 0], ["a", "b"]),
        (["a", "a", "a"], [0, 0, 0], ["a", "a#2", "a#3"]),
        (["a", "a", "b", "a"], [0, 1, 0, 0], ["a#2", "a", "b", "a#3"]),
        (["a", "a", "a#2"], [0, 0, 0], ["a", "a#3", "a#2"]),
        (["", "unnamed", ""], [0, 0, 0], ["unnamed#2", "unnamed", "unnamed#3"]),
        ([], [], []),
    ],
)
def test_unique_names(names: list[str], has_params: list[bool], expected: list[str]) -> None:
    assert unique_names(names, has_params) == expected


def write(folder: Path, text: str) -> str:
    path = folder / "net.prototxt"
    path.write_text(text)
    return str(path)


def test_each_layer_of_a_name_does_its_own_work() -> None:
    """As the same net with names that differ."""
    apart = TWICE.replace('"side"', '"one"', 1).replace('"side"', '"two"', 1)
    x = torch.linspace(-1, 1, 216).view(2, 3, 6, 6)
    torch.manual_seed(0)
    ours = cp.Net(spec_of(TWICE))
    torch.manual_seed(0)
    theirs = cp.Net(spec_of(apart))
    assert list(ours.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    found, expected = ours({"x": x}, keep="all"), theirs({"x": x}, keep="all")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["b"].min() == 0


def test_pycaffe_shows_the_names_of_the_prototxt(tmp_path: Path) -> None:
    """Recorded from Caffe 1.0: names repeat, and dicts hold the last layer of a name."""
    net = caffe.Net(write(tmp_path, TWICE), caffe.TEST)
    assert list(net._layer_names) == ["input", "a", "side", "b", "side"]
    assert list(net.params) == ["a", "b"]
    assert list(net.layer_dict) == ["input", "a", "side", "b"]
    assert net.top_names["side"] == ["b"]
    assert net.layer_dict["side"] is net.layers[-1]
    assert list(net.forward(end="side")) == ["b"]
    assert list(caffe.Net(write(tmp_path, AROUND), caffe.TEST).params) == ["c"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5", "pt", "safetensors"])
def test_weights_survive_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    """Caffe cannot read back its own file of "around": its blobs go to the first layer "c"."""
    if (name, suffix) == ("nameless", "caffemodel.h5"):
        pytest.skip("HDF5 has no groups without a name")
    torch.manual_seed(1)
    net = cp.Net(spec_of(NETS[name]))
    path = tmp_path / f"w.{suffix}"
    net.save(path)
    if suffix == "caffemodel":
        stored = [la.name for la in read_weights(path).layers]
        assert stored == [la.prototxt_name for la in net.spec.layers]
    again = cp.load(write(tmp_path, NETS[name]), path)
    x = {"x": torch.linspace(-1, 1, 216).view(2, 3, 6, 6)}
    assert torch.equal(again(x)[net.spec.outputs[0]], net(x)[net.spec.outputs[0]])


def test_the_key_of_a_nameless_layer() -> None:
    assert list(cp.Net(spec_of(NAMELESS)).state_dict()) == ["unnamed.weight", "unnamed.bias"]


def test_two_owners_are_refused_and_a_user_is_not(tmp_path: Path) -> None:
    shared = 'param { name: "w" } param { name: "b" }'
    with pytest.raises(NetError, match="two layers with parameters are named 'c'"):
        spec_of(INPUT + conv("c", "x") + conv("c", "c", "d"))
    text = INPUT + conv("c", "x", more=shared) + conv("c", "c", "d", more=shared)
    torch.manual_seed(2)
    net = cp.Net(spec_of(text))
    assert [param.owner for param in net.spec.layer("c#2").params] == [("c", 0), ("c", 1)]
    assert net.get_parameter("c#2.weight") is net.get_parameter("c.weight")
    for suffix in ("caffemodel", "caffemodel.h5", "pt"):
        net.save(tmp_path / f"w.{suffix}")
        again = cp.load(write(tmp_path, text), tmp_path / f"w.{suffix}")
        assert torch.equal(again.get_parameter("c.weight"), net.get_parameter("c.weight"))


def test_blobs_for_a_name_without_parameters_are_refused(tmp_path: Path) -> None:
    cp.Net(spec_of(INPUT + conv("side", "x"))).save(tmp_path / "w.caffemodel")
    with pytest.raises(WeightMismatchError, match="layer 'side': 2 blobs stored, 0 expected"):
        cp.load(write(tmp_path, TWICE), tmp_path / "w.caffemodel", strict=False)


def test_fields_of_forks_stay_with_their_layer() -> None:
    """The second layer of a name has its own options, not those of the first."""
    bn = INPUT + "".join(
        layer("bn", "BN", bottom, top, f"bn_param {{ bn_mode: {mode} }}")
        + layer("bn", "ReLU", top, f"{top}r", f"thing: {number}")
        for bottom, top, mode, number in [("x", "s", "INFERENCE", 1)]
    )
    spec = spec_of(bn + layer("bn", "ReLU", "sr", "t", "thing: 2"))
    extras = [(la.name, la.extra.get("thing")) for la in spec.layers[1:]]
    assert extras == [("bn", None), ("bn#2", 1), ("bn#3", 2)]


def test_training_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data layers and two losses of one name: an interrupted run ends as an unbroken one."""
    data = (
        'layer {{ name: "d" type: "DummyData" top: "{0}" dummy_data_param {{ shape {{ {1} }} '
        'data_filler {{ type: "gaussian" }} }} }}\n'
    )
    net = (
        data.format("x", "dim: 4 dim: 3") + data.format("y", "dim: 4 dim: 2")
        + layer("ip", "InnerProduct", "x", "ip", "inner_product_param { num_output: 2 weight_filler"
        ' { type: "xavier" } }')
        + layer("drop", "Dropout", "ip", "ip")
        + layer("loss", "EuclideanLoss", "ip y", "l1")
        + layer("loss", "EuclideanLoss", "ip y", "l2")
    )  # fmt: skip
    solver = str(solver_file(tmp_path, "snapshot: 3 ", net))
    monkeypatch.setattr("sys.argv", ["caffe"])
    assert main(["train", f"--solver={solver}"]) == 0
    whole = read_weights(tmp_path / "snap_iter_6.caffemodel")
    assert (
        main(["train", f"--solver={solver}", f"--snapshot={tmp_path}/snap_iter_3.solverstate"]) == 0
    )
    again = read_weights(tmp_path / "snap_iter_6.caffemodel")
    blobs = [blob.data for la in whole.layers for blob in la.blobs]
    assert len(blobs) == 2
    for mine, theirs in zip(blobs, (b.data for la in again.layers for b in la.blobs), strict=True):
        assert np.array_equal(mine, theirs)
