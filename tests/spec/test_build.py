"""What makes a net impossible, each with an error that names the layer; and what is computed."""

import pytest

from caffe_port.errors import LayerError, NetError, UnsupportedLayerError, UsageError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.build import MAX_ELEMENTS
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of

SCORES = INPUT + LABEL + conv("c", "x")


def refused(kind, text, **options):
    with pytest.raises(kind) as caught:
        spec_of(text, **options)
    return str(caught.value)


def shaped(*dims):
    return 'input: "x" input_shape { ' + " ".join(f"dim: {d}" for d in dims) + " }\n"


def test_a_type_of_another_phase_need_not_be_known():
    text = (
        INPUT + layer("a", "Warp", "x", more="include { phase: TRAIN }") + layer("b", "ReLU", "x")
    )
    assert [one.name for one in spec_of(text).layers] == ["input", "b"]
    assert "Warp" in refused(UnsupportedLayerError, text, phase="TRAIN")


def test_two_layers_of_one_name():
    text = INPUT + conv("a", "x") + conv("a", "a", "b")
    assert "two layers with parameters are named 'a'" in refused(NetError, text)
    phases = layer("a", "ReLU", "x", more="include { phase: TRAIN }") + layer(
        "a", "TanH", "x", more="include { phase: TEST }"
    )
    assert spec_of(INPUT + phases, phase="TRAIN").layer("a").type == "ReLU"


def test_a_name_that_a_split_takes():
    text = INPUT + layer("x_input_0_split", "ReLU", "x", "a") + layer("b", "ReLU", "x")
    names = [(one.name, one.is_inserted) for one in spec_of(text).layers]
    assert names == [
        ("input", False), ("x_input_0_split", True), ("x_input_0_split#2", False), ("b", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        layer("a", "ReLU", "x", "t") + layer("b", "ReLU", "t", "u") + layer("c", "ReLU", "u", "t"),
        layer("a", "ReLU", "x", "t") + layer("b", "Eltwise", "x t", "t"),
        layer("a", "Split", "x", "t t"),
    ],
)
def test_two_layers_make_one_top(text):
    message = refused(NetError, INPUT + text)
    assert "top 't' is made by an earlier layer too" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (layer("a", "ReLU", "x x"), "layer 'a' (ReLU): 2 bottom blobs; expected 1"),
        (layer("a", "ReLU", ""), "0 bottom blobs; expected 1"),
        (layer("a", "ReLU", "x", ""), "0 top blobs; expected 1"),
        (layer("a", "Eltwise", "x"), "1 bottom blobs; expected 2 or more"),
        (layer("a", "SoftmaxWithLoss", "x", "a b c"), "bottom blobs; expected 2"),
        (conv("a", "x", options="kernel_size: 1"), "num_output is missing or 0"),
        (conv("a", "x", options="num_output: 2"), "layer 'a' (Convolution)"),
        (conv("a", "x", options="num_output: 2 kernel_size: 1 group: 2"), "group"),
        (conv("a", "x", options="num_output: 2 kernel_size: 99"), "layer 'a' (Convolution)"),
        (conv("a", "x", more="param {} " * 3), "3 param for 2 parameter blobs"),
        (conv("a", "x", more="propagate_down: true " * 2), "2 propagate_down for 1 bottoms"),
        (conv("a", "x", more="loss_weight: 1 " * 2), "2 loss_weight for 1 tops"),
    ],
)
def test_what_one_layer_does_not_accept(text, words):
    message = refused(LayerError, INPUT + text)
    assert words in message
    assert "layer 'a'" in message


def test_mismatched_shapes():
    small = conv("d", "x", options="num_output: 3 kernel_size: 3")
    text = INPUT + conv("c", "x") + small + layer("s", "Eltwise", "c d")
    message = refused(LayerError, text)
    assert "layer 's' (Eltwise)" in message
    assert "(2, 3, 6, 6)" in message
    assert "(2, 3, 4, 4)" in message
    wrong = SCORES.replace("dim: 1", "dim: 4") + layer("l", "SoftmaxWithLoss", "c y")
    assert "layer 'l' (SoftmaxWithLoss): 288 labels" in refused(LayerError, wrong)


@pytest.mark.parametrize("dims", [(1, 3, 40000, 40000), (2**31,), (2**62, 2**62)])
def test_shapes_beyond_caffes_blobs(dims):
    message = refused(LayerError, shaped(*dims))
    assert "layer 'input' (Input): top 'x' would have shape" in message
    assert str(MAX_ELEMENTS) in message


def test_a_negative_size():
    assert "layer 'input' (Input)" in refused(LayerError, shaped(1, -3))


def test_sizes_that_only_follow_from_the_options():
    wide = conv("a", "x", options="num_output: 4294967295 kernel_size: 1")
    assert "layer 'a' (Convolution): top 'a' would have" in refused(LayerError, INPUT + wide)
    options = "num_output: 1 kernel_size: 40000 pad: 40000 bias_term: false"
    huge = shaped(1, 2, 1, 1) + conv("a", "x", options=options)
    assert "parameter 'weight' would have shape (1, 2, 40000, 40000)" in refused(LayerError, huge)
    zoom = layer("a", "Interp", "x", more="interp_param { zoom_factor: 2147483647 }")
    assert "layer 'a' (Interp)" in refused(LayerError, INPUT + zoom)


def test_a_billion_pixels_are_described_without_being_allocated():
    spec = spec_of(shaped(1, 1, 32000, 32000) + layer("a", "ReLU", "x"))
    assert spec.shapes["a"] == (1, 1, 32000, 32000)


def test_phase_level_and_input_shapes_are_checked():
    for phase in ("train", "", "0"):
        message = refused(UsageError, INPUT, phase=phase)
        assert f"phase is '{phase}'; expected 'TRAIN' or 'TEST'" in message
    assert "level is" in refused(UsageError, INPUT, level=2**40)
    message = refused(UsageError, SCORES, input_shapes={"c": (1,), "z": (1,)})
    assert "a shape is given for c, z, which no Input or data layer makes" in message
    spec = spec_of(SCORES, input_shapes={"x": (1, 3, 9, 9)})
    assert spec.shapes["c"] == (1, 3, 9, 9)
    assert spec.shapes["y"] == (2, 1, 6, 6)


def test_loss_weights():
    loss = layer("l", "SoftmaxWithLoss", "c y")
    assert spec_of(SCORES + loss).layer("l").loss_weights == (1.0,)
    assert spec_of(SCORES).layer("c").loss_weights == (0.0,)
    two = layer("l", "SoftmaxWithLoss", "c y", "l p")
    assert "a loss with 2 tops and no loss_weight" in refused(LayerError, SCORES + two)
    given = layer("l", "SoftmaxWithLoss", "c y", "l p", "loss_weight: 3 loss_weight: 0")
    assert spec_of(SCORES + given).layer("l").loss_weights == (3.0, 0.0)


def test_losses_without_tops_make_their_own_which_are_no_outputs():
    losses = layer("l", "SoftmaxWithLoss", "c y", "") + layer("m", "SoftmaxWithLoss", "c y", "")
    spec = spec_of(SCORES + losses)
    assert spec.layer("l").tops == ("(automatic)",)
    assert spec.layer("m").tops == ("(automatic) of m",)
    assert spec.layer("m").loss_weights == (1.0,)
    assert spec.outputs == ()
    unreadable = layer("l", "SoftmaxWithLoss", "c y", "") + layer("r", "ReLU", "(automatic)", "r")
    assert "which no layer makes" in refused(NetError, SCORES + unreadable)


def test_outputs_are_what_no_layer_reads_by_name():
    text = SCORES + layer("b", "ReLU", "c") + layer("a", "ReLU", "c") + layer("i", "TanH", "a", "a")
    assert spec_of(text).outputs == ("a", "b", "y")


def test_unknown_fields_reach_their_layer():
    spec = spec_of(
        INPUT
        + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" my_param { k: 2 } my_flag: true '
        "twice: 1 twice: 2 relu_param { soft: 1 } }"
    )
    assert spec.layer("r").extra == {
        "my_param": {"k": [2]}, "my_flag": True, "twice": [1, 2], "relu_param.soft": 1
    }  # fmt: skip
    assert spec.layer("input").extra == {}
    assert [field.field for field in spec.unknown][:2] == ["my_param", "my_flag"]


def test_an_empty_net():
    spec = spec_of("")
    assert (spec.layers, spec.inputs, spec.outputs, dict(spec.shapes)) == ((), (), (), {})
    assert spec.message() == caffe_pb2.NetParameter(
        name="", force_backward=False, state=caffe_pb2.NetState(phase=caffe_pb2.TEST)
    )
