"""Split layers: where they come, how they and their copies are called."""

import pytest

from caffe_port.errors import NetError
from tests.goldens_dir import GOLDENS
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of


def wiring(spec):
    return {one.name: (one.bottoms, one.tops) for one in spec.layers}


def test_a_blob_with_one_reader_has_no_split():
    spec = spec_of(INPUT + layer("a", "ReLU", "x") + layer("b", "ReLU", "a"))
    assert [one.type for one in spec.layers] == ["Input", "ReLU", "ReLU"]


def test_names_of_split_and_copies():
    spec = spec_of(
        INPUT + layer("a", "ReLU", "x") + layer("b", "ReLU", "a") + layer("c", "TanH", "a")
    )
    assert [one.name for one in spec.layers] == ["input", "a", "a_a_0_split", "b", "c"]
    assert wiring(spec)["a_a_0_split"] == (("a",), ("a_a_0_split_0", "a_a_0_split_1"))
    assert wiring(spec)["b"][0] == ("a_a_0_split_0",)
    assert wiring(spec)["c"][0] == ("a_a_0_split_1",)
    assert spec.shapes["a_a_0_split_1"] == (2, 3, 6, 6)


def test_the_producer_is_the_last_writer_in_place():
    spec = spec_of(
        INPUT + conv("c", "x") + layer("r", "ReLU", "c", "c") + layer("d", "Dropout", "c", "c")
        + layer("e", "ReLU", "c") + layer("f", "ReLU", "c")
    )  # fmt: skip
    assert [one.name for one in spec.layers][3:5] == ["d", "c_d_0_split"]
    assert wiring(spec)["r"] == (("c",), ("c",))


def test_second_tops_are_numbered():
    two = 'input: "w" input_shape { dim: 1 } '
    spec = spec_of(INPUT + two + layer("a", "ReLU", "w") + layer("b", "ReLU", "w"))
    assert "w_input_1_split" in wiring(spec)


def test_a_layer_that_reads_a_blob_twice_gets_two_copies():
    spec = spec_of(INPUT + layer("s", "Eltwise", "x x"))
    assert wiring(spec)["s"][0] == ("x_input_0_split_0", "x_input_0_split_1")


def test_an_explicit_loss_weight_is_a_reader_and_takes_the_first_copy():
    text = (
        INPUT + LABEL + conv("c", "x") + layer("l", "SoftmaxWithLoss", "c y", "l", "loss_weight: 2")
    )
    spec = spec_of(text + layer("r", "ReLU", "l"))
    split = spec.layer("l_l_0_split")
    assert split.tops == ("l_l_0_split_0", "l_l_0_split_1")
    assert split.loss_weights == (2.0, 0.0)
    assert spec.layer("r").bottoms == ("l_l_0_split_1",)
    assert spec.layer("l").message.loss_weight == []
    # as in Caffe, the loss without its explicit weight falls back to 1
    assert spec.layer("l").loss_weights == (1.0,)
    assert "l_l_0_split_0" in spec.outputs


@pytest.mark.parametrize("weight", ["", "loss_weight: 0"])
def test_a_default_loss_weight_is_not_a_reader(weight):
    text = INPUT + LABEL + conv("c", "x") + layer("l", "SoftmaxWithLoss", "c y", "l", weight)
    spec = spec_of(text + layer("r", "ReLU", "l"))
    assert spec.layer("r").bottoms == ("l",)


def test_a_loss_weight_alone_needs_no_split():
    spec = spec_of(INPUT + conv("c", "x", more="loss_weight: 0.5"))
    assert spec.layer("c").loss_weights == (0.5,)
    assert len(spec.layers) == 2


def test_the_prototxt_is_not_changed():
    from caffe_port.proto import parse_net
    from caffe_port.spec.sharing import insert_splits

    net = parse_net(INPUT + layer("a", "ReLU", "x") + layer("b", "ReLU", "x")).message
    before = net.SerializeToString()
    assert len(insert_splits(list(net.layer))) == 4
    assert net.SerializeToString() == before


def test_names_equal_those_caffe_recorded():
    import numpy as np

    from caffe_port import NetSpec

    for case in ("layers/bvlc_split_fanout", "nets/deeplab1_largefov_v1_hole"):
        folder = GOLDENS / case
        with np.load(folder / "case.npz") as arrays:
            recorded = {key[5:] for key in arrays.files if key.startswith("data/")}
        assert recorded <= set(NetSpec.read(folder / "net.prototxt").shapes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (INPUT + layer("a", "ReLU", "nothing"),
         "layer 'a' (ReLU): bottom 0 is 'nothing', which no layer"),
        (INPUT + layer("a", "Eltwise", "x b") + layer("b", "ReLU", "a"),
         "layer 'a' (Eltwise): bottom 1 is 'b', made by the later layer 'b': a cycle"),
        (INPUT + layer("a", "ReLU", "a"), "bottom 0 is 'a', made by itself: a cycle"),
    ],
)  # fmt: skip
def test_missing_bottoms_and_cycles(text, words):
    with pytest.raises(NetError) as caught:
        spec_of(text)
    assert words in str(caught.value)
