"""caffe_pb2's binary methods: every dialect's caffemodels mean what their prototxts say."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from caffe_port.proto import wire
from caffe_port.proto.binary import read_net_binary
from caffe_port.proto.upgrade import upgrade_net
from caffe_port.pycaffe import caffe_pb2
from caffe_port.weights import read_weights
from tests.goldens_dir import GOLDENS, cases

NETS = GOLDENS / "nets"
MODELS = [
    folder / "net.caffemodel"
    for kind in ("nets", "layers")
    for folder in cases(kind)
    if (folder / "net.caffemodel").is_file()
]
V1 = NETS / "deeplab1_largefov_v1_hole" / "net.caffemodel"
V2 = NETS / "deeplab_largefov_train" / "net.caffemodel"


def read(path: Path) -> caffe_pb2.NetParameter:
    return caffe_pb2.NetParameter.FromString(path.read_bytes())


def layer(net: caffe_pb2.NetParameter, name: str):
    return next(one for one in (*net.layer, *net.layers) if one.name == name)


def test_deeplab_v1() -> None:
    net = read(V1)
    assert layer(net, "fc6").convolution_param.hole == 12
    interp = layer(net, "fc8_interp")
    assert interp.type == caffe_pb2.V1LayerParameter.INTERP == 41
    assert interp.interp_param.zoom_factor == 8
    assert len(layer(net, "fc6").blobs) == 2


def test_deeplab_v2() -> None:
    net = read(V2)
    shrink = layer(net, "label_shrink")
    assert shrink.interp_param.shrink_factor == 8
    assert not shrink.HasField("input_param")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_every_recorded_caffemodel(path: Path) -> None:
    """Options as ``read_net_binary`` reads them, blobs as ``read_weights`` does; and written."""
    net = read(path)
    plain = caffe_pb2.NetParameter()
    plain.CopyFrom(net)
    for message, kept in zip((*net.layers, *net.layer), read_weights(path).layers, strict=True):
        for blob, array in zip(message.blobs, kept.blobs, strict=True):
            assert np.array_equal(np.array(blob.data, np.float32), array.data.ravel())
    for message in (*plain.layer, *plain.layers):
        message.ClearField("blobs")
    embedded = read_net_binary(path)
    upgrade_net(plain, dialect=embedded.dialect)
    assert plain == embedded.message
    again = net.SerializeToString()
    assert sorted(again) == sorted(path.read_bytes())  # the same, fields in another order
    assert caffe_pb2.NetParameter.FromString(again) == net


@pytest.mark.parametrize("path", [V1, V2], ids=["v1", "v2"])
def test_each_way_to_read_and_to_copy(path: Path) -> None:
    data, net = path.read_bytes(), read(path)
    for method in ("ParseFromString", "MergeFromString"):
        other = caffe_pb2.NetParameter(name="old")
        getattr(other, method)(memoryview(data) if method == "ParseFromString" else data)
        assert other == net
    assert copy.deepcopy(net) == pickle.loads(pickle.dumps(net)) == net
    merged = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="first")])
    merged.MergeFromString(data)
    assert len(merged.layer) == 1 + len(net.layer)


def test_layers_alone() -> None:
    """Scripts that read huge caffemodels take them apart, layer by layer."""
    for path, number in ((V1, 2), (V2, 100)):
        data, net = path.read_bytes(), read(path)
        parts = [item for item in wire.fields(memoryview(data)) if item.number == number]
        for item, one in zip(parts, (*net.layers, *net.layer), strict=True):
            alone = type(one).FromString(data[item.start : item.end])
            assert alone == one


def test_a_text_that_becomes_binary_and_text_again() -> None:
    text = (
        'layers { name: "a" type: IMAGE_SEG_DATA top: "x" image_data_param { label_type: PIXEL } }'
        'layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { hole: 3 } '
        "strict_dim: false }"
    )
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    encoded = net.SerializeToString()
    assert b"\x28\x27" in encoded  # type 39, DeepLab v1's number
    assert b"\x88\x01\x03" in encoded  # hole, its 17
    assert caffe_pb2.NetParameter.FromString(encoded) == net


@pytest.mark.parametrize("data", [b"\x0a\xff", V2.read_bytes()[:-7], V1.read_bytes()[: 1 << 10]])
def test_broken_bytes_raise_what_scripts_catch(data: bytes) -> None:
    with pytest.raises(DecodeError):
        caffe_pb2.NetParameter.FromString(data)


def test_an_empty_net() -> None:
    assert caffe_pb2.NetParameter.FromString(b"") == caffe_pb2.NetParameter()
    assert caffe_pb2.NetParameter().SerializeToString() == b""
