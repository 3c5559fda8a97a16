"""Net: blobs kept and freed, diffs, names, inputs, errors, weights."""

import copy
import gc
import warnings
import weakref

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError, SideEffectWarning, UsageError, WeightMismatchError
from caffe_port.weights import StoredBlob, StoredLayer, read_weights
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer

X = (2, 3, 6, 6)
CHAIN = conv("c", "b0") + layer("r", "ReLU", "c", "c") + layer("t", "TanH", "c")
TWO = CHAIN + layer("u", "ReLU", "c") + layer("s", "Eltwise", "t u")
LOSS = conv("c", "b0") + layer("r", "ReLU", "c", "c") + layer("l", "SoftmaxWithLoss", "c b1")
Y = (2, 1, 6, 6)


def x(*shape, seed=0):
    return torch.randn(shape or X, generator=torch.Generator().manual_seed(seed))


def test_outputs_are_what_no_layer_reads():
    net = net_of(TWO, X)
    assert set(net(x())) == {"s"}
    assert set(net_of(CHAIN + layer("z", "Silence", "t", ""), X)(x())) == set()
    assert set(net_of(layer("p", "Split", "b0", "m n"), X)(x())) == {"m", "n"}


@pytest.mark.parametrize("names", ["c", "b0"])
def test_an_output_written_in_place_is_an_output(names):
    text = conv("c", "b0") + layer("r", "ReLU", "c", "c")
    text = layer("r", "ReLU", "b0", "b0") if names == "b0" else text
    blobs = net_of(text, X)(x())
    assert set(blobs) == {names}
    assert blobs[names].min() == 0


def test_what_only_a_reporting_layer_reads_is_an_output():
    text = conv("c", "b0") + layer("a", "SegAccuracy", "c b1")
    net = net_of(text, X, Y)
    assert set(net({"b0": x(), "b1": torch.zeros(Y)})) == {"c", "a"}
    with pytest.raises(UsageError, match="no data given for the inputs b1"):
        net({"b0": x()})


def test_all_blobs_are_kept_on_request_with_splits():
    blobs = net_of(TWO, X)(x(), keep="all")
    assert set(blobs) == {"b0", "c", "c_r_0_split_0", "c_r_0_split_1", "t", "u", "s"}
    assert torch.equal(blobs["s"], blobs["t"] + blobs["u"])
    assert blobs["c"].min() == 0  # of the last writer


def test_named_blobs_run_only_what_they_need():
    net = net_of(TWO, X)
    ran = []
    for one in net.spec.layers:
        net.module(one.name).register_forward_hook(lambda m, _, __: ran.append(m.spec.name))
    blobs = net(x(), keep=["c", "b0"])
    assert set(blobs) == {"c", "b0"}
    assert ran == ["c", "r"]
    assert blobs["c"].min() == 0
    # without the label, which the chosen blob does not need
    assert set(net_of(LOSS, X, Y)({"b0": x()}, keep=["c"])) == {"c"}


def test_blobs_are_freed_after_their_last_reader():
    text = "".join(layer(f"l{i}", "TanH", f"l{i - 1}" if i else "b0") for i in range(8))
    net = net_of(text, X)
    alive, most = [], []

    def look(module, bottoms, tops):
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        alive.extend(weakref.ref(top) for top in tops)

    for i in range(8):
        net.module(f"l{i}").register_forward_hook(look)
    with torch.no_grad():
        blobs = net(x())
        assert max(most) <= 1  # its own bottom
        assert sum(ref() is not None for ref in alive) == 1
        alive.clear()
        net(x(), keep="all")
        assert max(most) <= 7
    assert set(blobs) == {"l7"}


def test_diffs_after_backward():
    net = net_of("force_backward: true " + LOSS, X, Y)
    labels = torch.zeros(Y)
    blobs = net({"b0": x(), "b1": labels}, keep="all")
    blobs["l"].backward()
    assert blobs.diff("l") == 1
    assert blobs.diff("b0").shape == X
    assert blobs.diff("b1") is None
    assert blobs.diff("nothing") is None
    assert net.layer_params("c")[0].grad.shape == (3, 3, 1, 1)
    without = net_of(LOSS, X, Y)({"b0": x(), "b1": labels}, keep="all")
    without["l"].backward()
    assert without.diff("b0") is None


def test_the_diff_of_a_blob_in_place_is_the_first_writers():
    net = net_of(LOSS, X, Y)
    blobs = net({"b0": x(), "b1": torch.zeros(Y)}, keep="all")
    blobs["l"].backward()
    before = net.run_layer("c", [x()])[0].detach()
    assert torch.equal(blobs["c"], before.relu())
    assert torch.equal(blobs.diff("c")[before < 0], torch.zeros_like(before)[before < 0])
    assert blobs.diff("c")[before > 0].abs().min() > 0


def test_propagate_down_false_stops_the_gradient():
    text = conv("a", "b0") + conv("b", "a", more="propagate_down: false")
    net = net_of(text, X)
    net(x())["b"].sum().backward()
    assert net.layer_params("a")[0].grad is None
    assert net.layer_params("b")[0].grad is not None


def test_the_diff_of_a_top_is_kept_where_nothing_before_it_gets_one():
    text = (
        conv("a", "b0") + 'layer { name: "t" type: "TanH" bottom: "a" top: "t" '
        'propagate_down: false } layer { name: "s" type: "Reduction" bottom: "t" top: "s" '
        "loss_weight: 1 }"
    )
    net = net_of(text, X)
    blobs = net(x(), keep="all")
    blobs["s"].backward()
    assert blobs.diff("t").eq(1).all()
    assert blobs.diff("a") is None
    assert net.layer_params("a")[0].grad is None


def test_lr_mult_0_freezes_unless_backward_is_forced():
    text = conv("a", "b0", more="param { lr_mult: 0 }")
    assert [p.requires_grad for p in net_of(text, X).layer_params("a")] == [False, True]
    forced = net_of("force_backward: true " + text, X)
    assert [p.requires_grad for p in forced.layer_params("a")] == [True, True]


def test_inputs_by_name_or_alone():
    net = net_of(CHAIN, X)
    assert torch.equal(net(x())["t"], net({"b0": x()})["t"])
    assert torch.equal(net(x().numpy())["t"], net(x())["t"])
    assert net(x(5, 3, 9, 4))["t"].shape == (5, 3, 9, 4)


@pytest.mark.parametrize("given", ["read-only", "flipped", "transposed"])
def test_arrays_of_any_layout(given):
    array = x().numpy()
    if given == "read-only":
        array.setflags(write=False)
    elif given == "flipped":
        array = array[:, ::-1, :, ::-1]
    else:
        array = array.transpose(0, 1, 3, 2)
    net = net_of(CHAIN, X)
    assert torch.equal(net(array)["t"], net(torch.tensor(array.copy()))["t"])


@pytest.mark.parametrize(
    ("inputs", "keep", "words"),
    [
        ({}, "outputs", "no data given for the inputs b0, b1"),
        ({"b0": x()}, "all", "no data given for the inputs b1"),
        ({"b0": x(), "c": x()}, "outputs", "'c' is not an input of the net; its inputs: b0, b1"),
        (x(), "outputs", "the net has the inputs b0, b1; give a dict"),
        ({"b0": x()}, ["l"], "'l' cannot be computed without b1"),
        ({"b0": x()}, ["zz"], "keep names 'zz', which is not a blob of the net"),
        ({"b0": x(), "b1": x()}, "some", "keep is 'some'; expected 'outputs', 'all' or a list"),
        ({"b0": "text", "b1": x()}, "outputs", "input 'b0' cannot become a tensor"),
        ({"b0": np.array(["a"]), "b1": x()}, "outputs", "input 'b0' cannot become a tensor"),
    ],
)
def test_calls_that_cannot_be_carried_out(inputs, keep, words):
    net = net_of(LOSS, X, Y)
    with pytest.raises(UsageError) as caught:
        net(inputs, keep=keep)
    assert words in str(caught.value)


def test_data_layers_are_replaced_by_what_is_fed(tmp_path):
    data = (
        'layer { name: "d" type: "ImageSegData" top: "data" top: "label" top: "size" '
        "transform_param { crop_size: 6 mean_value: 1 } "
        'image_data_param { source: "nowhere" batch_size: 2 } }'
    )
    text = conv("c", "data") + layer("l", "SoftmaxWithLoss", "c label")
    net = net_of(data + text)
    assert set(net({"data": x()})) == {"c"}  # the loss lacks its label and is left out
    both = net({"data": x(), "label": torch.zeros(Y)})
    assert set(both) == {"l"}
    with pytest.raises(UsageError, match="'l' cannot be computed without label"):
        net({"data": x()}, keep=["l"])


def test_run_layer_and_its_errors_name_the_layer():
    net = net_of(LOSS, X, Y)
    (top,) = net.run_layer("c", [x()])
    assert top.shape == X
    for bottoms, words in [
        ([x(2, 4, 6, 6)], "cannot run on bottoms of shape (2, 4, 6, 6)"),
        ([x().double()], "cannot run on bottoms"),
        ([], "0 bottoms given; expected 1"),
        ([x(), x()], "2 bottoms given; expected 1"),
    ]:
        with pytest.raises(LayerError) as caught:
            net.run_layer("c", bottoms)
        assert str(caught.value).startswith("layer 'c' (Convolution): ")
        assert words in str(caught.value)
    with pytest.raises(LayerError, match="layer 'c'"):
        net({"b0": x(2, 5, 6, 6), "b1": torch.zeros(Y)})
    with pytest.raises(LayerError, match="layer 'l'"):
        net({"b0": x(2, 3, 9, 9), "b1": torch.zeros(Y)})
    with pytest.raises(KeyError):
        net.run_layer("d", [])


NAMES = ["data", "type", "forward", "training", "loaded", "spec", "a.b", "a/b", "x y", "_modules",
         "conv1.weight", "state_dict"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_any_name(name, tmp_path):
    net = net_of(conv(name, "b0", "out"), X)
    expected = net(x())["out"]
    assert list(net.state_dict()) == [f"{name}.weight", f"{name}.bias"]
    other = net_of(conv(name, "b0", "out"), X)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x())["out"], expected)
    other.load_stored(net.stored_layers())
    assert torch.equal(copy.deepcopy(other).train()(x())["out"], expected)
    for suffix in ("pt", "safetensors", "caffemodel"):
        path = tmp_path / f"net.{suffix}"
        net.save(path)
        with torch.no_grad():
            other.layer_params(name)[0].zero_()
        other.load_stored(read_weights(path).layers)
        assert torch.equal(other(x())["out"], expected)


def test_double_and_deepcopy_are_nets_of_their_own():
    net = net_of(TWO, X)
    twin = copy.deepcopy(net)
    assert twin.spec is net.spec
    exact = copy.deepcopy(net).double()
    assert exact(x().double())["s"].dtype == torch.float64
    assert torch.allclose(exact(x().double())["s"].float(), net(x())["s"], atol=1e-6)
    with torch.no_grad():
        twin.layer_params("c")[0].fill_(0)
    assert net.layer_params("c")[0].abs().sum() > 0
    assert twin.spec == net.spec


def test_shared_parameters_are_one_tensor():
    more = 'param { name: "w" } param { name: "b" }'
    net = net_of(conv("a", "b0", more=more) + conv("b", "a", more=more), X)
    assert net.layer_params("a")[0] is net.layer_params("b")[0]
    assert len(list(net.parameters())) == 2
    twin = copy.deepcopy(net)
    assert twin.layer_params("a")[1] is twin.layer_params("b")[1]
    net(x())["b"].sum().backward()
    alone = net_of(conv("a", "b0") + conv("b", "a"), X)
    for mine, theirs in zip(net.layer_params("a"), alone.layer_params("a"), strict=True):
        theirs.data = mine.data
    for mine, theirs in zip(net.layer_params("b"), alone.layer_params("b"), strict=True):
        theirs.data = mine.data
    alone(x())["b"].sum().backward()
    total = alone.layer_params("a")[0].grad + alone.layer_params("b")[0].grad
    assert torch.allclose(net.layer_params("a")[0].grad, total, atol=1e-5)


def stored(name, *shapes):
    blobs = tuple(StoredBlob(np.full(shape, 7, np.float32)) for shape in shapes)
    return StoredLayer(name, "Convolution", blobs)


WEIGHTS = ((3, 3, 1, 1), (3,))


def test_strict_loading_names_everything_and_copies_nothing():
    net = net_of(conv("a", "b0") + conv("b", "a"), X)
    with pytest.raises(WeightMismatchError) as caught:
        net.load_stored([stored("a", *WEIGHTS), stored("old", *WEIGHTS)])
    message = str(caught.value)
    assert "missing: layer 'b', blob 0\n  missing: layer 'b', blob 1" in message
    assert "not in the net: layer 'old' with 2 blobs" in message
    assert "strict=False accepts this" in message
    assert net.layer_params("a")[1].abs().max() == 0
    found = net.load_stored([stored("a", *WEIGHTS), stored("old", *WEIGHTS)], strict=False)
    assert net.layer_params("a")[1].min() == 7
    assert net.loaded.missing == found.missing
    assert len(found.missing) == 2


def test_a_net_does_not_keep_the_values_of_its_weight_file():
    """They would be a second copy of all parameters, or a mapped file."""
    net, blob = net_of(conv("a", "b0"), X), stored("a", *WEIGHTS)
    values = [weakref.ref(each.data) for each in blob.blobs]
    net.load_stored([blob])
    del blob
    assert all(value() is None for value in values)
    assert [(layer, i, each.data.shape) for layer, i, each in net.loaded.pairs] == [
        ("a", i, shape) for i, shape in enumerate(WEIGHTS)
    ]


def test_wrong_shapes_are_errors_in_either_way():
    net = net_of(conv("a", "b0"), X)
    for strict in (True, False):
        with pytest.raises(WeightMismatchError) as caught:
            net.load_stored([stored("a", (3, 3, 2, 2), (3,))], strict=strict)
        message = str(caught.value)
        assert "layer 'a', blob 0: shape (3, 3, 2, 2) stored, (3, 3, 1, 1)" in message
        assert "strict=False" not in message


def test_a_filler_that_cannot_be_names_the_layer():
    options = 'num_output: 3 kernel_size: 1 weight_filler { type: "magic" }'
    with pytest.raises(LayerError, match=r"layer 'c' .*unknown filler 'magic'"):
        net_of(conv("c", "b0", options=options), X)


def test_the_phase_is_the_specs_whatever_torch_says():
    text = layer("d", "Dropout", "b0")
    train, test = net_of(text, X, phase="TRAIN"), net_of(text, X)
    assert torch.equal(test.train()(x())["d"], x())
    assert (train.eval()(x())["d"] == 0).any()


def test_of_several_copies_of_a_shared_parameter_the_last_one_counts():
    text = "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "b0" top: "{name}" '
        'param { name: "w" } inner_product_param { num_output: 2 bias_term: false } } '
        for name in "ab"
    )
    net = net_of(text, (1, 3))
    copies = [np.full((2, 3), value, np.float32) for value in (1, 2)]
    net.load_stored(
        [
            StoredLayer(name, "InnerProduct", (StoredBlob(copy),))
            for name, copy in zip("ab", copies, strict=True)
        ]
    )
    assert torch.equal(net.layer_params("a")[0], torch.full((2, 3), 2.0))


def test_a_net_without_inputs_says_so():
    net = net_of('layer { name: "p" type: "Parameter" top: "w" }')
    with pytest.raises(UsageError, match="the net has no inputs; give an empty dict"):
        net(torch.zeros(1))


SIGMOID_DROPOUT = (
    conv("c", "b0") + layer("s", "Sigmoid", "c", "s") + layer("d", "Dropout", "s", "s")
    + layer("l", "Reduction", "s", more="loss_weight: 1")
)  # fmt: skip
FLATTEN_RELU = (
    layer("f", "Flatten", "b0", "f") + layer("r", "ReLU", "f", "f") + layer("a", "AbsVal", "b0")
)


@pytest.mark.parametrize(
    ("text", "phase", "grad", "expected"),
    [
        (SIGMOID_DROPOUT, "TRAIN", True, "Diffs of net '' are not Caffe's: layer 'd' (Dropout)"),
        (SIGMOID_DROPOUT, "TRAIN", False, ""),
        (SIGMOID_DROPOUT, "TEST", True, ""),
        (FLATTEN_RELU, "TEST", False, "Data and diffs of net '' are not Caffe's: layer 'r' (ReLU)"),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_it_warns_once_where_numbers_are_not_caffes(text, phase, grad, expected, fast):
    net = net_of(text, X, phase=phase)
    run = net.optimized(engine="torch") if fast else net
    with torch.set_grad_enabled(grad), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(2):
            run({"b0": x()})
    expected = "" if fast and grad else expected  # which computes no gradients
    assert [warning.category for warning in found] == [SideEffectWarning] * bool(expected)
    assert all(str(warning.message).startswith(expected) for warning in found)
    assert fast or all(warning.filename == __file__ for warning in found)
