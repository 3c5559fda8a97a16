"""Fields that the schema does not have: refused as in Caffe, warned of, or a fork's own."""

from __future__ import annotations

import warnings

import pytest

import caffe_port as cp
from caffe_port.errors import FormatError, LayerError, UnknownFieldWarning
from caffe_port.proto import caffe_pb2, dialects, parse_net
from caffe_port.proto.dialects import field_names
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import _base
from caffe_port.spec.rules import check_fields
from tests.spec.making import INPUT, LABEL, conv, layer


def checked(text: str, strict: bool) -> NetSpec:
    parsed = parse_net(text, path="net.prototxt")
    check_fields(parsed, strict=strict)
    return NetSpec.build(parsed.message, unknown=parsed.unknown)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (
            conv("c", "x", options="num_output: 2 kernel_size: 1 strid: 2"), "strid:",
            "layer 'c': unknown field 'convolution_param.strid'; is 'stride' meant?",
        ),
        (
            layer("f", "InnerProduct", "x",
                  more="inner_product_param { num_output: 1 bias_trem: false }"),
            "bias_trem",
            "layer 'f': unknown field 'inner_product_param.bias_trem'; is 'bias_term' meant?",
        ),
        ('layr { name: "r" }', "layr", "the net: unknown field 'layr'; is 'layer' meant?"),
        (layer("r", "ReLU", "x", more="zzz: 1"), "zzz", "layer 'r': unknown field 'zzz'"),
        (
            layer("r", "ReLU", "x", more="zzz: 1 include { phase: TRAIN }"), "zzz",
            "layer 'r': unknown field 'zzz'",
        ),
    ],
)  # fmt: skip
def test_a_misspelled_field(text: str, name: str, words: str) -> None:
    """Caffe 1.0 ends there: 'Message type ... has no field named ...'."""
    with pytest.raises(FormatError) as caught:
        checked(INPUT + text, strict=True)
    error = caught.value
    assert (error.path, error.line, error.column) == ("net.prototxt", 2, text.index(name) + 1)
    assert error.message.startswith(words)
    assert error.message.removeprefix(words).startswith("; strict_text=False")
    with pytest.warns(UnknownFieldWarning) as warned:
        checked(INPUT + text, strict=False)
    assert str(warned[0].message) == f"net.prototxt:\n  line 2: {words}"


def test_no_field_is_guessed_from_a_long_or_dissimilar_one() -> None:
    for name in ("a" * 10_000, "completely_other"):
        with pytest.warns(UnknownFieldWarning) as warned:
            checked(INPUT + f"{name}: 1", strict=False)
        assert "meant" not in str(warned[0].message)


def test_many_fields_are_counted() -> None:
    with pytest.warns(UnknownFieldWarning) as warned:
        checked(INPUT + "".join(f"mine{i}: 1\n" for i in range(45)), strict=False)
    lines = str(warned[0].message).splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 25 more")


@pytest.mark.parametrize("named", ['net: "a.prototxt"', 'train_net: "a.prototxt"'])
def test_a_solver_is_not_a_net(named: str) -> None:
    for strict in (True, False):
        with pytest.raises(FormatError, match=r"a solver's .* give the one it names, a.prototxt"):
            checked(f"{named} base_lr: 0.1 max_iter: 10", strict=strict)


@pytest.mark.parametrize(
    "text",
    [
        "default_forward_type: FLOAT16 reduce_buckets: 3",
        layer("c", "ReLU", "x", more="forward_type: FLOAT backward_math: FLOAT16"),
        conv("c", "x", options='num_output: 2 kernel_size: 1 conv_algos_override: "1,1,1"'),
        layer("r", "ReLU", "x", more="relu_param { engine: MKL2017 }"),
        # what changes results, with the value that changes none
        layer("b", "BatchNorm", "x", more="batch_norm_param { relu: false }"),
        layer("e", "ELU", "x", more="elu_param { lambda: 1.0 }"),
    ],
)
def test_forks_fields_without_effect_are_accepted(text: str) -> None:
    with pytest.warns(UnknownFieldWarning):
        checked(INPUT + text, strict=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            layer("b", "BatchNorm", "x", more="batch_norm_param { disable_mean: true }"),
            "'batch_norm_param.disable_mean' is a fork's option that is not implemented: remove",
        ),
        (
            conv("c", "x", options="num_output: 2 kernel_size: 1 relu: true"),
            "'convolution_param.relu' is a fork's option that is not implemented",
        ),
        (
            layer("l", "SoftmaxWithLoss", "x y", more="loss_param { label_smoothing: 0.1 }"),
            "'loss_param.label_smoothing' is a fork's option",
        ),
        (
            layer("d", "DummyData", "", "d", "dummy_data_param { shape { dim: 1 } } "
                  "transform_param { random_resize_param { min_size: 300 max_size: 600 } }"),
            "'transform_param.random_resize_param' is a fork's option",
        ),
    ],
)  # fmt: skip
def test_forks_fields_with_an_effect_are_never_only_warned_of(text: str, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownFieldWarning)
        with pytest.raises(LayerError, match=r"line 3: ") as caught:
            checked(INPUT + LABEL + text, strict=False)
    assert words in str(caught.value)


def test_fields_of_a_custom_type_are_its_own() -> None:
    class Mine(cp.Op):
        type = "Mine"

    cp.register_op(Mine)
    try:
        text = INPUT + layer("m", "Mine", "x", more="mine_param { relu: 1 } label_smoothing: 2")
        with pytest.warns(UnknownFieldWarning, match="mine_param"):
            spec = checked(text, strict=True)
        assert spec.layer("m").extra == {"mine_param": {"relu": [1]}, "label_smoothing": 2}
        with pytest.raises(FormatError, match=r"'relu_param\.slope'"):
            checked(text + layer("r", "ReLU", "x", more="relu_param { slope: 1 }"), strict=True)
    finally:
        del _base._ops["Mine"]


def test_the_table_names_messages_and_no_field_twice() -> None:
    for message, fields in [*dialects._HARMLESS.items(), *dialects._CHANGING.items()]:
        assert hasattr(caffe_pb2, message)
        assert not set(fields) & set(field_names(message)), message
    for message, fields in dialects._HARMLESS.items():
        assert not set(fields) & set(dialects._CHANGING.get(message, ())), message
