"""The options that caffemodels embed, read in every dialect's numbers and written in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import caffe_port
from caffe_port.errors import FormatError, UsageError
from caffe_port.proto import binary, caffe_pb2, parse_net, read_net_text, renumber, wire
from caffe_port.proto.binary import encode_layer, read_net_binary, to_schema
from caffe_port.spec import NetSpec
from tests.goldens_dir import FULL_GOLDENS, GOLDENS

ROOT = FULL_GOLDENS or GOLDENS
MODELS = sorted(
    str(path.parent.relative_to(ROOT))
    for kind in ("layers", "nets")
    for path in (ROOT / kind).glob("*/net.caffemodel")
    if (path.parent / "case.json").exists()
)


def text(number: int, value: str) -> bytes:
    return wire.encode_bytes(number, value.encode())


def v2(name: str, type: str, *fields: bytes) -> bytes:
    return wire.encode_bytes(100, text(1, name) + text(2, type) + b"".join(fields))


def v1(name: str, type: int, *fields: bytes) -> bytes:
    return wire.encode_bytes(2, text(4, name) + wire.encode_int(5, type) + b"".join(fields))


def ints(number: int, **fields: int) -> bytes:
    """A submessage of varints, as n8=2: field 8 is 2."""
    values = (wire.encode_int(int(name[1:]), value) for name, value in fields.items())
    return wire.encode_bytes(number, b"".join(values))


@pytest.fixture
def model(tmp_path: Path):
    def write(*parts: bytes) -> Path:
        path = tmp_path / "x.caffemodel"
        path.write_bytes(b"".join(parts))
        return path

    return write


def comparable(layer: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    """Without what Caffe adds when it writes: the phase, and defaults spelled out."""
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    for field in ("phase", "loss_weight") + (("param",) if layer.type == "BatchNorm" else ()):
        copy.ClearField(field)
    return copy


@pytest.mark.parametrize("case", MODELS)
def test_caffes_own_files_embed_the_layers_of_their_prototxt(case: str) -> None:
    folder = ROOT / case
    phase = json.loads((folder / "case.json").read_text())["phase"]
    parsed = read_net_text(folder / "net.prototxt")
    spec = NetSpec.build(parsed.message, phase=phase, dialect=parsed.dialect)
    embedded = read_net_binary(folder / "net.caffemodel")
    assert embedded.unknown == ()
    assert embedded.dialect == parsed.dialect
    assert embedded.generation == ("V1" if "deeplab1" in case else "V2")
    wanted = {layer.name: comparable(layer) for layer in spec.message().layer}
    for layer in embedded.message.layer:
        assert not layer.blobs
        assert comparable(layer) == wanted.pop(layer.name)
    assert {layer.type for layer in wanted.values()} <= {"Input"}  # the forks keep only the names


def test_a_saved_net_embeds_its_options_in_the_forks_numbers(tmp_path: Path) -> None:
    folder = GOLDENS / "nets" / "deeplab_largefov_train"
    net = caffe_port.load(folder / "net.prototxt", folder / "net.caffemodel", phase="TRAIN")
    net.save(tmp_path / "again.caffemodel")
    wanted = {
        layer.name: layer for layer in read_net_binary(folder / "net.caffemodel").message.layer
    }
    embedded = read_net_binary(tmp_path / "again.caffemodel")
    assert embedded.dialect == "deeplab2"
    shared = [layer for layer in embedded.message.layer if layer.name in wanted]
    assert len(shared) == len(wanted)
    for layer in shared:
        assert comparable(layer) == comparable(wanted[layer.name])


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ('type: "Interp" interp_param { zoom_factor: 8 }', 143),
        ('type: "SegAccuracy" seg_accuracy_param { ignore_label: 255 }', 144),
        ('type: "MatRead" mat_read_param { prefix: "p" }', 151),
        ('type: "Input" input_param { shape { dim: 1 } }', 143),
        ('type: "Convolution" convolution_param { num_output: 1 }', 106),
        ('type: "SoftmaxWithLoss" softmaxloss_param { ignore_label: 3 }', 11044),
        ('type: "BN" bn_param { bn_mode: INFERENCE }', 20001),
        ('type: "Permute" permute_param { order: 0 }', 202),
        ('type: "PriorBox" prior_box_param { min_size: 30 }', 203),
        ('type: "Normalize" norm_param { eps: 0.5 }', 206),
    ],
)
def test_options_are_written_and_read_back(model, options: str, number: int) -> None:
    layer = parse_net(f'layer {{ name: "x" {options} }}').message.layer[0]
    encoded = encode_layer(layer)
    assert [item.number for item in wire.fields(memoryview(encoded))] == [1, 2, number]
    back = read_net_binary(model(wire.encode_bytes(100, encoded)))
    assert list(back.message.layer) == [layer]
    assert back.unknown == ()


@pytest.mark.parametrize("options", ['"SoftmaxWithLoss" softmaxloss_param { }',
                                     '"Padding" padding_param { pad_beg: 1 }'])  # fmt: skip
def test_a_v2_net_with_options_of_deeplab_v1_has_dilation_not_holes(model, options: str) -> None:
    text = (
        'layer { name: "c" type: "Convolution" convolution_param { dilation: 2 } } '
        f'layer {{ name: "x" type: {options} }} layer {{ name: "a" type: "ArgMax" }}'
    )
    parsed = parse_net(text)
    file = model(*(wire.encode_bytes(100, encode_layer(x)) for x in parsed.message.layer))
    for dialect in (None, "deeplab1"):
        embedded = read_net_binary(file, dialect)
        assert embedded.dialect == parsed.dialect == "deeplab1"
        assert embedded.message == parsed.message
    assert to_schema(file.read_bytes(), caffe_pb2.NetParameter.DESCRIPTOR) == file.read_bytes()


def test_the_dialect_decides_what_a_v1_number_means(model) -> None:
    loss = ints(42, n1=255)  # BVLC: loss_param.ignore_label; v1: seg_accuracy_param.metric
    plain = read_net_binary(model(v1("loss", 21, loss)))
    assert (plain.dialect, plain.generation) == ("bvlc", "V1")
    assert plain.message.layer[0].loss_param.ignore_label == 255
    forked = read_net_binary(model(v1("acc", 40, ints(42, n2=255)), v1("up", 41, ints(43, n3=8))))
    assert forked.dialect == "deeplab1"
    accuracy, interp = forked.message.layer
    assert (accuracy.type, list(accuracy.seg_accuracy_param.ignore_label)) == ("SegAccuracy", [255])
    assert (interp.type, interp.interp_param.zoom_factor) == ("Interp", 8)


@pytest.mark.parametrize(
    ("fields", "type", "dialect"),
    [
        ((), "Deconvolution", "bvlc"),
        ((ints(10, n1=4, n4=3),), "Deconvolution", "bvlc"),
        ((ints(15, n4=1),), "ImageSegData", "deeplab1"),
    ],
)
def test_v1_type_39(model, fields: tuple[bytes, ...], type: str, dialect: str) -> None:
    net = read_net_binary(model(v1("x", 39, *fields)))
    assert (net.message.layer[0].type, net.dialect) == (type, dialect)


def test_a_hole_shows_deeplab_v1_and_becomes_dilation(model) -> None:
    net = read_net_binary(model(v1("x", 4, ints(10, n1=4, n4=3, n17=2))))
    assert net.dialect == "deeplab1"
    assert list(net.message.layer[0].convolution_param.dilation) == [2]
    bvlc = read_net_binary(model(v1("x", 4, ints(10, n1=4, n17=1))), dialect="bvlc")
    assert bvlc.message.layer[0].convolution_param.force_nd_im2col


def test_deeplab_v2_and_its_copies_number_interp_differently(model) -> None:
    data = v2("data", "Input", wire.encode_bytes(143, ints(1, n1=5)))
    for number in (143, 153):
        net = read_net_binary(model(data, v2("up", "Interp", ints(number, n3=8))))
        assert net.dialect == "deeplab2"
        first, second = net.message.layer
        assert list(first.input_param.shape[0].dim) == [5]
        assert second.interp_param.zoom_factor == 8


def test_dialect_can_be_given(model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match=r"byte \d+: layer 'x': field 3 .*of another dialect"):
        read_net_binary(model(v2("x", "Mine", wire.encode_bytes(143, text(3, "8")))), "deeplab2")
    path = model(v2("x", "Mine", ints(143, n3=8)))
    assert read_net_binary(path, dialect="deeplab2").message.layer[0].interp_param.zoom_factor == 8
    monkeypatch.setenv("CAFFE_PORT_DIALECT", "deeplab2")
    assert read_net_binary(path).dialect == "deeplab2"
    with pytest.raises(UsageError, match="expected one of bvlc"):
        read_net_binary(path, dialect="caffe3")


def test_unknown_numbers_are_listed_and_left_out(model) -> None:
    net = read_net_binary(model(v2("x", "ReLU", ints(160, n1=1), ints(160, n1=1))))
    assert [str(field) for field in net.unknown] == [
        "layer 'x': unknown field 'LayerParameter number 160'"
    ]
    assert net.text == 'layer {\n  name: "x"\n  type: "ReLU"\n}\n'


def test_v0_layers_of_a_binary_file(model) -> None:
    layer = text(1, "c") + text(2, "conv") + wire.encode_int(3, 8)
    head = text(3, "data")
    net = read_net_binary(
        model(head, wire.encode_bytes(2, wire.encode_bytes(1, layer) + text(2, "data")))
    )
    assert net.generation == "V0"
    assert net.message.layer[0].convolution_param.num_output == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, or not a regular file"),
        (text(1, "only a name"), "no layers"),
        (v1("x", 99), "layer 'x': V1 type 99, which bvlc does not have"),
        (v2("x", "X", wire.encode_int(106, 1)), "'convolution_param' is length-delimited"),
        (v2("x", "X", ints(106, n7=1)), "'weight_filler' is length-delimited"),
        (v2("x", "X", wire.encode_int(1, 4)), "is varint, expected length-delimited"),
        (v2("x", "X")[:-1], "left"),
        (v2("x", "X") + v1("y", 4), "both 'layer' and 'layers'"),
        (wire.encode_bytes(100, b"\xff" * 11), "a varint is longer"),
    ],
)
def test_refuses_broken_files(model, content: bytes, message: str) -> None:
    path = model(content)
    with pytest.raises(FormatError) as caught:
        read_net_binary(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_words_of_forks_that_are_numbers_here_are_noted(model) -> None:
    """protobuf drops an unknown enum value, which leaves the default in its place."""
    net = read_net_binary(
        model(v2("c", "Convolution", ints(106, n15=3)) + v2("p", "Pooling", ints(121, n1=7)))
    )
    assert [str(field) for field in net.unknown] == [
        "layer 'c': 'engine: 3' is of another Caffe; it has no effect",
        "layer 'p': unknown field 'pool: 7'",
    ]
    assert not net.message.layer[1].pooling_param.HasField("pool")


def test_refuses_more_than_a_net_can_have(model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renumber, "MAX_OPTION_BYTES", 100)
    assert read_net_binary(model(v2("x", "X", text(7, "b" * 1000)))).message.layer[0].name == "x"
    with pytest.raises(FormatError, match="over 100 bytes of options"):
        read_net_binary(model(v2("x" * 101, "X")))
    monkeypatch.setattr(binary, "MAX_LAYERS", 2)
    with pytest.raises(FormatError, match="over 2 layers"):
        read_net_binary(model(v2("x", "X") * 3))


def test_every_truncation_is_read_or_refused(tmp_path: Path) -> None:
    whole = (GOLDENS / "nets" / "deeplab1_largefov_v1_hole" / "net.caffemodel").read_bytes()[:3000]
    path = tmp_path / "cut.caffemodel"
    refused = 0
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        try:
            read_net_binary(path)
        except FormatError:
            refused += 1
    assert refused > 100


def test_names_of_any_encoding_stay_distinct(model) -> None:
    net = read_net_binary(model(wire.encode_bytes(100, wire.encode_bytes(1, b"\xff\xe9"))))
    assert net.message.layer[0].name == "\\xff\\xe9"
