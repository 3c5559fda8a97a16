"""Prototxt into messages: against protobuf's own parser, and what it is refused for."""

import contextlib
import os

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2, parse_net, read_file, read_net_text, read_solver
from caffe_port.proto.text import MAX_BYTES, parse_text
from tests.goldens_dir import FULL_GOLDENS, FULL_SHAPES, GOLDENS, SHAPES

ROOTS = [root for root in (GOLDENS, SHAPES, FULL_GOLDENS, FULL_SHAPES) if root is not None]
TEXTS = sorted({path for root in ROOTS for path in root.rglob("*.prototxt")})


def parse(text, message=None):
    return parse_text(text, message or caffe_pb2.NetParameter(), path="net.prototxt")


def refused(text, message=None):
    with pytest.raises(FormatError) as caught:
        parse(text, message)
    return caught.value


def empty_of(path):
    solver = "solver" in path.name
    return caffe_pb2.SolverParameter() if solver else caffe_pb2.NetParameter()


def test_every_recorded_prototxt_reads_as_protobuf_reads_it():
    assert len(TEXTS) > 250
    for path in TEXTS:
        text = read_file(path)
        for name in ("ROOT", "EXP", "DATA_ROOT"):
            text = text.replace(f"${{{name}}}", "x")
        message, unknown = parse(text, empty_of(path))
        assert unknown == (), path
        assert message == text_format.Parse(text, empty_of(path)), path
        printed = text_format.MessageToString(message)
        assert parse(printed, empty_of(path))[0] == message, path


def test_every_kind_of_value():
    text = """
    name: "n" force_backward: t debug_info: False
    state { phase: TRAIN level: -0x10 stage: "a" stage: "b" }
    layer { loss_weight: [1, -inf, 010, .5f, 1e3] include { phase: 1 } }
    """
    net = parse(text)[0]
    assert net.force_backward
    assert not net.debug_info
    assert net.state.level == -16
    assert list(net.state.stage) == ["a", "b"]
    assert list(net.layer[0].loss_weight) == [1, -np.inf, 8, 0.5, 1000]
    assert net.layer[0].include[0].phase == caffe_pb2.TEST


LAYER = "layer {\n  %s\n}"


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("pooling_param { pool: MIN }", 2, "'pool' takes one of MAX, AVE, STOCHASTIC; found 'MIN'"),
        ("include { phase: 7 }", 2, "'phase' takes one of TRAIN, TEST; found '7'"),
        ("include { phase: 'TEST' }", 2, "'phase' takes one of"),
        ("convolution_param { num_output: -1 }", 2, "whole number from 0 to 4294967295"),
        ("convolution_param { num_output: 4294967296 }", 2, "whole number from 0 to 4294967295"),
        ("convolution_param { num_output: 1e3 }", 2, "whole number"),
        ("convolution_param { num_output: 08 }", 2, "whole number"),
        ("convolution_param { num_output: '3' }", 2, "whole number"),
        ("convolution_param { num_output: " + "9" * 5000 + " }", 2, "whole number"),
        ("convolution_param { bias_term: 2 }", 2, "true or false"),
        ("loss_weight: half", 2, "'loss_weight' takes a number, found 'half'"),
        ("loss_weight: '1'", 2, "takes a number"),
        ("name: 5", 2, "'name' takes a quoted string, found '5'"),
        ("name: x", 2, "'name' takes a quoted string"),
        ("name { }", 2, "'name' takes a single value, found a block"),
        ("include: 5", 2, "'include' takes a block"),
        ("name: 'a'\nname: 'b'", 3, "'name' is given more than once"),
        ("pooling_param {}\npooling_param {}", 3, "'pooling_param' is given more than once"),
        ("name: 'a'\nmat_write_param { }", 3, "'mat_write_param' lacks prefix"),
        ("pooling_param { pool: " + "M" * 5000 + " }", 2, "takes one of"),
    ],
)
def test_wrong_values_are_named_with_their_line(body, line, words):
    error = refused(LAYER % body)
    assert error.line == line
    assert words in str(error)
    assert error.path == "net.prototxt"
    assert len(str(error)) < 400


def test_layer_and_layers_in_one_file():
    error = refused('layer { name: "a" }\nlayers { name: "b" }')
    assert (error.line, error.column) == (2, 1)
    assert "both 'layer' and 'layers'" in str(error)
    assert refused('layers { name: "b" }\n\nlayer { }').line == 3


def test_unknown_fields_are_kept_with_layer_path_and_line():
    text = """layer {
      my_param { size: 3 size: 4 on: true mode: FAST rate: 1.5 name: "x" deep { } }
      name: "l" type: "ReLU" relu_param { my_flag: -2 }
    }
    my_net_field: inf"""
    _, unknown = parse(text)
    found = {(field.layer, field.field): (field.value, field.line) for field in unknown}
    assert found == {
        ("l", "my_param"): (
            {"size": [3, 4], "on": [True], "mode": ["FAST"], "rate": [1.5], "name": ["x"],
             "deep": [{}]}, 2,
        ),
        ("l", "relu_param.my_flag"): (-2, 3),
        ("", "my_net_field"): (np.inf, 5),
    }  # fmt: skip
    assert str(unknown[1]) == "line 3: layer 'l': unknown field 'relu_param.my_flag'"
    v0 = parse('layers { layer { name: "old" type: "conv" odd: 1 } }')[1]
    assert v0[0].layer == "old"


def test_bytes_that_are_not_utf8_are_allowed_in_comments_only(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"# r\xe9seau \xb2\xe2\nname: 'ok' # \xff\n")
    net = read_net_text(path)
    assert net.message.name == "ok"
    net.text.encode()  # what is remembered can be written
    for bad in (b"\n\nname: 'r\xe9seau'", b"\n\nname: '\\351'", b"\n\nmine: 'r\xe9seau'"):
        path.write_bytes(bad)
        with pytest.raises(FormatError, match="not UTF-8") as caught:
            read_net_text(path)
        assert caught.value.line == 3
    path.write_bytes(b"\xef\xbb\xbfname: 'with a byte order mark'")
    assert read_net_text(path).message.name == "with a byte order mark"


def test_files_that_are_not_text(tmp_path, monkeypatch):
    binary = tmp_path / "net.prototxt"
    binary.write_bytes((GOLDENS / "layers/bvlc_conv_1x1/net.caffemodel").read_bytes())
    with pytest.raises(FormatError, match="binary file, expected prototxt") as caught:
        read_file(binary)
    assert caught.value.offset == 1
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(FormatError, match=words) as caught:
            read_file(path)
        assert caught.value.path == os.fspath(path)
    monkeypatch.setattr("caffe_port.proto.text.MAX_BYTES", 10)
    binary.write_text("# " + "x" * 9)
    with pytest.raises(FormatError, match="too large"):
        read_file(binary)
    assert MAX_BYTES > 10_000_000


def test_a_solver_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 0.1\nmy_lr: 2\n")
    with pytest.raises(FormatError, match="unknown field 'my_lr'") as caught:
        read_solver(path)
    assert caught.value.line == 2
    path.write_text('net: "${NET}"')
    assert read_solver(path, {"NET": "a.prototxt"}).net == "a.prototxt"


@given(st.text())
@example("x: \ud800")
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(FormatError):
        assert parse_net(text).generation in ("V0", "V1", "V2")


WORDS = st.sampled_from(
    ["layer", "layers", "name", "type", "input", "input_dim", "input_shape", "dim", "param", "{",
     "}", "<", ">", "[", "]", ":", ",", ";", "-", "#", "\n", "'x'", '"', "5", "1.5", "08",
     "0x", "inf",
     "TEST", "CONVOLUTION", "include", "phase", "convolution_param", "pad", "hole",
     "dilation", "kernel_size", "lr_mult", "batch_norm_param", "blobs_lr", "my_param", "${A}",
     "true", "\\"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(WORDS, max_size=40))
def test_any_words_of_prototxt_are_read_or_refused(words):
    with contextlib.suppress(FormatError):
        assert parse_net(" ".join(words)).generation in ("V0", "V1", "V2")


def scalars(field):
    kind = field.type
    if kind == field.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return st.floats(width=32, allow_nan=False)
    if kind == field.TYPE_BOOL:
        return st.booleans()
    if kind == field.TYPE_STRING:
        return st.text(max_size=6)
    if kind == field.TYPE_BYTES:
        return st.binary(max_size=6)
    bits, signed = {
        field.TYPE_INT32: (32, True), field.TYPE_INT64: (64, True),
        field.TYPE_UINT32: (32, False), field.TYPE_UINT64: (64, False),
    }[kind]  # fmt: skip
    return (
        st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if signed
        else st.integers(0, 2**bits - 1)
    )


@st.composite
def messages(draw, make, depth=3):
    message = make()
    fields = [f for f in message.DESCRIPTOR.fields if depth or f.type != f.TYPE_MESSAGE]
    fields = [f for f in fields if f.name != "layers" or message.DESCRIPTOR.name != "NetParameter"]
    if not fields:  # a message of nothing but messages, too deep already
        return message
    chosen = draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda f: f.name))
    for field in fields:
        required = field.is_required if hasattr(field, "is_required") else field.label == 2
        if field not in chosen and not required:
            continue
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
        if field.type == field.TYPE_MESSAGE:
            inner = field.message_type._concrete_class
            for _ in range(draw(st.integers(1, 2)) if repeated else 1):
                value = draw(messages(inner, depth - 1))
                target = getattr(message, field.name)
                (target.add() if repeated else target).CopyFrom(value)
        elif repeated:
            getattr(message, field.name).extend(
                draw(st.lists(scalars(field), min_size=1, max_size=3))
            )
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


@settings(max_examples=100, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_random_messages_come_back_as_they_were_printed(data, as_utf8, one_line):
    for make in (caffe_pb2.NetParameter, caffe_pb2.SolverParameter, caffe_pb2.Datum):
        message = data.draw(messages(make))
        if not message.IsInitialized():  # a required field deeper than this goes
            continue
        text = text_format.MessageToString(message, as_utf8=as_utf8, as_one_line=one_line)
        assert parse(text, make()) == (message, ())


@pytest.mark.parametrize(
    ("type", "options"), [("Convolution", "convolution_param"), ("ReLU", "relu_param"),
                          ("Pooling", "pooling_param"), ("SPP", "spp_param"), ("LRN", "lrn_param")]
)  # fmt: skip
@pytest.mark.parametrize("word", ["MKL2017", "MKLDNN", "FFT", '"MKL2017"'])
def test_an_unknown_engine_has_no_effect_and_is_noted(type, options, word):
    text = f'layer {{ name: "l" type: "{type}"\n {options} {{ engine: {word} }} }}'
    net, (noted,) = parse(text)
    assert net == parse(f'layer {{ name: "l" type: "{type}" {options} {{ }} }}')[0]
    found = word.strip('"')
    message = (
        f"line 2: layer 'l': '{options}.engine: {found}' is of another Caffe; it has no effect"
    )
    assert str(noted) == message
    assert parse(text.replace(word, "CUDNN"))[1] == ()
    assert "'engine' takes one of DEFAULT" in str(refused(text.replace(word, "7")))


def test_unknown_words_that_change_results_are_errors():
    for text, words in {
        "pooling_param { pool: MEDIAN }": "'pool' takes one of MAX, AVE, STOCHASTIC; found",
        "data_param { backend: IMAGES }": "'backend' takes one of LEVELDB, LMDB; found",
    }.items():  # fmt: skip
        assert words in str(refused(f"layer {{ {text} }}"))
