"""pycaffe's Net: layers run one by one on blobs that Python can change in between."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import LayerError, UsageError, WeightMismatchError
from caffe_port.loading import load
from caffe_port.pycaffe.blob import Blob, Floats, ParamBlob
from caffe_port.spec import LayerSpec
from caffe_port.weights import read_weights

TRAIN, TEST = 0, 1
_Path = str | os.PathLike[str]


class LayerFace:
    """What pycaffe shows of a layer: its type and blobs."""

    def __init__(self, spec: LayerSpec, blobs: list[Blob]) -> None:
        self.type, self.blobs = spec.type, blobs


class Net:
    """A net with live blobs, as pycaffe had it.

    Args:
        network_file: the prototxt.
        args: ``phase``, or ``weights, phase``.
        phase: TRAIN or TEST.
        level, stages: NetState besides the phase.
        weights: loaded by Caffe's lenient rule.
    Source: BVLC/caffe python/caffe/pycaffe.py, _caffe.cpp; net.cpp for forward and backward.
    """

    def __init__(
        self,
        network_file: _Path,
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: _Path | None = None,
    ) -> None:
        if len(args) > 2 or (args and phase is not None):
            raise UsageError("expected Net(prototxt, phase) or Net(prototxt, weights, phase)")
        if len(args) == 2:
            weights, phase = args
        elif args:
            (phase,) = args
        if phase not in (TRAIN, TEST):
            raise UsageError(f"phase is {phase!r}; expected caffe.TRAIN or caffe.TEST")
        self._net = load(
            network_file, phase="TRAIN" if phase == TRAIN else "TEST", level=level,
            stages=tuple(stages or ()),
        )  # fmt: skip
        self._net.write_files = True
        self._layers = self._net.spec.layers
        self.blobs = OrderedDict((n, Blob(s)) for n, s in self._net.spec.shapes.items())
        self.params = self._make_params()
        self._tape: dict[int, tuple[list[Tensor], tuple[Tensor, ...]]] = {}
        self._set_loss_diffs()
        if weights is not None:
            self.copy_from(weights)

    def _make_params(self) -> OrderedDict[str, list[Blob]]:
        made: dict[int, Blob] = {}
        params = OrderedDict()
        for layer in self._layers:
            own = self._net.layer_params(layer.name)
            if own:
                # shared parameters share data and diff
                params[layer.name] = [made.setdefault(id(p), ParamBlob(p)) for p in own]
        return params

    def _set_loss_diffs(self) -> None:
        for layer in self._layers:
            for top, weight in zip(layer.tops, layer.loss_weights, strict=True):
                if weight:
                    self.blobs[top].diff[...] = weight

    @property
    def inputs(self) -> list[str]:
        """Names of the input blobs."""
        return list(self._net.spec.inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads."""
        return list(self._net.spec.outputs)

    @property
    def _layer_names(self) -> list[str]:
        return [layer.name for layer in self._layers]

    @property
    def layers(self) -> list[LayerFace]:
        """The layers, in order."""
        return [LayerFace(layer, self.params.get(layer.name, [])) for layer in self._layers]

    @property
    def layer_dict(self) -> OrderedDict[str, LayerFace]:
        """Layer name -> layer."""
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Layer name -> names of its bottoms."""
        return OrderedDict((layer.name, list(layer.bottoms)) for layer in self._layers)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Layer name -> names of its tops."""
        return OrderedDict((layer.name, list(layer.tops)) for layer in self._layers)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name -> its weight in the loss."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for layer in self._layers:
            weights.update(zip(layer.tops, layer.loss_weights, strict=True))
        return OrderedDict(weights)

    def _index(self, layer: str) -> int:
        if layer not in self._layer_names:
            raise UsageError(f"the net has no layer '{layer}'")
        return self._layer_names.index(layer)

    def forward(
        self,
        blobs: Iterable[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Floats,
    ) -> dict[str, Floats]:
        """Runs the layers from ``start`` to ``end``, both included.

        Args:
            blobs: names to return besides the outputs.
            start, end: layer names; the whole net by default.
            kwargs: input blob name -> values; all inputs or none.
        Returns:
            Blob name -> its live data.
        """
        first = 0 if start is None else self._index(start)
        last = len(self._layers) - 1 if end is None else self._index(end)
        outputs = self.outputs if end is None else self.top_names[end]
        if kwargs:
            if set(kwargs) != set(self.inputs):
                raise UsageError(f"values for {sorted(kwargs)}; the inputs are {self.inputs}")
            for name, values in kwargs.items():
                if values.shape[0] != self.blobs[name].shape[0]:
                    batch = self.blobs[name].shape[0]
                    raise UsageError(f"'{name}' has {values.shape[0]} items; expected {batch}")
                self.blobs[name].data[...] = values
        self._forward(first, last)
        return {name: self.blobs[name].data for name in {*outputs, *(blobs or ())}}

    def _forward(self, start: int, end: int) -> float:
        loss = 0.0
        for index in range(start, end + 1):
            layer = self._layers[index]
            if layer.type == "Input":
                continue
            self._run(index)
            for top, weight in zip(layer.tops, layer.loss_weights, strict=True):
                if weight:
                    loss += weight * float(self.blobs[top].data.sum())
        return loss

    def _run(self, index: int) -> None:
        layer = self._layers[index]
        bottoms = []
        for name, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True):
            values = torch.from_numpy(self.blobs[name].data)
            # a copy, because a layer in place may write over what backward needs
            copied = values.clone() if layer.needs_backward else values
            bottoms.append(copied.requires_grad_() if needed else copied)
        with torch.set_grad_enabled(layer.needs_backward):
            tops = self._net.run_layer(layer.name, bottoms)
        for name, values in zip(layer.tops, tops, strict=True):
            self.blobs[name].assign(values)
        if layer.needs_backward:
            self._tape[index] = (bottoms, tops)

    def backward(
        self,
        diffs: Iterable[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Floats,
    ) -> dict[str, Floats]:
        """Walks the layers from ``start`` back to ``end``, both included.

        Parameters' diffs add up; see ``clear_param_diffs``.

        Args:
            diffs: names to return besides the inputs.
            start, end: layer names; the whole net by default.
            kwargs: output blob name -> diff; all outputs or none.
        Returns:
            Blob name -> its live diff.
        """
        first = len(self._layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        outputs = self.inputs if end is None else self.bottom_names[end]
        if kwargs:
            if set(kwargs) != set(self.outputs):
                raise UsageError(f"diffs for {sorted(kwargs)}; the outputs are {self.outputs}")
            for name, values in kwargs.items():
                self.blobs[name].diff[...] = values
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in {*outputs, *(diffs or ())}}

    def _backward(self, start: int, end: int) -> None:
        for index in range(start, end - 1, -1):
            if self._layers[index].needs_backward and self._layers[index].bottoms:
                self._walk_back(index)

    def _walk_back(self, index: int) -> None:
        layer = self._layers[index]
        if index not in self._tape:
            raise UsageError(f"layer '{layer.name}': backward before forward")
        bottoms, tops = self._tape[index]
        wanted = [b for b in bottoms if b.requires_grad]
        params = [p for p in self._net.layer_params(layer.name) if p.requires_grad]
        diffs = [torch.from_numpy(self.blobs[name].diff.copy()) for name in layer.tops]
        pairs = [(t, d) for t, d in zip(tops, diffs, strict=True) if t.requires_grad]
        found: Sequence[Tensor | None] = [None] * (len(wanted) + len(params))
        if pairs and found:
            found = torch.autograd.grad(
                [t for t, _ in pairs], [*wanted, *params], [d for _, d in pairs],
                allow_unused=True, retain_graph=True,
            )  # fmt: skip
        found_of = dict(zip(map(id, [*wanted, *params]), found, strict=True))
        for name, bottom in zip(layer.bottoms, bottoms, strict=True):
            if bottom.requires_grad:
                diff = found_of[id(bottom)]
                self.blobs[name].diff[...] = 0 if diff is None else diff.numpy()
        for blob, param in zip(
            self.params.get(layer.name, []), self._net.layer_params(layer.name), strict=True
        ):
            diff = found_of.pop(id(param), None)  # a parameter used twice has one diff
            if diff is not None:
                blob.diff[...] += diff.numpy()

    def clear_param_diffs(self) -> None:
        """Sets all parameters' diffs to 0."""
        for blobs in self.params.values():
            for blob in blobs:
                blob.diff[...] = 0

    def reshape(self) -> None:
        """Gives every blob the shape that follows from the inputs' present shapes."""
        for layer in self._layers:
            if layer.op.kind == "source":
                continue
            bottoms = [tuple(self.blobs[name].shape) for name in layer.bottoms]
            try:
                tops = layer.op.top_shapes(bottoms)
            except ValueError as error:
                raise LayerError(layer.name, layer.type, str(error)) from error
            for name, shape in zip(layer.tops, tops, strict=False):
                self.blobs[name].reshape(*shape)
        self._set_loss_diffs()

    def copy_from(self, weights: _Path) -> None:
        """Loads weights by layer name; missing and extra layers are passed over, as in Caffe."""
        self._net.load_stored(read_weights(weights).layers, strict=False)

    load_hdf5 = copy_from

    def share_with(self, other: Net) -> None:
        """Uses another net's parameters, by layer name.

        Raises:
            WeightMismatchError: a layer whose parameters have other shapes there; nothing changed.
        """
        pairs: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        for name in self.params.keys() & other.params.keys():
            mine, theirs = self._net.layer_params(name), other._net.layer_params(name)
            shapes, found = [tuple(p.shape) for p in mine], [tuple(p.shape) for p in theirs]
            if shapes != found:
                message = f"layer '{name}': parameters of shapes {found}, {shapes} expected"
                raise WeightMismatchError(message)
            pairs += zip(mine, theirs, strict=True)
        for own, other_one in pairs:
            own.data = other_one.data
        self.params = self._make_params()

    def save(self, path: _Path) -> None:
        """Writes a .caffemodel, whatever the path's suffix."""
        self._write(path, "caffemodel")

    def save_hdf5(self, path: _Path) -> None:
        """Writes a .caffemodel.h5, whatever the path's suffix."""
        self._write(path, "caffemodel.h5")

    def _write(self, path: _Path, format: str) -> None:
        from caffe_port.weights import write_weights

        spec = self._net.spec
        write_weights(
            path, self._net.stored_layers(), name=spec.name, net_message=spec.message(),
            format=format,
        )  # fmt: skip
