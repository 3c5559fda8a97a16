"""Types and their layers: registered once, found when first met."""

import importlib
from dataclasses import dataclass
from typing import ClassVar

import pytest

import caffe_port
from caffe_port.errors import LayerError, UnsupportedLayerError
from caffe_port.layers import Layer, _registry, register_layer
from caffe_port.spec.ops import BUILTIN, Op, _base, known_types, op_class, register_op
from tests.layers.helpers import net_of


@pytest.fixture(autouse=True)
def registered_as_before():
    ops, layers = dict(_base._ops), dict(_registry._layers)
    yield
    for now, before in ((_base._ops, ops), (_registry._layers, layers)):
        mine = [t for t in now if t not in before and t not in BUILTIN]
        for type in mine:
            del now[type]


def make_op(name):
    @dataclass(frozen=True)
    class Mine(Op):
        type: ClassVar[str] = name

    return Mine


@pytest.mark.parametrize("type", sorted(BUILTIN))
def test_every_built_in_type_has_an_op_and_a_layer(type):
    op = op_class(type)
    assert op.type == type
    importlib.import_module(f"caffe_port.layers.{BUILTIN[type]}")
    layer = _registry._layers[type]
    assert issubclass(layer, Layer)
    assert layer.__module__.endswith(BUILTIN[type])


@pytest.mark.parametrize("type", ["ReLU", "Mine", *sorted(BUILTIN)[:3]])
def test_a_type_is_registered_once(type):
    if type == "Mine":
        register_op(make_op(type))
        register_layer(type)(Layer)
    # also where nothing has imported the package's own file yet
    with pytest.raises(ValueError, match="registered already"):
        register_op(make_op(type))
    with pytest.raises(ValueError, match="registered already"):
        register_layer(type)(Layer)


def test_a_type_needs_a_name():
    with pytest.raises(ValueError, match="empty or registered"):
        register_op(make_op(""))


def test_known_types_include_custom_types():
    assert "Mine" not in known_types()
    register_op(make_op("Mine"))
    assert "Mine" in known_types()
    assert known_types() == sorted(known_types())


MINE = 'layer { name: "m" type: "Mine" bottom: "b0" top: "y" }'


def test_an_op_without_a_layer_has_a_spec_and_no_net():
    register_op(make_op("Mine"))
    with pytest.raises(UnsupportedLayerError, match="no layer; use register_layer"):
        net_of(MINE, (1, 2))


def test_a_layer_without_a_forward():
    register_op(make_op("Mine"))
    register_layer("Mine")(Layer)
    with pytest.raises((TypeError, LayerError), match="defines no forward"):
        net_of(MINE, (1, 2)).run_layer("m", [1])


def test_parameters_of_a_custom_layer():
    @register_op
    @dataclass(frozen=True)
    class Mine(Op):
        type: ClassVar[str] = "Mine"

        def params(self, bottoms):
            return [caffe_port.spec.ops.ParamShape("gain", (bottoms[0][1],))]

    @register_layer("Mine")
    class MineLayer(Layer):
        def forward(self, *bottoms):
            return (bottoms[0] * self.blob(0),)

    net = net_of(MINE, (1, 2))
    assert list(net.state_dict()) == ["m.gain"]
    assert net.module("m").blob(1) is None
    assert not net.module("m").in_training
