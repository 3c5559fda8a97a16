"""Weights for the tests: made by protobuf itself, or byte by byte where it cannot make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.proto import caffe_pb2, wire
from caffe_port.weights import StoredBlob, StoredLayer

Array = npt.NDArray[Any]


def array(*shape: int, dtype: str = "f4", seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def message_blob(values: Array) -> Any:
    """A BlobProto as Caffe fills it."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(values.shape)
    field = blob.double_data if values.dtype == np.float64 else blob.data
    field.extend(values.ravel().tolist())
    return blob


def small_net() -> Any:
    """A V2 NetParameter with two layers that hold blobs and one that does not."""
    net = caffe_pb2.NetParameter(name="small")
    conv = net.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"])
    conv.blobs.extend([message_blob(array(2, 3, 1, 1)), message_blob(array(2, seed=1))])
    conv.convolution_param.num_output = 2
    net.layer.add(name="relu", type="ReLU", bottom=["conv"], top=["conv"])
    net.layer.add(name="ip", type="InnerProduct").blobs.append(
        message_blob(array(2, 2, dtype="f8"))
    )
    return net


def field(number: int, payload: bytes) -> bytes:
    return wire.encode_bytes(number, payload)


def v2_file(*blobs: bytes) -> bytes:
    """A caffemodel with one layer that holds these BlobProtos."""
    layer = field(1, b"conv") + field(2, b"Convolution") + b"".join(field(7, b) for b in blobs)
    return field(1, b"net") + field(100, layer)


def v1_file(*layers: bytes) -> bytes:
    return field(1, b"net") + b"".join(field(2, layer) for layer in layers)


def shape(*dims: int) -> bytes:
    return field(7, field(1, b"".join(map(wire.encode_varint, dims))))


def floats(values: Sequence[float] | Array) -> bytes:
    return field(5, np.asarray(values, "<f4").tobytes())


def layer(name: str, *arrays: Array, type: str = "Convolution") -> StoredLayer:
    return StoredLayer(name, type, tuple(StoredBlob(a) for a in arrays))


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have one shape, one type and the same bits: also of NaNs and -0.0."""
    return (
        a.shape == b.shape
        and a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
        and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    )


def assert_same_layers(
    a: Sequence[StoredLayer], b: Sequence[StoredLayer], *, types: bool = True
) -> None:
    assert [x.name for x in a] == [x.name for x in b]
    for x, y in zip(a, b, strict=True):
        assert not types or x.type == y.type
        assert len(x.blobs) == len(y.blobs), x.name
        for p, q in zip(x.blobs, y.blobs, strict=True):
            assert same_bits(p.data, q.data), x.name
            assert same_bits(p.aligned(), q.aligned()), x.name
            assert p.legacy == q.legacy, x.name
