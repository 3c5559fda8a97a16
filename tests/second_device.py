"""A second device on a machine without one: it refuses what a GPU refuses, with real numbers.

Inside ``second_device()`` torch's device "meta" computes: its tensors hold values in main memory,
behind a subclass that knows where they are said to be. As on a GPU, tensors of two devices in one
operation are an error (but for numbers and indices), ``numpy()`` is one too, and ``cpu()`` copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
_HOST = torch.device("cpu")
#: Operations that read one device and write the other.
_COPIES = {"copy_", "_to_copy"}
#: Operations whose indices, the second argument, may be in main memory.
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_SUBSCRIPTS = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}


class DeviceTensor(torch.Tensor):
    """A tensor of the second device; ``values`` is the one in main memory."""

    values: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, device=DEVICE,
        )  # fmt: skip
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"DeviceTensor({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _expect_one_device(func: Any, name: str, args: Any, kwargs: Any) -> None:
    """Raises what CUDA raises for tensors of two devices."""
    if name in _INDEXED and not isinstance(args[0], DeviceTensor):
        args = (*args[:1], *args[2:], *_tensors(args[1]))
        name = ""
    given = _tensors((args[:1] + args[2:] if name in _INDEXED else args, kwargs))
    devices = {type(tensor) is DeviceTensor for tensor in given if tensor.dim()}
    anywhere = {isinstance(tensor, DeviceTensor) for tensor in given}
    if len(devices) > 1 or (devices == {False} and len(anywhere) > 1):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Runs an operation on the values; its results are where CUDA would have them."""
    name, given = func.overloadpacket.__name__, _tensors((args, kwargs))
    if any(t.device == DEVICE and not isinstance(t, DeviceTensor) for t in given):
        raise AssertionError(f"{func} was given a tensor that torch made past second_device()")
    if name not in _COPIES:
        _expect_one_device(func, name, args, kwargs)
    there = any(isinstance(tensor, DeviceTensor) for tensor in given)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]) == DEVICE
        kwargs = {**kwargs, "device": _HOST}
        if name == "_to_copy":  # a copy: memory is never shared between devices
            kwargs.setdefault("memory_format", torch.preserve_format)
    elif name == "copy_":
        there = isinstance(args[0], DeviceTensor)
    own = {id(t.values): t for t in given if isinstance(t, DeviceTensor)}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in own:  # what was written in place
            return own[id(value)]
        return DeviceTensor(value) if there else value

    plain = tree_map(lambda v: v.values if isinstance(v, DeviceTensor) else v, (args, kwargs))
    return tree_map(wrapped, func(*plain[0], **plain[1]))


class _Dispatch(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing here is compiled, and skipping imports torch's compiler first."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch decides before it dispatches."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        on_it = bool(args) and isinstance(args[0], DeviceTensor)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        if on_it and func is torch.Tensor.new_tensor:
            kwargs.setdefault("dtype", args[0].dtype)
            return torch.tensor(*args[1:], **kwargs).to(DEVICE)
        if on_it and func in _SUBSCRIPTS and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]), *args[2:])
        if on_it and func is torch.Tensor.tolist:
            return args[0].values.tolist()
        if on_it and func is torch.Tensor.numpy:
            raise TypeError("can't convert a tensor of the second device to numpy; use cpu() first")
        if func == torch.Tensor.data.__set__ and (on_it or isinstance(args[1], DeviceTensor)):
            return _replace(*args)
        return func(*args, **kwargs)


def _replace(old: torch.Tensor, values: torch.Tensor) -> None:
    """``old.data = values``, where the two are on different devices."""
    new = values.detach()
    if isinstance(old, Parameter):
        new = Parameter(new, old.requires_grad)
    torch.utils.swap_tensors(old, new)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """Makes the device compute in the block; gives its name."""
    # what is cast automatically is decided by the kernels, which are those of main memory
    cast, is_cast = torch.autocast, partial(torch.is_autocast_enabled, "cpu")
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # so that shared ones stay shared
    try:
        with (
            mock.patch.multiple(
                torch, autocast=lambda _, *given, **named: cast("cpu", *given, **named),
                is_autocast_enabled=lambda *_: is_cast(),
                inference_mode=torch.no_grad,  # a subclass cannot be an inference tensor
            ),
            _Functions(),
            _Dispatch(),
        ):  # fmt: skip
            yield DEVICE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
