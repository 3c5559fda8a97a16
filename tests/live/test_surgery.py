"""Blobs put in place of a layer's parameters; numbers as Caffe 1.0 gave on the same nets."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from caffe_port.errors import LayerError, UsageError
from tests.solver.making import solver_file

NET = (
    'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 3 }} }} }}\n'
    'layer {{ name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param {{ '
    'num_output: {outputs} weight_filler {{ type: "constant" value: {value} }} }} }}\n'
)
TRAINED = (
    'layer {{ name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {{ '
    "shape {{ dim: 1 dim: 3 }} shape {{ dim: 1 dim: 2 }} "
    "data_filler {{ value: 1 }} data_filler {{ value: 5 }} }} }}\n"
    'layer {{ name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param {{ '
    'num_output: 2 weight_filler {{ type: "constant" value: {value} }} }} }}\n'
    'layer {{ name: "l" type: "EuclideanLoss" bottom: "f" bottom: "y" top: "l" }}\n'
)
ONES = np.ones((1, 3), np.float32)


@pytest.fixture
def make(tmp_path: Path):
    def make(value: float, outputs: int = 2, text: str = NET) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(text.format(value=value, outputs=outputs))
        return caffe.Net(str(path), caffe.TEST)

    return make


def scores(net: caffe.Net) -> list[float]:
    return net.forward(x=ONES)["f"].ravel().tolist()


def test_a_blob_takes_effect_and_its_memory_is_shared(make, tmp_path: Path) -> None:
    one, two = make(1), make(2)
    one.params["f"][0] = two.params["f"][0]
    assert scores(one) == [6, 6]
    two.params["f"][0].data[...] = 3
    assert (scores(one), scores(two)) == ([9, 9], [9, 9])
    assert (one.layers[1].blobs[0].data == 3).all()
    one.save(str(tmp_path / "one.caffemodel"))
    other = make(0)
    other.copy_from(str(tmp_path / "one.caffemodel"))
    assert scores(other) == [9, 9]
    # loading writes into the blob that was put in
    make(7).save(str(tmp_path / "seven.caffemodel"))
    one.copy_from(str(tmp_path / "seven.caffemodel"))
    assert (scores(one), scores(two)) == ([21, 21], [21, 21])


def test_through_layers_and_slices(make) -> None:
    one, two = make(1), make(2)
    two.params["f"][1].data[...] = 4
    one.layers[1].blobs[-1] = two.params["f"][1]
    assert scores(one) == [7, 7]
    one.params["f"][0:2] = two.params["f"]
    assert scores(one) == [10, 10]
    part = one.params["f"][0:1]
    assert (type(part), len(part), part[0] in one.params["f"]) == (type(one.params["f"]), 1, True)


@pytest.mark.parametrize("value", [np.zeros((2, 3), "f4"), [1, 2], 3.0, None, "blob"])
def test_anything_else_is_a_type_error(make, value: object) -> None:
    net = make(1)
    with pytest.raises(TypeError, match="Invalid assignment"):
        net.params["f"][0] = value
    with pytest.raises(TypeError, match="Invalid assignment"):
        net.params["f"].append(value)
    with pytest.raises(TypeError):
        net.params["f"][0:2] = [net.params["f"][0], value]
    with pytest.raises(IndexError):
        net.params["f"][5] = net.params["f"][0]
    assert (len(net.params["f"]), scores(net)) == (2, [3, 3])


def test_blobs_of_other_layers_change_nothing(make) -> None:
    """In Caffe the dicts are Python's; only the vector of a layer is the layer's."""
    one, two = make(1), make(2)
    one.params["f"] = two.params["f"]
    one.layers[1].blobs[0:1][0] = two.params["f"][0]
    assert scores(one) == [3, 3]
    one.blobs["f"] = two.blobs["f"]
    one.forward(x=ONES)
    assert two.blobs["f"].data.ravel().tolist() == [0, 0]


def test_blobs_are_added_and_saved_but_not_taken_away(make, tmp_path: Path) -> None:
    one = make(1)
    one.params["f"].append(make(5).params["f"][0])
    assert scores(one) == [3, 3]
    one.save(str(tmp_path / "w.caffemodel"))
    message = caffe.caffe_pb2.NetParameter.FromString((tmp_path / "w.caffemodel").read_bytes())
    assert [list(blob.data)[:1] for blob in message.layer[1].blobs] == [[1], [0], [5]]
    del one.params["f"][2]
    with pytest.raises(UsageError, match=r"layer 'f' .* has 2 parameters; 1 would be left"):
        del one.params["f"][1]
    assert len(one.params["f"]) == 2


def test_a_blob_of_another_shape(make, tmp_path: Path) -> None:
    """One of equal count is read in the layer's shape; Caffe reads others as far as it needs."""
    one, wide = make(1), make(2, outputs=4)
    one.params["f"][0] = wide.params["f"][0]
    with pytest.raises(LayerError, match=r"'f' .* cannot run"):
        scores(one)
    wide.params["f"][0].reshape(3, 2)
    assert scores(one) == [6, 6]
    wide.params["f"][0].data[...] = [[1, 2], [3, 4], [5, 6]]
    assert scores(one) == [6, 15]


def test_any_blob_is_accepted(make) -> None:
    """Also one that no layer owns, and one whose memory moves."""
    net, blob = make(1), caffe.Blob([2, 3])
    blob.data[...] = 2
    net.params["f"][0] = blob
    assert scores(net) == [6, 6]
    blob.reshape(20, 30)
    blob.reshape(2, 3)
    blob.data[...] = 4
    assert scores(net) == [12, 12]


def test_backward_fills_the_blob_that_was_put_in(make) -> None:
    text = NET + 'layer {{ name: "l" type: "Reduction" bottom: "f" top: "l" loss_weight: 1 }}\n'
    one, two = make(1, text=text), make(2, text=text)
    first = one.params["f"][0]
    one.params["f"][0] = two.params["f"][0]
    one.forward(x=ONES)
    one.backward()
    assert (two.params["f"][0].diff == 1).all()
    assert not first.diff.any()
    one.backward()
    assert (two.params["f"][0].diff == 2).all()
    one.clear_param_diffs()
    assert (two.params["f"][0].diff == 2).all()  # only those the net was made with


def test_a_solver_continues_with_its_own_blobs(tmp_path: Path) -> None:
    """Recorded: weights stay 1, diffs add up to -2 and -3.8, the bias becomes 0.38."""
    solvers = []
    for name, value in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        more = 'base_lr: 0.1 momentum: 0 display: 0 max_iter: 9 lr_policy: "fixed" '
        path = solver_file(tmp_path / name, more, TRAINED.format(value=value))
        solvers.append(caffe.SGDSolver(str(path)))
    mine, other = solvers
    first = mine.net.params["f"][0]
    mine.net.params["f"][0] = other.net.params["f"][0]
    assert float(mine.net.forward()["l"]) == 4
    mine.step(1)
    now = mine.net.params["f"][0]
    assert np.allclose(now.diff, -2)
    mine.step(1)
    assert (now.data == 1).all()
    assert np.allclose(now.diff, -3.8)
    assert np.allclose(mine.net.params["f"][1].data, 0.38)
    assert not first.data.any()


def test_a_copy_of_the_net_keeps_its_own_blobs(make) -> None:
    one, two = make(1), make(2)
    one.params["f"][0] = two.params["f"][0]
    again = caffe.Net.of(copy.deepcopy(one._net))
    two.params["f"][0].data[...] = 9
    assert (scores(again), scores(one)) == ([6, 6], [27, 27])


def test_share_with_passes_on_what_was_put_in(make) -> None:
    one, two, test = make(1), make(2), make(3)
    one.params["f"][0] = two.params["f"][0]
    test.share_with(one)
    assert scores(test) == [6, 6]
    two.params["f"][0].data[...] = 5
    assert scores(test) == [15, 15]


class Scaled(caffe.Layer):
    """Multiplies by its one parameter."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        pass


def test_a_python_layers_blobs(make) -> None:
    caffe.allow_python_layers()
    try:
        text = NET.partition("\n")[0] + (
            '\nlayer {{ name: "f" type: "Python" bottom: "x" top: "f" python_param {{ module: '
            f'"{__name__}" layer: "Scaled" param_str: "' + '{value}" }} }}\n'
        )
        one, two = make(2, text=text), make(5, text=text)
        assert scores(one) == [2, 2, 2]
        one.params["f"][0] = two.params["f"][0]
        assert scores(one) == [5, 5, 5]
        two.params["f"][0].data[...] = 7
        assert scores(one) == [7, 7, 7]
    finally:
        caffe.allow_python_layers(False)
