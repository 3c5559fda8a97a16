"""One layer of a pycaffe net, forward and backward, between live blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from caffe_port.layers.python_layer import Python
from caffe_port.live import mode
from caffe_port.live.blob import Blob
from caffe_port.net import Net
from caffe_port.spec import LayerSpec

_Taped = tuple[list[Tensor], dict[str, Tensor], tuple[Tensor, ...]]


class Runner:
    """Runs layers on blobs and keeps what backward needs.

    Args:
        net: whose layers.
        blobs, params: of the pycaffe net.
    """

    def __init__(
        self, net: Net, blobs: Mapping[str, Blob], params: Mapping[str, Sequence[Blob]]
    ) -> None:
        self._net, self._blobs, self._params = net, blobs, params
        self._tape: dict[str, _Taped] = {}

    def forward(self, layer: LayerSpec) -> float:
        """Computes a layer's tops; returns what they add to the loss."""
        module = self._net.module(layer.name)
        if isinstance(module, Python):
            bottoms, tops = self._ends(layer)
            module.bind()
            module.code.reshape(bottoms, tops)
            module.code.forward(bottoms, tops)
        elif layer.type != "Input":
            taped = self._compute(layer)
            for name, values in zip(layer.tops, taped[2], strict=True):
                self._blobs[name].assign(values)
            if layer.needs_backward:
                self._tape[layer.name] = taped
        return sum(
            weight * float(self._blobs[top].data.sum(dtype=np.float64))
            for top, weight in zip(layer.tops, layer.loss_weights, strict=True)
            if weight
        )

    def _ends(self, layer: LayerSpec) -> tuple[list[Blob], list[Blob]]:
        return [self._blobs[n] for n in layer.bottoms], [self._blobs[n] for n in layer.tops]

    def _compute(self, layer: LayerSpec) -> _Taped:
        bottoms, device = [], mode.device()
        for name, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True):
            values = torch.from_numpy(self._blobs[name].data)
            # a copy, because a layer in place may write over what backward needs
            copied = values.to(device, copy=layer.needs_backward)
            bottoms.append(copied.requires_grad_() if needed else copied)
        params = {p.name: self._net.module(layer.name).get_parameter(p.name) for p in layer.params}
        with torch.set_grad_enabled(layer.needs_backward):
            if device.type == "cpu":
                return bottoms, dict(params), self._net.run_layer(layer.name, bottoms)
            return self._compute_on(device, layer, bottoms, params)

    def _compute_on(
        self,
        device: torch.device,
        layer: LayerSpec,
        bottoms: list[Tensor],
        params: Mapping[str, Tensor],
    ) -> _Taped:
        """Runs a layer with copies of its parameters; what it changes in them is copied back."""
        moved: dict[str, Tensor] = {
            name: Parameter(param.detach().to(device, copy=True), param.requires_grad)
            for name, param in params.items()
        }
        module = self._net.module(layer.name)
        tops = torch.func.functional_call(module, moved, tuple(bottoms))
        if layer.op.frozen_params:  # BatchNorm's statistics are made by forward, not learned
            for name, param in params.items():
                param.detach().copy_(moved[name].detach())
        return bottoms, moved, tops

    def backward(self, layer: LayerSpec) -> None:
        """Computes the diffs of a layer's bottoms, and adds to those of its parameters."""
        module = self._net.module(layer.name)
        if isinstance(module, Python):
            bottoms, tops = self._ends(layer)
            module.bind()
            module.code.backward(tops, list(layer.bottom_needs_backward), bottoms)
        elif layer.bottoms or not self._is_parameter(layer):
            self._walk_back(layer)

    def _is_parameter(self, layer: LayerSpec) -> bool:
        """Whether its top is its parameter, so that the top's diff needs no way back."""
        params = self._params.get(layer.name, ())
        return not layer.params or (len(params) == 1 and self._blobs[layer.tops[0]] is params[0])

    def _walk_back(self, layer: LayerSpec) -> None:
        if layer.name not in self._tape:  # Caffe, too, walks back from whatever the blobs hold
            self._tape[layer.name] = self._compute(layer)
        bottoms, params, tops = self._tape[layer.name]
        wanted = [value for value in (*bottoms, *params.values()) if value.requires_grad]
        found = dict(zip(map(id, wanted), self._diffs(layer, tops, wanted), strict=True))
        for name, bottom in zip(layer.bottoms, bottoms, strict=True):
            if bottom.requires_grad:
                diff = found[id(bottom)]
                self._blobs[name].diff[...] = 0 if diff is None else diff.cpu().numpy()
        for blob, param in zip(self._params.get(layer.name, ()), params.values(), strict=True):
            diff = found.get(id(param))
            if diff is not None:
                blob.diff[...] += diff.cpu().numpy()

    def _diffs(
        self, layer: LayerSpec, tops: Sequence[Tensor], wanted: Sequence[Tensor]
    ) -> Sequence[Tensor | None]:
        given = [torch.from_numpy(self._blobs[n].diff.copy()).to(t) for n, t in zip(
            layer.tops, tops, strict=True)]  # fmt: skip
        pairs = [(t, d) for t, d in zip(tops, given, strict=True) if t.requires_grad]
        if not (pairs and wanted):
            return [None] * len(wanted)
        return torch.autograd.grad(
            [t for t, _ in pairs], wanted, [d for _, d in pairs], allow_unused=True,
            retain_graph=True,
        )  # fmt: skip
