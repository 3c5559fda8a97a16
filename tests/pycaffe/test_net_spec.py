"""Nets written in Python, read back as messages."""
# ruff: noqa: C408, N812 - written as pycaffe's users write

import copy

import pytest
from google.protobuf import text_format

import caffe_port.pycaffe as caffe
from caffe_port.proto import caffe_pb2
from caffe_port.pycaffe import layers as L
from caffe_port.pycaffe import params as P
from caffe_port.pycaffe import to_proto


def message(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_a_named_net() -> None:
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module="m", layer="C", ntop=2, param_str="{}")
    n.conv = L.Convolution(
        n.data, num_output=4, kernel_size=[3, 5], pad=1,
        param=[dict(lr_mult=1), dict(lr_mult=2, decay_mult=0)],
        weight_filler=dict(type="gaussian", std=0.5),
    )  # fmt: skip
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(n.relu, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n.up = L.Deconvolution(n.pool, convolution_param=dict(num_output=1, kernel_size=4))
    n.loss = L.SoftmaxWithLoss(n.up, n.label, loss_param=dict(normalize=False, ignore_label=255))
    wanted = """
    layer { name: "data" type: "Python" top: "data" top: "label"
      python_param { module: "m" layer: "C" param_str: "{}" } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
      param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
      convolution_param { num_output: 4 pad: 1 kernel_size: 3 kernel_size: 5
        weight_filler { type: "gaussian" std: 0.5 } } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
      pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
    layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
      convolution_param { num_output: 1 kernel_size: 4 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss"
      loss_param { normalize: false ignore_label: 255 } }"""
    assert n.to_proto() == message(wanted)


def test_names_are_made_where_none_are_given() -> None:
    data = L.Input(shape=dict(dim=[1, 2]))
    one, two = L.Slice(data, ntop=2)
    wanted = """
    layer { name: "Input1" type: "Input" top: "Input1" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "Slice1" type: "Slice" bottom: "Input1" top: "Slice1" top: "Slice2" }
    layer { name: "ReLU1" type: "ReLU" bottom: "Slice1" top: "ReLU1" }
    layer { name: "ReLU2" type: "ReLU" bottom: "Slice2" top: "ReLU2" }"""
    assert to_proto(L.ReLU(one), L.ReLU(two)) == message(wanted)
    assert len(one.to_proto().layer) == 2


def test_layers_without_tops_and_layer_fields() -> None:
    n = caffe.NetSpec()
    n.data = L.DummyData(shape=dict(dim=3), include=dict(phase=caffe.TRAIN))
    n["quiet"] = L.Silence(n["data"], ntop=0)
    wanted = """
    layer { name: "data" type: "DummyData" top: "data" include { phase: TRAIN }
      dummy_data_param { shape { dim: 3 } } }
    layer { name: "quiet" type: "Silence" bottom: "data" }"""
    assert n.to_proto() == message(wanted)
    assert list(n.tops) == ["data", "quiet"]


def test_an_unassigned_layer_between_gets_a_name() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    n.out = L.ReLU(L.Power(n.data, shift=1))
    assert [layer.name for layer in n.to_proto().layer] == ["data", "Power1", "out"]


def test_inputs_that_are_not_tops_are_refused() -> None:
    tops = L.DummyData(ntop=2)
    with pytest.raises(
        TypeError, match=r"Silence input 0 is not a Top \(type is <class 'tuple'>\)"
    ):
        L.Silence(tops, ntop=0)


def test_an_option_that_no_message_has_is_refused() -> None:
    with pytest.raises(AttributeError):
        to_proto(L.Convolution(L.Input(), kernel=3))


def test_a_spec_can_be_copied() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    assert list(copy.copy(n).tops) == ["data"]
    with pytest.raises(AttributeError):
        getattr(P, "__wrapped__")  # noqa: B009
