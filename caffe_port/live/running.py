"""Runs one layer of a pycaffe net forward and backward, from blobs to blobs.

The tops of some layers have the memory of their bottoms. Source: BVLC/caffe, where ShareData and
ShareDiff are called: split_layer.cpp, flatten_layer.cpp, reshape_layer.cpp, concat_layer.cpp,
slice_layer.cpp, parameter_layer.hpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from caffe_port.errors import LayerError
from caffe_port.layers.inputs import DummyData, MemoryData
from caffe_port.layers.normalization import assigns_diff
from caffe_port.layers.python_layer import Python
from caffe_port.live import mode, rereading
from caffe_port.live.blob import Blob, BlobVec
from caffe_port.net import Net
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import Shape
from caffe_port.spec.ops.losses import HingeLoss

# bottoms, parameters by name, tops
_Record: TypeAlias = tuple[list[Tensor], dict[str, Tensor], tuple[Tensor, ...]]
_Found: TypeAlias = Sequence[Tensor | None]
_NONE = BlobVec()


class Runner:
    """Runs layers on blobs and keeps what backward needs.

    Args:
        net: the net of the layers.
        blobs, params: those of the pycaffe net.
    """

    def __init__(self, net: Net, blobs: Mapping[str, Blob], params: Mapping[str, BlobVec]) -> None:
        self._net, self._blobs, self._params = net, blobs, params
        self._records: dict[str, _Record] = {}
        for layer in net.spec.layers:
            if not isinstance(net.module(layer.name), Python):  # its setup sets the shapes
                self.reshape(layer)
            self._set_loss_weights(layer, always=True)
            self._fill_constants(layer)

    def _ends(self, layer: LayerSpec) -> tuple[list[Blob], list[Blob]]:
        return [self._blobs[n] for n in layer.bottoms], [self._blobs[n] for n in layer.tops]

    def reshape(self, layer: LayerSpec) -> None:
        """Computes the shapes of a layer's tops from those of its bottoms."""
        bottoms, tops = self._ends(layer)
        module = self._net.module(layer.name)
        if isinstance(module, Python):
            module.code.reshape(bottoms, tops)
        elif layer.op.kind != "source":
            _reshape_shared(layer, bottoms, tops)
        self._set_loss_weights(layer)

    def _set_loss_weights(self, layer: LayerSpec, always: bool = False) -> None:
        """Writes the loss weights into the diffs of tops that have new memory.

        Caffe does not do this, and then trains without the loss.
        """
        for name, weight in zip(layer.tops, layer.loss_weights, strict=True):
            if weight and (always or not self._blobs[name].has_diff):
                self._blobs[name].diff[...] = weight

    def _fill_constants(self, layer: LayerSpec) -> None:
        """Fills the constant tops of DummyData, which forward does not fill."""
        module = self._net.module(layer.name)
        if not isinstance(module, DummyData):
            return
        for i, top in enumerate(self._ends(layer)[1]):
            if not layer.op.renews(i):
                top.assign(module.top(i, top.shape))

    def forward(self, layer: LayerSpec) -> float:
        """Computes a layer's tops; returns their part of the loss."""
        module = self._net.module(layer.name)
        bottoms, tops = self._ends(layer)
        params = self._params.get(layer.name, _NONE)
        params.refresh()
        if isinstance(module, Python):
            module.bind()
            module.code.reshape(bottoms, tops)
            module.code.forward(bottoms, tops)
        elif isinstance(module, MemoryData):
            for top, values in zip(tops, module.next_batch(), strict=True):
                top.take_data(values)
        elif isinstance(module, DummyData):
            for i, top in enumerate(tops):
                if layer.op.renews(i):
                    top.assign(module.top(i, top.shape))
        elif layer.type != "Input" and not _forward_shared(layer, bottoms, tops, params):
            self._run(layer, bottoms, tops)
        self._set_loss_weights(layer)
        return sum(
            float(np.vdot(top.data.astype(np.float64), top.diff))
            for top, weight in zip(tops, layer.loss_weights, strict=True)
            if weight
        )

    def _run(self, layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
        record = self._compute(layer)
        for blob, values in zip(tops, record[2], strict=True):
            blob.assign(values)
        if layer.needs_backward:
            self._records[layer.name] = record
        if layer.type == "HingeLoss":
            scores, labels = (torch.from_numpy(blob.data) for blob in bottoms)
            bottoms[0].diff[...] = rereading.hinge_margins(scores, labels).numpy()

    def _compute(self, layer: LayerSpec, given: Sequence[Tensor] | None = None) -> _Record:
        """Runs a layer's module on the present data of its bottoms, or on given values."""
        values = given or [torch.from_numpy(self._blobs[name].data) for name in layer.bottoms]
        device = mode.device()
        move_buffers(self._net.module(layer.name), device)
        # copies, because a layer in place may write over what backward needs
        bottoms = [x.detach().to(device, copy=layer.needs_backward) for x in values]
        always = rereading.transformed_bottoms(layer)
        for i, (bottom, needed) in enumerate(
            zip(bottoms, layer.bottom_needs_backward, strict=True)
        ):
            bottom.requires_grad_(needed or i in always)
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
    ) -> _Record:
        """Runs a layer on copies of its parameters, and copies changed ones back."""
        moved: dict[str, Tensor] = {
            name: Parameter(param.detach().to(device, copy=True), param.requires_grad)
            for name, param in params.items()
        }
        tops = self._net.run_layer(layer.name, bottoms, moved)
        if layer.op.frozen_params:  # BatchNorm's statistics, which forward computes
            for name, param in params.items():
                param.detach().copy_(moved[name].detach())
        return bottoms, moved, tops

    def backward(self, layer: LayerSpec) -> None:
        """Computes the diffs of a layer's bottoms, and adds to those of its parameters."""
        module = self._net.module(layer.name)
        bottoms, tops = self._ends(layer)
        if isinstance(module, Python):
            module.bind()
            module.code.backward(tops, list(layer.bottom_needs_backward), bottoms)
        elif layer.type == "HingeLoss":
            left, labels = torch.from_numpy(bottoms[0].diff), torch.from_numpy(bottoms[1].data)
            norm, weight = layer.options(HingeLoss).norm, float(tops[0].diff)
            bottoms[0].diff[...] = rereading.hinge_diff(left, labels, weight, norm).numpy()
        elif layer.bottoms and not _backward_shared(layer, bottoms, tops):
            self._run_backward(layer)

    def _run_backward(self, layer: LayerSpec) -> None:
        if layer.name not in self._records:  # without a forward pass, Caffe uses the present data
            self._records[layer.name] = self._compute(layer)
        record = self._records[layer.name]
        bottoms, params, tops = record
        device = mode.device()
        diffs = [torch.from_numpy(self._blobs[n].diff.copy()).to(t) for n, t in zip(
            layer.tops, tops, strict=True)]  # fmt: skip
        for name, moved in params.items() if device.type != "cpu" else ():
            moved.data.copy_(self._net.module(layer.name).get_parameter(name))
        found = self._reread(layer, record, diffs) or _gradients(record, diffs)
        for blob_name, bottom, diff in zip(layer.bottoms, bottoms, found, strict=False):
            if bottom.requires_grad and not (diff is None and layer.type == "Crop"):
                self._blobs[blob_name].diff[...] = 0 if diff is None else diff.cpu().numpy()
        param_diffs = found[len(bottoms) :]
        sets = bool(bottoms) and assigns_diff(layer, tuple(bottoms[0].shape))
        own = zip(self._params.get(layer.name, ()), param_diffs, strict=False)
        for index, (blob, diff) in enumerate(own):
            if diff is None:
                continue
            if sets and index == 0:
                blob.diff[...] = diff.cpu().numpy()
            else:
                blob.diff[...] += diff.cpu().numpy()

    def _reread(self, layer: LayerSpec, record: _Record, diffs: Sequence[Tensor]) -> _Found | None:
        """Diffs if the layer's blobs were written since forward, else None."""
        module = self._net.module(layer.name)
        formula = rereading.formula(layer, module)
        then, _, tops = record
        now = [self._data(name, like) for name, like in zip(layer.bottoms, then, strict=True)]
        tops_now = [self._data(name, like) for name, like in zip(layer.tops, tops, strict=True)]
        for i in rereading.transformed_bottoms(layer):
            then[i].data.copy_(now[i])
        read = rereading.bottoms_read(layer)
        changed = [
            i for i in read if layer.bottoms[i] not in layer.tops and _differ(then[i], now[i])
        ]
        tops_changed = any(_differ(a, b) for a, b in zip(tops, tops_now, strict=True))
        if formula and (changed or tops_changed):
            call = rereading.Reread(layer, module, then, now, tops_now, diffs)
            with torch.no_grad():
                return formula(call)
        if not changed:
            return None
        given = [now[i] if i in read else then[i] for i in range(len(then))]
        return _gradients(self._compute(layer, given), diffs)

    def _data(self, name: str, like: Tensor) -> Tensor:
        return torch.from_numpy(self._blobs[name].data).to(like.device)


def move_buffers(module: nn.Module, device: torch.device) -> None:
    """Moves a layer's state beyond its parameters to where it computes; it stays there."""
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = buffer.to(device)


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether two float32 tensors differ in any bit; NaN equals itself."""
    return not torch.equal(a.detach().contiguous().view(torch.int32), b.view(torch.int32))


def _gradients(record: _Record, diffs: Sequence[Tensor]) -> _Found:
    """Diffs of the bottoms, then of the parameters; None for those without."""
    bottoms, params, tops = record
    inputs = [*bottoms, *params.values()]
    wanted = [value for value in inputs if value.requires_grad]
    pairs = [(t, d) for t, d in zip(tops, diffs, strict=True) if t.requires_grad]
    if not (pairs and wanted):
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [t for t, _ in pairs], wanted, [d for _, d in pairs], allow_unused=True,
            retain_graph=True,
        )
    )  # fmt: skip
    return [next(found) if value.requires_grad else None for value in inputs]


def _top_shapes(layer: LayerSpec, bottoms: Sequence[Blob]) -> list[Shape]:
    """Shapes of a layer's tops for its bottoms' present shapes.

    Raises:
        LayerError: the bottoms do not fit the layer.
    """
    try:
        return layer.op.top_shapes([tuple(blob.shape) for blob in bottoms])[: len(layer.tops)]
    except ValueError as error:
        raise LayerError(layer.prototxt_name, layer.type, str(error)) from error


def _reshape_shared(layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
    """Gives the tops of a layer (not Python) their shapes, and the memory that they share."""
    for top, shape in zip(tops, _top_shapes(layer, bottoms), strict=True):
        top.reshape(*shape)
    if layer.shares_diff and tops[0] is not bottoms[0]:
        tops[0].share_data(bottoms[0])
        tops[0].share_diff(bottoms[0])


def _forward_shared(
    layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob], params: Sequence[Blob]
) -> bool:
    """Runs a layer that only shares memory; returns False, and does nothing, for others."""
    if layer.type == "Parameter":
        tops[0].share_data(params[0])
        tops[0].share_diff(params[0])
        return True
    if not layer.shares_data:
        return False
    _reshape_shared(layer, bottoms, tops)
    if not layer.shares_diff:
        for top in tops:
            top.share_data(bottoms[0])
    return True


def _backward_shared(layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> bool:
    """Runs such a layer backward; returns False, and does nothing, for others."""
    if layer.shares_diff or layer.type == "Parameter":
        return True
    if not layer.shares_data:
        return False
    if layer.bottom_needs_backward[0]:
        if layer.type == "Flatten":
            bottoms[0].share_diff(tops[0])
        else:
            # from the last reader to the first, in autograd's order
            np.sum([top.diff for top in reversed(tops)], axis=0, out=bottoms[0].diff)
    return True
