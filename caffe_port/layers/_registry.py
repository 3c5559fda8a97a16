"""The base class of layers in torch, and the registry of layer classes by type."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import LayerError, UnsupportedLayerError
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import BUILTIN, Shape
from caffe_port.spec.ops.inputs import FedData as Fed


@contextlib.contextmanager
def named(spec: LayerSpec) -> Iterator[None]:
    """Turns a ValueError about a layer's bottoms into a LayerError that names the layer."""
    try:
        yield
    except ValueError as error:
        raise LayerError(spec.name, spec.type, str(error)) from error


#: Whether ``torch.export`` runs; torch before 2.7 does not say.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", bool)


def learns(*tensors: Tensor) -> bool:
    """Whether a gradient with respect to one of them is wanted.

    A layer with a diff of its own computes without an autograd function where it is not, so that
    ``torch.jit`` can save what it traced.
    """
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def checks() -> bool:
    """Whether a layer looks at values, to refuse indices with a message of its own.

    A graph of torch.compile or torch.export cannot; there torch refuses them where it uses them.
    """
    return not torch.compiler.is_compiling()


def _empty(spec: LayerSpec, shape: Shape) -> Tensor:
    try:
        return torch.empty(shape)
    except RuntimeError as error:
        raise LayerError(spec.name, spec.type, f"no memory for a parameter {shape}") from error


class Layer(nn.Module):
    """One Caffe layer: bottoms in, a tuple of tops out.

    A subclass computes in ``forward`` and never writes into its bottoms; the net handles layers
    in place. The parameters of ``spec.params`` are there under their names and are read with
    ``param``; the op's options are ``spec.op``. State beyond parameters is kept in buffers.

    Args:
        spec: the connected layer.
    Class attributes:
        fills_itself: it sets the initial values of its parameters; no filler is run.
        writes_bottoms: it may write into its bottoms, which a built-in layer never does.
    Attributes:
        random: Caffe's generator, from which ``forward`` draws: set in ``__init__`` to
            ``caffe_port.data.rng.current()``. A recomputed pass draws the same numbers again.
    Examples:
        >>> import caffe_port as cp
        >>> @cp.register_layer("SumOverChannels")
        ... class SumOverChannels(cp.Layer):
        ...     def forward(self, *bottoms):
        ...         return (bottoms[0].sum(1, keepdim=True),)
    """

    fills_itself: ClassVar[bool] = False
    writes_bottoms: ClassVar[bool] = False
    random: CaffeRandom | None = None

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self._shapes = {param.name: param.shape for param in spec.params}
        for param in spec.params:
            # lr_mult 0 freezes: Caffe computes no diff for such a parameter
            blob = nn.Parameter(_empty(spec, param.shape), requires_grad=param.lr_mult != 0)
            self.register_parameter(param.name, blob)

    @property
    def in_training(self) -> bool:
        """Caffe's phase, fixed when the net is made; not torch's train() and eval()."""
        return self.spec.phase == "TRAIN"

    @property
    def in_place(self) -> bool:
        """Whether Caffe writes the first top over the first bottom."""
        return self.spec.in_place

    def param(self, name: str) -> Tensor:
        """A parameter, in the shape that this layer declares.

        With `share_mode: PERMISSIVE` the registered parameter may have its owner's shape.
        """
        # an attribute: torch.func, FSDP and parametrizations put tensors in the parameter's place
        blob: Tensor = getattr(self, name)
        shape = self._shapes[name]
        return blob if blob.shape == shape else blob.reshape(shape)

    def blob(self, index: int) -> Tensor | None:
        """The parameter at Caffe's ``params[layer][index]``; None where there is none."""
        if index >= len(self.spec.params):
            return None
        return self.param(self.spec.params[index].name)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Computes all tops from the bottoms."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def extra_repr(self) -> str:
        return repr(self.spec.op)


LayerType = TypeVar("LayerType", bound=type[Layer])
_layers: dict[str, type[Layer]] = {}


def register_layer(type: str) -> Callable[[LayerType], LayerType]:
    """Class decorator: registers a Layer for a type.

    A layer type of your own takes one file: a dataclass derived from ``caffe_port.Op`` under
    ``register_op`` for its options and shapes, and a class derived from ``caffe_port.Layer`` under
    ``register_layer`` for its maths.

    Raises:
        ValueError: the type is registered already.
    Examples:
        >>> import caffe_port as cp
        >>> @cp.register_layer("Halve")
        ... class HalveLayer(cp.Layer):
        ...     def forward(self, *bottoms):
        ...         return (bottoms[0] / 2,)
    """

    def decorate(layer: LayerType) -> LayerType:
        built_in = type in BUILTIN and layer.__module__ != f"caffe_port.layers.{BUILTIN[type]}"
        if type in _layers or built_in:
            raise ValueError(f"layer type '{type}' is registered already")
        _layers[type] = layer
        return layer

    return decorate


def layer_class(type: str) -> type[Layer] | None:
    """The module class of a layer type; None where the type has an op but no module."""
    if type not in _layers and type in BUILTIN:
        importlib.import_module(f"caffe_port.layers.{BUILTIN[type]}")
    return _layers.get(type)


def make_layer(spec: LayerSpec) -> Layer:
    """Builds the module of a layer.

    Raises:
        UnsupportedLayerError: the type has an op but no layer.
    Examples:
        >>> import torch
        >>> from caffe_port import NetSpec
        >>> from caffe_port.layers import make_layer
        >>> from caffe_port.proto import parse_net
        >>> text = parse_net(
        ...     'input: "x" input_shape { dim: 2 } '
        ...     'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
        ... )
        >>> layer = make_layer(NetSpec.build(text.message).layer("r"))
        >>> layer(torch.tensor([-1.0, 2.0]))
        (tensor([0., 2.]),)
    """
    if isinstance(spec.op, Fed):
        from caffe_port.layers.inputs import FedData

        return FedData(spec)
    module = layer_class(spec.type)
    if module is None:
        message = "options are registered for this type but no layer; use register_layer"
        raise UnsupportedLayerError(spec.name, spec.type, message)
    return module(spec)


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` runs."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]
