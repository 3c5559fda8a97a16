"""Whatever a prototxt asks of a layer, there is a named error, or tops of the shapes foretold."""

from __future__ import annotations

import contextlib
import math
import random
import re

import pytest
import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_port import NetSpec
from caffe_port.errors import CaffePortError
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import BUILTIN, op_class

#: types that read or write files, run code, or take long with odd numbers of iterations
LEFT_OUT = {
    "AdaptiveBiasChannel", "Data", "DenseCRF", "DenseImageData", "DetectionEvaluate",
    "DetectionOutput", "DomainTransform", "Filter", "HDF5Data", "HDF5Output", "ImageData",
    "ImageLabelmapData", "ImageSegData", "Input", "MatRead", "MatWrite", "MemoryData",
    "MultiStageMeanfield", "Proposal", "Python", "RPNAnchorTarget", "RPNProposal",
    "RPNProposalTarget", "WindowData",
}  # fmt: skip
OF_OTHERS = {
    "Deconvolution": ["convolution_param"], "Im2col": ["convolution_param"],
    "InfogainLoss": ["loss_param"], "LSTM": ["recurrent_param"], "Normalize": ["norm_param"],
    "RNN": ["recurrent_param"], "SigmoidCrossEntropyLoss": ["loss_param"],
    "SoftmaxWithLoss": ["softmax_param", "loss_param", "softmaxloss_param"],
}  # fmt: skip
LARGEST = 200_000  # values of all blobs and parameters
WHOLE = [0, 1, 1, 2, 2, 3, 5, 2**31 - 1]
REAL = [0, 1, -1, 0.5, 2, 300, 1e30, math.inf, -math.inf, math.nan]
TEXTS = ["", "x", "constant", "xavier", "gaussian", "uniform", "bilinear", "positive_unitball"]


def value(field: FieldDescriptor, chance: random.Random) -> object:
    kind = field.cpp_type
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return chance.choice([*WHOLE, 2**32 - 1])
    if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        return chance.choice([*WHOLE, -1, -2, -(2**31)])
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return chance.choice(REAL)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice([entry.number for entry in field.enum_type.values])
    return chance.choice(TEXTS) if kind == FieldDescriptor.CPPTYPE_STRING else chance.random() < 0.5


def scribble(message: Message, chance: random.Random, deeper: int = 2) -> None:
    for field in message.DESCRIPTOR.fields:
        if "source" in field.name or chance.random() > 0.3:
            continue
        given = getattr(message, field.name)
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if deeper:
                scribble(given.add() if hasattr(given, "add") else given, chance, deeper - 1)
        elif hasattr(given, "extend"):
            given.extend([value(field, chance) for _ in range(chance.choice([1, 1, 2]))])
        else:
            setattr(message, field.name, value(field, chance))


def one_layer(type: str, chance: random.Random) -> caffe_pb2.NetParameter:
    net, op = caffe_pb2.NetParameter(), op_class(type)
    counts = [low + chance.randrange((high or low + 2) - low + 1) for low, high in
              (op.bottoms, (op.tops[0], op.tops[1]))]  # fmt: skip
    first = [chance.choice([0, 1, 2, 3, 5]) for _ in range(chance.choice([0, 1, 2, 3, 4, 4, 4, 5]))]
    for i in range(counts[0]):
        shape = chance.choice(
            [first, first, first, first[:1], first[:2], [*first[:1], 1, *first[2:]]]
        )
        net.layer.add(name=f"b{i}", type="Input", top=[f"b{i}"]).input_param.shape.add().dim.extend(
            shape
        )
    layer = net.layer.add(name="op", type=type, top=[f"t{i}" for i in range(counts[1])])
    layer.bottom.extend(f"b{i}" for i in range(counts[0]))
    if counts[0] and counts[1] and chance.random() < 0.15:
        layer.top[0] = "b0"
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type).lower()
    for name in dict.fromkeys(
        [*OF_OTHERS.get(type, []), f"{snake}_param", f"{type.lower()}_param"]
    ):
        if name in layer.DESCRIPTOR.fields_by_name:
            scribble(getattr(layer, name), chance)
    return net


def run(net: caffe_pb2.NetParameter, chance: random.Random) -> bool:
    """Builds and runs a net, as it is and optimized; whether it was small enough to."""
    spec = NetSpec.build(net, phase=chance.choice(["TRAIN", "TEST"]))
    params = sum(math.prod(param.shape) for layer in spec.layers for param in layer.params)
    if params + sum(map(math.prod, spec.shapes.values())) > LARGEST:
        return False
    fed = {
        layer.tops[0]: torch.full(layer.top_shapes[0], chance.choice([0.0, 0.5, 2]))
        for layer in spec.layers
        if layer.type == "Input"
    }
    built = Net(spec)
    blobs = built(fed, keep="all")
    for name, shape in spec.shapes.items():
        assert blobs[name].shape == shape
    for name, data in built.optimized(engine="torch")(fed).items():
        assert data.shape == spec.shapes[name]
    learned = [blob.sum() for blob in blobs.values() if blob.requires_grad]
    if learned:
        torch.stack(learned).sum().backward()
    return True


@pytest.mark.filterwarnings("ignore:.*labels are not classes")
@pytest.mark.parametrize("seed", range(4))
def test_any_options(seed):
    chance, ran = random.Random(seed), set()
    for type in sorted(set(BUILTIN) - LEFT_OUT) * 6:
        net = one_layer(type, chance)
        with contextlib.suppress(CaffePortError):
            if run(net, chance):
                ran.add(type)
    assert len(ran) > 25
