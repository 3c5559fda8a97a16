"""pycaffe's Net: live blobs, forward and backward in parts, sharing, saving, reshaping."""

import numpy as np
import pytest
import torch

import caffe_port.pycaffe as caffe
from caffe_port.errors import CaffePortError, LayerError, UsageError
from tests.goldens_dir import GOLDENS
from tests.spec.making import INPUT, LABEL, conv, layer

LOSS = (
    INPUT + LABEL + conv("c", "x") + layer("r", "ReLU", "c", "c") + conv("d", "c")
    + layer("l", "SoftmaxWithLoss", "d y")
)  # fmt: skip
GROUP = GOLDENS / "layers" / "bvlc_conv_group"


@pytest.fixture
def write(tmp_path):
    def write(text, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def draw(net, seed=0):
    random = np.random.default_rng(seed)
    net.blobs["x"].data[...] = random.standard_normal(net.blobs["x"].data.shape)
    if "y" in net.blobs:
        net.blobs["y"].data[...] = random.integers(0, 3, net.blobs["y"].data.shape)
    return net


def make(write, text=LOSS, phase=caffe.TEST):
    return draw(caffe.Net(write(text), phase))


def test_blobs_params_and_layers(write):
    net = make(write)
    assert list(net.blobs) == ["x", "y", "c", "d", "l"]
    assert list(net.params) == ["c", "d"]
    assert net.inputs == ["x", "y"]
    assert net.outputs == ["l"]
    assert list(net._layer_names) == ["input", "y", "c", "r", "d", "l"]
    types = ["Input", "Input", "Convolution", "ReLU", "Convolution", "SoftmaxWithLoss"]
    assert [one.type for one in net.layers] == types
    assert net.layer_dict["c"].blobs[0].data.shape == (3, 3, 1, 1)
    assert net.bottom_names["l"] == ["d", "y"]
    assert net.top_names["r"] == ["c"]
    assert net.blob_loss_weights["l"] == 1
    assert net.blobs["l"].diff == 1


def test_arrays_are_live(write):
    net = make(write, INPUT + conv("c", "x"))
    view = net.blobs["c"].data
    before = net.forward()["c"].copy()
    assert np.array_equal(view, before)
    net.blobs["x"].data[0, 1] *= 2
    net.params["c"][1].data[...] = 3
    after = net.forward()["c"]
    assert after is view or np.shares_memory(after, view)
    assert not np.array_equal(view, before)
    assert np.allclose(view[1], before[1] + 3)


def test_forward_in_parts(write):
    net = make(write)
    whole = float(net.forward()["l"])
    net.forward(end="r")
    net.blobs["c"].data[...] = 0
    changed = float(net.forward(start="d")["l"])
    assert changed != whole
    net.forward(end="r")
    assert float(net.forward(start="d")["l"]) == pytest.approx(whole)
    assert set(net.forward(end="d")) == {"d"}
    assert set(net.forward(blobs=["c"])) == {"l", "c"}


def test_inputs_by_keyword(write):
    net = make(write, INPUT + conv("c", "x"))
    values = np.ones((2, 3, 6, 6), np.float32)
    out = net.forward(x=values)["c"]
    assert np.array_equal(net.blobs["x"].data, values)
    assert out[0, :, 0, 0] == pytest.approx(out[1, :, 5, 5])


def torch_gradients(net):
    """The same net's gradients by torch, of a deep copy."""
    import copy

    module = copy.deepcopy(net._net)
    blobs = module(
        {name: torch.from_numpy(net.blobs[name].data.copy()) for name in net.inputs}, keep="all"
    )
    blobs["l"].backward()
    return blobs, {n: [p.grad.numpy() for p in module.layer_params(n)] for n in net.params}


def test_backward_equals_autograd_with_in_place_layers(write):
    net = make(write)
    net.forward()
    net.backward()
    blobs, params = torch_gradients(net)
    for name in ("c", "d"):
        assert np.allclose(net.blobs[name].diff, blobs.diff(name).numpy(), atol=1e-6)
        for blob, grad in zip(net.params[name], params[name], strict=True):
            assert np.allclose(blob.diff, grad, atol=1e-6)
    assert not net.blobs["x"].diff.any()


def test_parameter_diffs_add_up_until_they_are_cleared(write):
    net = make(write)
    net.forward()
    net.backward()
    once = net.params["c"][0].diff.copy()
    assert once.any()
    net.backward()
    assert np.allclose(net.params["c"][0].diff, 2 * once, rtol=1e-5)
    view = net.params["c"][0].diff
    net.clear_param_diffs()
    assert not view.any()


def test_backward_in_parts(write):
    net = make(write)
    net.forward()
    net.backward()
    whole = net.params["c"][0].diff.copy()
    net.clear_param_diffs()
    net.backward(end="d")
    assert not net.params["c"][0].diff.any()
    assert set(net.backward(start="r", end="c")) == {"x"}
    assert np.allclose(net.params["c"][0].diff, whole, atol=1e-7)
    net.clear_param_diffs()
    net.blobs["d"].diff[...] = 0
    net.backward(start="d")
    assert not net.params["c"][0].diff.any()


def test_diffs_by_keyword(write):
    net = make(write, "force_backward: true " + INPUT + conv("c", "x"))
    net.forward()
    diff = np.ones((2, 3, 6, 6), np.float32)
    found = net.backward(c=diff)
    assert np.allclose(
        found["x"][0, :, 0, 0], net.params["c"][0].data[:, :, 0, 0].sum(0), atol=1e-6
    )


def test_shared_parameters_share_data_and_diff(write):
    more = 'param { name: "w" } param { name: "b" }'
    text = INPUT + LABEL + conv("a", "x", more=more) + conv("b", "a", more=more)
    net = make(write, text + layer("l", "SoftmaxWithLoss", "b y"))
    assert np.shares_memory(net.params["a"][0].data, net.params["b"][0].data)
    net.forward()
    net.backward()
    assert np.shares_memory(net.params["a"][0].diff, net.params["b"][0].diff)
    _, grads = torch_gradients(net)
    assert np.allclose(net.params["a"][0].diff, grads["a"][0], atol=1e-6)


def test_share_with(write):
    first, second = make(write), make(write)
    first.share_with(second)
    assert np.array_equal(first.forward()["l"], second.forward()["l"])
    second.params["c"][1].data[...] += 1
    assert np.array_equal(first.forward()["l"], second.forward()["l"])
    other = make(write, LOSS.replace("kernel_size: 1", "kernel_size: 3 pad: 1"))
    with pytest.raises(CaffePortError, match="layer 'c'"):
        first.share_with(other)
    assert first.params["c"][0].data.shape == (3, 3, 1, 1)


@pytest.mark.parametrize("method", ["save", "save_hdf5"])
def test_saving_and_copying_back(write, tmp_path, method):
    net = make(write)
    path = tmp_path / "any.name"
    getattr(net, method)(str(path))
    again = make(write)
    views = [blob.data for blobs in again.params.values() for blob in blobs]
    assert not np.array_equal(again.params["c"][0].data, net.params["c"][0].data)
    again.copy_from(str(path))
    assert np.array_equal(again.forward()["l"], net.forward()["l"])
    wanted = [blob.data for blobs in net.params.values() for blob in blobs]
    assert all(np.array_equal(a, b) for a, b in zip(views, wanted, strict=True))
    third = caffe.Net(write(LOSS), caffe.TEST, weights=str(path))
    assert np.array_equal(third.params["d"][0].data, net.params["d"][0].data)


def test_copying_is_lenient_as_in_caffe(write, tmp_path):
    net = make(write)
    net.save(str(tmp_path / "w.caffemodel"))
    other = make(write, LOSS.replace('name: "d"', 'name: "new"'))
    kept = other.params["new"][0].data.copy()
    other.copy_from(str(tmp_path / "w.caffemodel"))
    assert np.array_equal(other.params["c"][0].data, net.params["c"][0].data)
    assert np.array_equal(other.params["new"][0].data, kept)


def test_reshaping_to_another_size(write):
    net = make(write, "force_backward: true " + INPUT + conv("c", "x") + layer("t", "TanH", "c"))
    net.blobs["x"].reshape(1, 3, 9, 4)
    net.reshape()
    assert net.blobs["t"].data.shape == (1, 3, 9, 4)
    net.blobs["x"].data[...] = 1
    assert net.forward()["t"].shape == (1, 3, 9, 4)
    net.blobs["x"].reshape(4, 3, 2, 2)  # forward alone reshapes too
    assert net.forward()["t"].shape == (4, 3, 2, 2)
    net.blobs["t"].diff[...] = 1
    assert net.backward()["x"].shape == (4, 3, 2, 2)
    net.blobs["x"].reshape(4, 5, 2, 2)
    with pytest.raises(LayerError, match="layer 'c'"):
        net.forward()


def test_a_size_the_layers_refuse(write):
    net = make(write, INPUT + layer("p", "Pooling", "x", more="pooling_param { kernel_size: 5 }"))
    net.blobs["x"].reshape(2, 3, 2, 2)
    with pytest.raises(LayerError, match=r"layer 'p' \(Pooling\)"):
        net.reshape()


def test_phases(write):
    text = (
        INPUT + layer("d", "Dropout", "x") + layer("t", "TanH", "d", more="include { phase: TEST }")
    )
    assert "t" in make(write, text).blobs
    train = make(write, text, caffe.TRAIN)
    assert "t" not in train.blobs
    assert (train.forward()["d"] == 0).any()


def test_errors(write, tmp_path):
    path = write(LOSS)
    for args in ((path,), (path, 7), (path, "a", "b", "c")):
        with pytest.raises((UsageError, TypeError)):
            caffe.Net(*args)
    net = make(write)
    with pytest.raises(CaffePortError):
        caffe.Net(str(tmp_path / "none.prototxt"), caffe.TEST)
    calls = (
        lambda: net.forward(start="q"),
        lambda: net.forward(end="q"),
        lambda: net.forward(x=np.zeros((2, 3, 6, 6))),
        lambda: net.forward(x=np.zeros((1, 3, 6, 6)), y=np.zeros((2, 1, 6, 6))),
        lambda: net.backward(start="q"),
        lambda: net.backward(c=np.zeros(1)),
    )
    for call in calls:
        with pytest.raises(UsageError):
            call()


def test_recorded_weights_are_taken_bit_for_bit():
    net = caffe.Net(str(GROUP / "net.prototxt"), str(GROUP / "net.caffemodel"), caffe.TEST)
    with np.load(GROUP / "case.npz") as arrays:
        for i in (0, 1):
            assert np.array_equal(net.params["op"][i].data, arrays[f"param/op/{i}"])
