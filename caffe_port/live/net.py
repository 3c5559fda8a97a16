"""pycaffe's Net: layers run one by one on blobs that scripts can read and change in between."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.layers.python_layer import Python
from caffe_port.live import methods, mode
from caffe_port.live.blob import Blob, BlobVec, Floats, ParamBlob
from caffe_port.live.running import Runner
from caffe_port.live.transformer import Transformer
from caffe_port.loading import load
from caffe_port.net import Net as TorchNet
from caffe_port.proto import caffe_pb2
from caffe_port.spec import LayerSpec

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
_Path = str | os.PathLike[str]
_EVENTS = ("before_forward", "after_forward", "before_backward", "after_backward")


class LayerView:
    """pycaffe's layer: its type and blobs."""

    def __init__(self, spec: LayerSpec, blobs: BlobVec) -> None:
        self.type, self.blobs = spec.type, blobs


class Net:
    """pycaffe's net, whose blobs are live arrays.

    Args:
        network_file: the prototxt.
        args: ``phase, level, stages, weights``; or ``weights, phase`` as older scripts have it, or
            ``weights`` alone (DeepLab v1), which means TEST.
        phase: TRAIN or TEST.
        level, stages: NetState besides the phase.
        weights: loaded by Caffe's lenient rule.
    Attributes:
        blobs: name -> Blob, bottom to top.
        params: layer name -> its parameters; layers without any are left out.
        layers: objects with ``type`` and ``blobs``; of a Python layer, the user's own object.
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
        given: dict[str, Any] = {
            "phase": phase,
            "level": level,
            "stages": stages,
            "weights": weights,
        }
        given.update(_positional(args))
        if given["phase"] not in (TRAIN, TEST):
            raise UsageError(f"phase is {given['phase']!r}; expected caffe.TRAIN or caffe.TEST")
        with mode.building():
            net = load(
                network_file, phase=caffe_pb2.Phase.Name(given["phase"]), level=given["level"],
                stages=tuple(given["stages"] or ()),
                allow_python_layers=mode.python_layers_allowed(), strict_text=mode.strict_text(),
            )  # fmt: skip
        self._start(net)
        if given["weights"] is not None:
            self.copy_from(given["weights"])

    @classmethod
    def of(cls, net: TorchNet) -> Net:
        """Makes a pycaffe net from a torch net, which shares its parameters."""
        made = cls.__new__(cls)
        made._start(net)
        return made

    def _start(self, net: TorchNet) -> None:
        self._net = net
        net.write_files = True
        self._specs = net.spec.layers
        self.blobs = self._make_blobs()
        self._make_params()
        # as in Caffe, other entries in blobs or params do not change what the layers use
        self._runner = Runner(net, dict(self.blobs), self._own_params)
        self._callbacks: dict[str, list[Callable[[int], Any]]] = {name: [] for name in _EVENTS}

    def _make_blobs(self) -> OrderedDict[str, Blob]:
        """The blobs that Python layers were set up with, and new ones."""
        known: dict[str, Blob] = {}
        for layer in self._specs:
            module = self._net.module(layer.name)
            if isinstance(module, Python):
                known.update(zip(layer.bottoms, module.bottoms, strict=True))
                known.update(zip(layer.tops, module.tops, strict=True))
        shapes = self._net.spec.shapes.items()
        return OrderedDict((name, known.get(name) or Blob(shape)) for name, shape in shapes)

    def _make_params(self) -> None:
        made: dict[int, Blob] = {}
        self._own_params: dict[str, BlobVec] = {}
        self.layers: list[Any] = []
        for layer in self._specs:
            module = self._net.module(layer.name)
            if isinstance(module, Python):
                blobs, view = module.bind(), module.code
            else:
                own = self._net.layer_params(layer.name)
                # shared parameters share data and diff
                blobs = BlobVec(made.setdefault(id(p), ParamBlob(p)) for p in own)
                blobs.belongs_to(module)
                view = LayerView(layer, blobs)
            self.layers.append(view)
            if blobs:
                self._own_params[layer.name] = blobs
        self.params = OrderedDict(self._own_params)
        self._first_params = [blob for blobs in self._own_params.values() for blob in blobs]

    @property
    def inputs(self) -> list[str]:
        """Names of the input blobs."""
        return list(self._net.spec.inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads."""
        return list(self._net.spec.outputs)

    @property
    def layer_dict(self) -> OrderedDict[str, Any]:
        """Layer name -> layer; of several layers of one name the last, as in Caffe."""
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Layer name -> names of its bottoms."""
        return OrderedDict((layer.prototxt_name, list(layer.bottoms)) for layer in self._specs)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Layer name -> names of its tops."""
        return OrderedDict((layer.prototxt_name, list(layer.tops)) for layer in self._specs)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name -> its weight in the loss."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for layer in self._specs:
            weights.update(zip(layer.tops, layer.loss_weights, strict=True))
        return OrderedDict(weights)

    # private names of the compiled module that scripts use

    @property
    def _layer_names(self) -> list[str]:
        return [layer.prototxt_name for layer in self._specs]

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> list[int]:
        return self._ids(self.inputs)

    @property
    def _outputs(self) -> list[int]:
        return self._ids(self.outputs)

    @property
    def _input_list(self) -> list[str]:
        return self.inputs

    @property
    def _output_list(self) -> list[str]:
        return self.outputs

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._ids(self._specs[layer].bottoms)

    def _top_ids(self, layer: int) -> list[int]:
        return self._ids(self._specs[layer].tops)

    def _ids(self, names: Iterable[str]) -> list[int]:
        place = {name: i for i, name in enumerate(self.blobs)}
        return [place[name] for name in names]

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
        last = len(self._specs) - 1 if end is None else self._index(end)
        outputs = self.outputs if end is None else self.top_names[end]
        self._fill("data", kwargs, self.inputs)
        self._forward(first, last)
        return {name: self.blobs[name].data for name in {*outputs, *(blobs or ())}}

    def _fill(self, what: str, given: dict[str, Floats], expected: Sequence[str]) -> None:
        if given and set(given) != set(expected):
            raise UsageError(f"{what} given for {sorted(given)}; expected for {list(expected)}")
        for name, values in given.items():
            batch = self.blobs[name].shape[:1]
            if list(values.shape[:1]) != batch:
                raise UsageError(f"'{name}': {values.shape[:1]} items given; expected {batch}")
            getattr(self.blobs[name], what)[...] = values

    def _forward(self, start: int, end: int) -> float:
        loss = 0.0
        for index in range(start, end + 1):
            self._call("before_forward", index)
            loss += self._runner.forward(self._specs[index])
            self._call("after_forward", index)
        return loss

    def backward(
        self,
        diffs: Iterable[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Floats,
    ) -> dict[str, Floats]:
        """Runs the layers backward, from ``start`` to ``end``, both included.

        Parameters' diffs add up; see ``clear_param_diffs``.

        Args:
            diffs: names to return besides the inputs.
            start, end: layer names; the whole net by default.
            kwargs: output blob name -> diff; all outputs or none.
        Returns:
            Blob name -> its live diff.
        """
        first = len(self._specs) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        outputs = self.inputs if end is None else self.bottom_names[end]
        self._fill("diff", kwargs, self.outputs)
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in {*outputs, *(diffs or ())}}

    def _backward(self, start: int, end: int) -> None:
        for index in range(start, end - 1, -1):
            self._call("before_backward", index)
            if self._specs[index].needs_backward:
                self._runner.backward(self._specs[index])
            self._call("after_backward", index)

    def _call(self, event: str, layer: int) -> None:
        for run in self._callbacks[event]:
            run(layer)

    def before_forward(self, run: Callable[[int], Any]) -> None:
        """Adds a function that is called with each layer's index before it runs."""
        self._callbacks["before_forward"].append(run)

    def after_forward(self, run: Callable[[int], Any]) -> None:
        """Adds a function that is called with each layer's index after it ran."""
        self._callbacks["after_forward"].append(run)

    def before_backward(self, run: Callable[[int], Any]) -> None:
        """Adds a function that is called with each layer's index before its backward pass."""
        self._callbacks["before_backward"].append(run)

    def after_backward(self, run: Callable[[int], Any]) -> None:
        """Adds a function that is called with each layer's index after its backward pass."""
        self._callbacks["after_backward"].append(run)

    forward_all = methods.forward_all
    forward_backward_all = methods.forward_backward_all
    _batch = methods.batch

    def clear_param_diffs(self) -> None:
        """Sets the diffs of the parameters that the net was made with to 0."""
        for blob in self._first_params:
            blob.diff[...] = 0

    def reshape(self) -> None:
        """Computes the shapes of all blobs from the present shapes of the inputs."""
        for layer in self._specs:
            self._runner.reshape(layer)

    def set_input_arrays(self, data: Floats, labels: Floats) -> None:
        """Sets the arrays of the net's first layer, a MemoryData.

        Args:
            data: (N, C, H, W) float32, N a multiple of the batch size.
            labels: (N,) or (N, 1, 1, 1) float32.
        Raises:
            UsageError: the net's first layer is not a MemoryData.
            LayerError: arrays that do not fit it.
        """
        if not self._specs or self._specs[0].type != "MemoryData":
            raise UsageError("set_input_arrays: the net's first layer is not of type MemoryData")
        module: Any = self._net.module(self._specs[0].name)
        module.reset(data, labels)

    _set_input_arrays = set_input_arrays

    def share_with(self, other: Net) -> None:
        """Shares another net's parameters, by layer name, but not their diffs.

        Raises:
            UsageError: parameters of one layer differ in number or shape.
        """
        for name, mine in self._own_params.items():
            theirs = other._own_params.get(name, mine)
            if [blob.shape for blob in mine] != [blob.shape for blob in theirs]:
                raise UsageError(f"share_with: layer '{name}' has parameters of other shapes there")
            for blob, shared in zip(mine, theirs, strict=True):
                blob.share_data(shared)

    copy_from = methods.copy_from
    load_hdf5 = methods.copy_from
    save = methods.save
    save_hdf5 = methods.save_hdf5

    set_phase_train = methods.set_phase_train
    set_phase_test = methods.set_phase_test
    set_mode_cpu = methods.set_mode_cpu
    set_mode_gpu = methods.set_mode_gpu
    set_device = methods.set_device
    set_mean = methods.set_mean
    set_input_scale = methods.set_input_scale
    set_raw_scale = methods.set_raw_scale
    set_channel_swap = methods.set_channel_swap
    preprocess = methods.preprocess
    deprocess = methods.deprocess
    mean = property(methods.mean)
    input_scale = property(methods.input_scale)
    raw_scale = property(methods.raw_scale)
    channel_swap = property(methods.channel_swap)
    transformer: Transformer  # made by the first of these methods that is called


def _positional(args: Sequence[Any]) -> dict[str, Any]:
    if args and isinstance(args[0], (str, os.PathLike)):
        if len(args) > 2:
            raise UsageError("expected Net(prototxt, weights, phase)")
        return {"weights": args[0], "phase": args[1] if len(args) == 2 else TEST}
    names = ("phase", "level", "stages", "weights")
    if len(args) > len(names):
        raise UsageError("expected Net(prototxt, phase, level, stages, weights)")
    return dict(zip(names, args, strict=False))
