"""Runs single layers on given tensors, with sums as exact as a good BLAS makes them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from caffe_port.parity.topology import Layer, Plan


class Blobs(Protocol):
    """What a forward pass returns: tensors by name, and their diffs after a backward pass."""

    def __getitem__(self, name: str, /) -> Tensor: ...
    def __contains__(self, name: object, /) -> bool: ...
    def diff(self, name: str, /) -> Tensor | None: ...


class Net(Protocol):
    """What verification needs of a net; ``caffe_port.Net`` has it."""

    @property
    def spec(self) -> Plan: ...
    def __call__(
        self, inputs: Mapping[str, Tensor], /, *, keep: Literal["outputs", "all"] | list[str]
    ) -> Blobs: ...
    def run_layer(self, name: str, bottoms: list[Tensor], /) -> tuple[Tensor, ...]: ...
    def layer_params(self, name: str, /) -> Sequence[Tensor]: ...
    def module(self, name: str, /) -> torch.nn.Module: ...
    def to(self, device: torch.device, dtype: torch.dtype, /) -> Any: ...


HOST = torch.device("cpu")


def copy_as(net: Net, dtype: torch.dtype, device: torch.device = HOST) -> Net:
    """A copy of the net with parameters of that type; a run of it leaves the net as it was."""
    duplicate: Net = copy.deepcopy(net).to(device, dtype)
    return duplicate


class Bench:
    """One copy of a net, whose layers are run one at a time.

    Args:
        net: it is copied.
        dtype: float32 or float64, of all that is computed.
        device: where layers compute; what they are given and give is in main memory.
    """

    def __init__(self, net: Net, dtype: torch.dtype, device: torch.device = HOST) -> None:
        self.net = copy_as(net, dtype, device)
        self.dtype, self.device = dtype, device

    def params(self, layer: Layer) -> list[Tensor]:
        """The layer's parameters, detached."""
        return [param.detach().to(HOST) for param in self.net.layer_params(layer.name)]

    def _run(self, layer: Layer, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.net.run_layer(layer.name, [x.detach().to(self.device) for x in bottoms])

    def forward(
        self, layer: Layer, bottoms: Sequence[Tensor], params: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """All tops, without gradients. ``params`` replace the layer's own for this run."""
        with torch.no_grad(), self.unchanged(layer, params):
            return tuple(top.to(HOST) for top in self._run(layer, bottoms))

    def state(
        self, layer: Layer, bottoms: Sequence[Tensor], params: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Copies of the parameters as a forward pass leaves them (BatchNorm's statistics)."""
        with torch.no_grad(), self.unchanged(layer, params):
            self._run(layer, bottoms)
            return [p.detach().clone().to(HOST) for p in self.net.layer_params(layer.name)]

    def backward(
        self,
        layer: Layer,
        bottoms: Sequence[Tensor],
        diffs: Sequence[Tensor | None],
        wanted: Sequence[bool],
        params: Sequence[Tensor] | None = None,
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Diffs of the bottoms and of the parameters.

        Args:
            layer: the layer.
            bottoms: what it reads.
            diffs: of its tops; None where there is none.
            wanted: the bottoms whose diffs are computed.
            params: replace the layer's own for this run.
        Returns:
            None for what has no diff.
        """
        leaves = [
            bottom.detach().to(self.device).requires_grad_(want)
            for bottom, want in zip(bottoms, wanted, strict=True)
        ]
        with torch.enable_grad(), self.unchanged(layer, params):
            tops = self.net.run_layer(layer.name, list(leaves))
            own = list(self.net.layer_params(layer.name))
            pairs = [
                (top, diff.reshape(top.shape).to(top))
                for top, diff in zip(tops, diffs, strict=True)
                if diff is not None and top.requires_grad
            ]
            sources = [leaf for leaf in (*leaves, *own) if leaf.requires_grad]
            if not pairs or not sources:
                return [None] * len(leaves), [None] * len(own)
            found = torch.autograd.grad(
                [top for top, _ in pairs], sources, [diff for _, diff in pairs], allow_unused=True
            )
        by_id = {
            id(source): None if diff is None else diff.to(HOST)
            for source, diff in zip(sources, found, strict=True)
        }
        return [by_id.get(id(leaf)) for leaf in leaves], [by_id.get(id(param)) for param in own]

    @contextlib.contextmanager
    def in_order(self, layer: Layer) -> Iterator[None]:
        """Has the layer make its sums in Caffe's order, where it has another of its own."""
        module = self.net.module(layer.name)
        if not hasattr(module, "in_order"):
            yield
            return
        module.in_order = True  # type: ignore[assignment]
        try:
            yield
        finally:
            module.in_order = False  # type: ignore[assignment]

    @contextlib.contextmanager
    def unchanged(self, layer: Layer, params: Sequence[Tensor] | None = None) -> Iterator[None]:
        """Puts ``params`` in place of the layer's own; takes back what the run changes."""
        own = list(self.net.layer_params(layer.name))
        buffers = self.net.module(layer.name)._buffers
        kept_buffers = {name: None if b is None else b.clone() for name, b in buffers.items()}
        # of its parameters a layer itself changes statistics only, which no solver learns
        fixed = getattr(layer.op, "frozen_params", False)
        state = [param for param in own if fixed or not param.requires_grad]
        kept = [(tensor, tensor.detach().clone()) for tensor in state]
        originals = [] if params is None else [param.data for param in own]
        if params is not None:
            for param, replacement in zip(own, params, strict=True):
                moved = replacement.to(param.device)
                param.data = moved.clone() if fixed and moved is replacement else moved
        try:
            yield
        finally:
            for param, original in zip(own, originals, strict=False):
                param.data = original
            with torch.no_grad():
                for tensor, value in kept:
                    tensor.copy_(value)
            buffers.clear()
            buffers.update(kept_buffers)


# How float32 sums are made while the port is compared with Caffe: as products of matrices.
#
# Caffe lays every window out (im2col) and multiplies matrices; a BLAS sums in blocks. torch has
# other ways too, chosen by processor, shape and batch, and some of them round much worse: oneDNN's
# direct kernels add all products of an output in one or few running sums, and NNPACK, which is
# used for batches from 16 on where oneDNN is off, transforms its input. docs/verify.md has the
# figures.


@contextmanager
def exact_sums() -> Iterator[None]:
    """Convolutions inside are computed as Caffe does: im2col, then a matrix product per image.

    Covers forward and backward, transposed convolutions too, if both run inside. On a GPU cuDNN is
    off, and products of matrices are not rounded to TensorFloat-32. The switches are those of the
    whole process and are restored at the end. A float64 run is computed so anyway.

    Example:
        with exact_sums():
            scores = net({"data": x})["score"]
    """
    mkldnn, cudnn = torch.backends.mkldnn, torch.backends.cudnn
    enabled, precision = (mkldnn.enabled, cudnn.enabled), torch.get_float32_matmul_precision()
    with torch.backends.nnpack.flags(enabled=False):
        try:
            mkldnn.enabled, cudnn.enabled = False, False  # type: ignore[assignment]
            torch.set_float32_matmul_precision("highest")
            yield
        finally:
            mkldnn.enabled, cudnn.enabled = enabled
            torch.set_float32_matmul_precision(precision)
