"""More items than a net's batch: forward_all and forward_backward_all.

Source: BVLC/caffe python/caffe/pycaffe.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.live.blob import Floats

if TYPE_CHECKING:
    from caffe_port.live.net import Net

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
    """Cuts arrays into batches, the last one filled up with zeros."""
    size = _batch_size(net)
    for start in range(0, len(next(iter(arrays.values()), ())), size):
        batch = {name: np.asarray(values[start : start + size]) for name, values in arrays.items()}
        yield {name: _filled(values, size) for name, values in batch.items()}


def _without_padding(
    net: Net, found: Mapping[str, list[Floats]], given: Mapping[str, Floats]
) -> _Arrays:
    count = len(next(iter(given.values()), ()))
    padding = -count % _batch_size(net)
    return {name: np.asarray(v[: len(v) - padding]) for name, v in found.items()}


def _filled(values: Floats, size: int) -> Floats:
    missing = size - len(values)
    if not missing:
        return values
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
