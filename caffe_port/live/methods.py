"""More methods of pycaffe's Net: batches of any number of items, weight files, DeepLab v1's.

Source: BVLC/caffe python/caffe/pycaffe.py; DeepLab v1 python/caffe/pycaffe.py, _caffe.cpp.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.live.blob import Blob, Floats
from caffe_port.live.transformer import Transformer
from caffe_port.spec import LayerSpec, ParamSpec
from caffe_port.weights import StoredBlob, StoredLayer, read_weights, write_weights

if TYPE_CHECKING:
    from caffe_port.live.net import Net

_Path = str | os.PathLike[str]
_Array = npt.NDArray[Any]
_Arrays = dict[str, Floats]
_NOTHING: _Arrays = {}


def forward_all(net: Net, blobs: Iterable[str] | None = None, **kwargs: Floats) -> _Arrays:
    """Runs forward batch by batch.

    Args:
        blobs: names to return besides the outputs.
        kwargs: input blob name -> any number of items.
    Returns:
        Blob name -> values of all items.
    """
    found: dict[str, list[Floats]] = defaultdict(list)
    for values in batch(net, kwargs):
        for name, array in net.forward(blobs, None, None, **values).items():
            found[name].extend(array.copy())
    return _without_padding(net, found, kwargs)


def forward_backward_all(
    net: Net,
    blobs: Iterable[str] | None = None,
    diffs: Iterable[str] | None = None,
    **kwargs: Floats,
) -> tuple[_Arrays, _Arrays]:
    """Runs forward and backward batch by batch.

    Args:
        blobs, diffs: names to return besides the outputs and the inputs' diffs.
        kwargs: input blob name -> values, output blob name -> diffs; any number of items.
    Returns:
        Blob name -> values of all items; blob name -> diffs of all items.
    """
    data: dict[str, list[Floats]] = defaultdict(list)
    back: dict[str, list[Floats]] = defaultdict(list)
    forwards = batch(net, {n: kwargs[n] for n in net.inputs if n in kwargs})
    backwards = batch(net, {n: kwargs[n] for n in net.outputs if n in kwargs})
    for values, top_diffs in zip_longest(forwards, backwards, fillvalue=_NOTHING):
        for name, array in net.forward(blobs, None, None, **values).items():
            data[name].extend(array.copy())
        for name, array in net.backward(diffs, None, None, **top_diffs).items():
            back[name].extend(array.copy())
    return _without_padding(net, data, kwargs), _without_padding(net, back, kwargs)


def _batch_size(net: Net) -> int:
    return next(iter(net.blobs.values())).shape[0]


def batch(net: Net, arrays: Mapping[str, Floats]) -> Iterator[_Arrays]:
    """Cuts arrays into batches; the last one is padded with zeros."""
    size = _batch_size(net)
    for start in range(0, len(next(iter(arrays.values()), ())), size):
        batch = {name: np.asarray(values[start : start + size]) for name, values in arrays.items()}
        yield {name: _padded(values, size) for name, values in batch.items()}


def _without_padding(
    net: Net, found: Mapping[str, list[Floats]], given: Mapping[str, Floats]
) -> _Arrays:
    count = len(next(iter(given.values()), ()))
    padding = -count % _batch_size(net)
    return {name: np.asarray(v[: len(v) - padding]) for name, v in found.items()}


def _padded(values: Floats, size: int) -> Floats:
    missing = size - len(values)
    if not missing:
        return values
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])


def copy_from(net: Net, weights: _Path) -> None:
    """Loads weights by layer name; missing and extra layers are skipped, as in Caffe."""
    for blobs in net._own_params.values():
        blobs.refresh()
    net._net.load_stored(read_weights(weights).layers, strict=False)


def save(net: Net, path: _Path) -> None:
    """Writes a .caffemodel, whatever the path's suffix."""
    write(net, path, "caffemodel")


def save_hdf5(net: Net, path: _Path) -> None:
    """Writes a .caffemodel.h5, whatever the path's suffix."""
    write(net, path, "caffemodel.h5")


def write(net: Net, path: _Path, format: str, diffs: bool = False) -> None:
    """Writes the present parameters, also of changed shape.

    Args:
        net: the net.
        path: the file.
        format: 'caffemodel' or 'caffemodel.h5'.
        diffs: whether diffs are written too.
    """
    spec = net._net.spec
    layers = [
        StoredLayer(
            layer.prototxt_name,
            layer.type,
            tuple(
                _stored(blob, param, diffs)
                for blob, param in _with_params(net._own_params.get(layer.name, ()), layer)
            ),
        )
        for layer in spec.layers
    ]
    write_weights(path, layers, name=spec.name, net_message=spec.saved_message(), format=format)


def _with_params(
    blobs: Sequence[Blob], layer: LayerSpec
) -> Iterator[tuple[Blob, ParamSpec | None]]:
    """Blobs with their parameters; None for one that a script added."""
    params = iter(layer.params)
    return ((blob, next(params, None)) for blob in blobs)


def _stored(blob: Blob, param: ParamSpec | None, diffs: bool) -> StoredBlob:
    if param is None:
        return StoredBlob(blob.data, diff=blob.diff if diffs else None)
    # a parameter that is shared permissively has its owner's shape in memory
    shape = param.shape if blob.count == math.prod(param.shape) else tuple(blob.shape)
    diff = blob.diff.reshape(shape) if diffs else None
    return StoredBlob(blob.data.reshape(shape), diff=diff, name=param.name)


def set_phase_train(net: Net) -> None:
    """Checks that the net was made for TRAIN; the phase of a net does not change here.

    Raises:
        UsageError: it was made for TEST.
    """
    _check(net, "TRAIN")


def set_phase_test(net: Net) -> None:
    """Checks that the net was made for TEST, as Net(prototxt, weights) makes it.

    Raises:
        UsageError: it was made for TRAIN.
    """
    _check(net, "TEST")


def _check(net: Net, phase: str) -> None:
    if net._net.spec.phase != phase:
        message = f"this net is in phase {net._net.spec.phase}; make it with caffe.{phase}"
        raise UsageError(message)


def set_mode_cpu(net: Net) -> None:
    """Same as ``caffe.set_mode_cpu``."""
    mode.set_mode_cpu()


def set_mode_gpu(net: Net) -> None:
    """Same as ``caffe.set_mode_gpu``."""
    mode.set_mode_gpu()


def set_device(net: Net, device_id: int) -> None:
    """Same as ``caffe.set_device``."""
    mode.set_device(device_id)


def _transformer(net: Net) -> Transformer:
    """The net's transformer, with the present shapes of its inputs; a Classifier has its own."""
    shapes = {name: tuple(net.blobs[name].shape) for name in net.inputs}
    if not hasattr(net, "transformer"):
        net.transformer = Transformer(shapes)
        for name, shape in shapes.items():
            if len(shape) == 4:
                net.transformer.set_transpose(name, (2, 0, 1))
    net.transformer.inputs = shapes
    return net.transformer


def set_mean(net: Net, input_: str, mean: _Array, mode: str = "elementwise") -> None:
    """Sets the mean that ``preprocess`` subtracts.

    Args:
        input_: name of an input blob.
        mean: (K, H, W), resized to the input where its size differs; (K,) too.
        mode: 'elementwise', or 'channel' for the average of each channel.
    Raises:
        UsageError: another mode.
        ValueError: no such input, or a mean of another number of axes.
    """
    if mode not in ("elementwise", "channel"):
        raise UsageError(f"set_mean: mode is {mode!r}; expected 'elementwise' or 'channel'")
    _transformer(net).set_mean(input_, mean if mode == "elementwise" else mean.mean(1).mean(1))


def set_input_scale(net: Net, input_: str, scale: float) -> None:
    """Sets the factor after the mean; see ``Transformer.set_input_scale``."""
    _transformer(net).set_input_scale(input_, scale)


def set_raw_scale(net: Net, input_: str, scale: float) -> None:
    """Sets the factor before the mean; see ``Transformer.set_raw_scale``."""
    _transformer(net).set_raw_scale(input_, scale)


def set_channel_swap(net: Net, input_: str, order: Sequence[int]) -> None:
    """Sets the order of channels: (2, 1, 0) turns RGB into BGR."""
    _transformer(net).set_channel_swap(input_, order)


def preprocess(net: Net, input_name: str, input_: _Array) -> Floats:
    """Turns an image (H', W', K) into (K, H, W) for the input."""
    return _transformer(net).preprocess(input_name, input_)


def deprocess(net: Net, input_name: str, input_: _Array) -> _Array:
    """Turns an input (K, H, W) back into an image (H, W, K), of the input's size."""
    return _transformer(net).deprocess(input_name, input_)


def mean(net: Net) -> dict[str, _Array]:
    """Input name -> what ``set_mean`` set."""
    return _transformer(net).mean


def input_scale(net: Net) -> dict[str, float]:
    """Input name -> what ``set_input_scale`` set."""
    return _transformer(net).input_scale


def raw_scale(net: Net) -> dict[str, float]:
    """Input name -> what ``set_raw_scale`` set."""
    return _transformer(net).raw_scale


def channel_swap(net: Net) -> dict[str, Sequence[int]]:
    """Input name -> what ``set_channel_swap`` set."""
    return _transformer(net).channel_swap
