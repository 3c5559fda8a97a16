"""How a pycaffe net reads and writes weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from caffe_port.live.blob import Blob
from caffe_port.spec import LayerSpec, ParamSpec
from caffe_port.weights import StoredBlob, StoredLayer, read_weights, write_weights

if TYPE_CHECKING:
    from caffe_port.live.net import Net

_Path = str | os.PathLike[str]


def copy_from(net: Net, weights: _Path) -> None:
    """Loads weights by layer name; missing and extra layers are passed over, as in Caffe."""
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
    """Writes the parameters as they are now, of changed shape too.

    Args:
        net: whose.
        path: the file.
        format: 'caffemodel' or 'caffemodel.h5'.
        diffs: whether diffs are written beside the values.
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
    """Blobs with the parameters they are; one that a script added is none."""
    params = iter(layer.params)
    return ((blob, next(params, None)) for blob in blobs)


def _stored(blob: Blob, param: ParamSpec | None, diffs: bool) -> StoredBlob:
    if param is None:
        return StoredBlob(blob.data, diff=blob.diff if diffs else None)
    # one shared permissively has its owner's shape in memory
    shape = param.shape if blob.count == _count(param) else tuple(blob.shape)
    diff = blob.diff.reshape(shape) if diffs else None
    return StoredBlob(blob.data.reshape(shape), diff=diff, name=param.name)


def _count(param: ParamSpec) -> int:
    count = 1
    for size in param.shape:
        count *= size
    return count
