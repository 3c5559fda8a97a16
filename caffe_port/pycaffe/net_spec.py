"""Nets written in Python: ``layers``, ``params``, ``NetSpec``, ``to_proto``.

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 513, 513]))
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, pad=1)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    text = str(n.to_proto())

Source: BVLC/caffe python/caffe/net_spec.py.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from caffe_port.proto import caffe_pb2

_Names = dict[Any, str]  # of tops, and of functions without tops


def _option_fields() -> dict[str, str]:
    """Layer type -> field of its options: 'Convolution' -> 'convolution_param'."""
    fields = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith("_param") and field.message_type is not None:
            fields[field.message_type.name.removesuffix("Parameter")] = field.name
    return fields


_OPTION_FIELDS = _option_fields()


class Top:
    """One top of a function, which other functions take as a bottom.

    Attributes:
        fn: the function.
        n: the index of the top.
    """

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net that computes this top."""
        return to_proto(self)


class Function:
    """One layer: its type, bottoms and options.

    Args:
        type_name: the layer type.
        inputs: Tops.
        params: options. ``ntop`` (1) and ``in_place`` (False) are for this class; names that end
            in `param` and other fields of LayerParameter are set there, all others in the type's
            own message.
    Raises:
        TypeError: an input is not a Top.
    """

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> None:
        for i, given in enumerate(inputs):
            if not isinstance(given, Top):
                message = f"{type_name} input {i} is not a Top (type is {type(given)})"
                raise TypeError(message)
        self.type_name, self.inputs = type_name, inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class _Writer:
    """Turns functions into layer messages, bottoms first."""

    def __init__(self, names: _Names) -> None:
        self.layers: OrderedDict[Function, caffe_pb2.LayerParameter] = OrderedDict()
        self._names = names
        self._counts: Counter[str] = Counter()

    def add(self, fn: Function) -> None:
        if fn in self.layers:
            return
        for given in fn.inputs:
            self.add(given.fn)
        layer = caffe_pb2.LayerParameter(type=fn.type_name)
        layer.bottom.extend(self.layers[given.fn].top[given.n] for given in fn.inputs)
        layer.top.extend(layer.bottom if fn.in_place else map(self._name, fn.tops))
        layer.name = self._name(fn.tops[0] if fn.tops else fn)
        for key, value in fn.params.items():
            _set_option(layer, key, value)
        self.layers[fn] = layer

    def _name(self, of: Top | Function) -> str:
        if of not in self._names:
            type_name = of.fn.type_name if isinstance(of, Top) else of.type_name
            self._counts[type_name] += 1
            self._names[of] = f"{type_name}{self._counts[type_name]}"
        return self._names[of]

    def net(self) -> caffe_pb2.NetParameter:
        return caffe_pb2.NetParameter(layer=list(self.layers.values()))


def _set_option(layer: caffe_pb2.LayerParameter, key: str, value: Any) -> None:
    own = _OPTION_FIELDS.get(layer.type)
    if not key.endswith("param") and own is not None:
        options = getattr(layer, own)
        if key in options.DESCRIPTOR.fields_by_name:
            assign_proto(options, key, value)
            return
    assign_proto(layer, key, value)


def assign_proto(proto: Message, name: str, value: Any) -> None:
    """Sets a field of a message from Python values.

    Args:
        proto: the message.
        name: the field.
        value: dicts are messages, lists are repeated; a repeated field takes one value as well.
    Raises:
        AttributeError: the message has no such field.
    """
    field: Any = getattr(proto, name)
    if hasattr(field, "extend"):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                added = field.add()
                for key, part in item.items():
                    assign_proto(added, key, part)
            else:
                field.append(item)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            assign_proto(field, key, part)
    else:
        setattr(proto, name, value)


def to_proto(*tops: Any) -> caffe_pb2.NetParameter:
    """Makes the net of the given tops, with names from the types."""
    writer = _Writer({})
    for top in tops:
        writer.add(_function(top))
    return writer.net()


def _function(of: Top | Function) -> Function:
    return of.fn if isinstance(of, Top) else of


class NetSpec:
    """A net whose tops are named by assigning them: ``n.conv1 = L.Convolution(...)``.

    A layer is named like its first top.

    Attributes:
        tops: name -> Top, in order of assignment.
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # looked up by copy and pickle
            raise AttributeError(name)
        return self.tops[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all assigned tops and what they need."""
        writer = _Writer({top: name for name, top in self.tops.items()})
        for top in self.tops.values():
            writer.add(_function(top))
        return writer.net()


class Layers:
    """``layers.Convolution(bottom, kernel_size=3)`` and so on, for any layer type."""

    def __getattr__(self, type_name: str) -> Any:
        def make(*inputs: Any, **params: Any) -> Any:
            fn = Function(type_name, inputs, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return make


class Parameters:
    """``params.Pooling.AVE`` and so on: the enum values of a type's options."""

    def __getattr__(self, type_name: str) -> Any:
        if type_name.startswith("__"):
            raise AttributeError(type_name)
        return getattr(caffe_pb2, f"{type_name}Parameter")


layers = Layers()
params = Parameters()
