"""Reading a state dict with another program's names into a net; see ``named``."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.errors import FormatError, UsageError, WeightMismatchError, option
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import Shape
from caffe_port.weights.matching import Match, missing
from caffe_port.weights.named import (
    COUNTER,
    METADATA,
    STATISTICS,
    Names,
    Slot,
    divided,
    same_bits,
    slots_of,
)
from caffe_port.weights.naming import known_name_maps, name_map
from caffe_port.weights.stored import Array, StateDict, StoredBlob

if TYPE_CHECKING:
    from torch import Tensor

    from caffe_port.net import Net

_WRAPPER = "module."  # of DataParallel


def remembered_names(state: StateDict) -> str:
    """The known name map that a file was written with; "" where it does not say."""
    name = _remembered(state).get("names")
    return name if isinstance(name, str) and name in known_name_maps() else ""


def _remembered(state: StateDict) -> dict[str, object]:
    text = state.metadata.get(METADATA)
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its metadata '{METADATA}' is not JSON: {error}") from error
    return values if isinstance(values, dict) else {}


def match_state(
    spec: NetSpec, state: StateDict, names: Names | None, emitted: Callable[[], Sequence[Slot]]
) -> Match:
    """Matches a plain state dict with a net.

    Args:
        spec: the net.
        state: the tensors.
        names: the name map; None: that which the file remembers, else the net's own names or
            those of its emitted module, whichever has more of the keys.
        emitted: gives the tensors of the emitted module.
    Raises:
        WeightMismatchError: no names are given, and no key is one of the net's.
        UsageError, FormatError: as ``name_map`` raises them.
    """
    names = names or remembered_names(state) or None
    if names is not None:
        return match_names(spec, state, names)
    best = match_slots(spec, state, own_slots(spec))
    if known_keys(best) < len(state.tensors):
        best = max(best, match_slots(spec, state, emitted()), key=known_keys)
    likely = likely_names(spec, state) if best.missing or best.extra else ""
    if likely and known_keys(match_names(spec, state, likely)) > known_keys(best):
        what = f"has names that fit {option('names', likely)}"
    elif known_keys(best):
        return best
    else:
        what = f"needs {option('names', 'NAMES')}, which says whose names it has"
    raise WeightMismatchError(
        f"a state dict of another program {what}: its first key is '{next(iter(state.tensors))}'"
    )


def match_names(spec: NetSpec, state: StateDict, names: Names) -> Match:
    """Matches the state dict of another program with a net.

    Args:
        spec: the net.
        state: as ``read_state_dict`` gives it. A ``module.`` before every key is skipped, and the
            prefix of the name map may be absent.
        names: the name map.
    Raises:
        UsageError, FormatError: as ``name_map`` raises them.
    """
    chosen = name_map(names)
    tensors = {
        key: blob
        for key, blob in _without_wrapper(state.tensors).items()
        if key.rpartition(".")[2] != COUNTER
    }
    if not any(key.startswith(chosen.prefix) for key in tensors):
        chosen = replace(chosen, prefix="")
    slots, unnamed = slots_of(spec, chosen)
    found = match_slots(spec, replace(state, tensors=tensors), slots)
    found.missing += [f"{layer}, for which '{chosen.name}' has no name" for layer in unnamed]
    return found


def _without_wrapper(tensors: dict[str, StoredBlob]) -> dict[str, StoredBlob]:
    if all(key.startswith(_WRAPPER) for key in tensors):
        return {key.removeprefix(_WRAPPER): blob for key, blob in tensors.items()}
    return tensors


def match_slots(spec: NetSpec, state: StateDict, slots: Sequence[Slot]) -> Match:
    """Matches tensors by their keys; see ``Match``.

    A parameter of which another layer is the owner may be under either layer's key.
    """
    state = replace(state, tensors=_without_wrapper(state.tensors))
    result = Match()
    params = {layer.name: layer.params for layer in spec.layers}
    statistics: dict[str, dict[str, StoredBlob]] = {}
    for slot in slots:
        blob = state.tensors.get(slot.key)
        if blob is None:
            continue
        param = params[slot.layer][slot.param]
        expected = param.shape if slot.shape is None else slot.shape
        if not _fits(blob, expected, slot.shape is None):
            result.misfits.append(
                f"{slot.key}: {blob.data.dtype} {blob.data.shape} stored, float {expected} "
                f"expected (layer '{slot.layer}', {param.name})"
            )
        elif slot.statistics:
            statistics.setdefault(slot.layer, {})[slot.key] = blob
        else:
            result.pairs.append((slot.layer, slot.param, _reshaped_blob(blob, param.shape)))
    _add_statistics(result, slots, statistics, _remembered(state).get("sums"))
    keys = {(slot.layer, slot.param): slot.key for slot in slots}
    filled = {(layer, param) for layer, param, _ in result.pairs}
    result.missing = [
        f"{keys[place]} (layer '{place[0]}', {params[place[0]][place[1]].name})"
        for place in missing(spec, filled)
        if keys.get(place, "") not in {"", *state.tensors}
    ]
    used = set(keys.values())
    result.extra = [
        f"{key} {blob.data.shape}" for key, blob in state.tensors.items() if key not in used
    ]
    return result


def _fits(blob: StoredBlob, expected: Shape, any_shape: bool) -> bool:
    if blob.data.dtype.kind != "f":
        return False
    if any_shape:
        return bool(blob.data.size == math.prod(expected))
    return blob.data.shape == expected


def _add_statistics(
    result: Match,
    slots: Sequence[Slot],
    statistics: Mapping[str, Mapping[str, StoredBlob]],
    sums: object,
) -> None:
    """Adds the blobs of each BatchNorm whose mean and variance are both there."""
    modules = {slot.layer: slot.statistics for slot in slots if slot.statistics}
    for layer, values in statistics.items():
        if len(values) == len(STATISTICS):
            stored = _with_factor(list(values.values()), sums, modules[layer])
            result.pairs += [(layer, index, blob) for index, blob in enumerate(stored)]
        elif not result.misfits:
            (key,) = values
            result.misfits.append(f"{key}: the other of {' and '.join(STATISTICS)} is missing")


def _reshaped_blob(blob: StoredBlob, shape: Shape) -> StoredBlob:
    return StoredBlob(blob.data.reshape(shape), load=lambda: blob.aligned().reshape(shape))


def _with_factor(values: Sequence[StoredBlob], sums: object, module: str) -> Iterator[StoredBlob]:
    """Caffe's three blobs: those of the metadata if they give the stored statistics exactly."""
    stored = [value.aligned() for value in values]
    factor = np.ones(1, np.float32)
    if (kept := _kept(sums, module, stored[0].size)) is not None:
        quotients = [divided(total, kept[-1]) for total in kept[:-1]]
        if all(map(same_bits, stored, quotients)):
            *stored, factor = kept
    return map(StoredBlob, (*stored, factor))


def _kept(sums: object, module: str, channels: int) -> list[Array] | None:
    """Mean, variance and factor of the metadata; None where it has no such or it is malformed."""
    entry = sums.get(module) if isinstance(sums, dict) else None
    if not isinstance(entry, dict):
        return None
    kept = []
    for name, count in ((STATISTICS[0], channels), (STATISTICS[1], channels), ("factor", 1)):
        try:
            values = base64.b64decode(str(entry.get(name)), validate=True)
        except binascii.Error:
            return None
        if len(values) != 4 * count:
            return None
        kept.append(np.frombuffer(values, "<f4").astype(np.float32))
    return kept


def own_slots(spec: NetSpec) -> list[Slot]:
    """The tensors of ``Net.state_dict()``; a shared parameter has its owner's shape."""
    shapes = {(la.name, i): param.shape for la in spec.layers for i, param in enumerate(la.params)}
    return [
        Slot(f"{la.name}.{param.name}", la.name, i, shapes[param.owner or (la.name, i)])
        for la in spec.layers
        for i, param in enumerate(la.params)
    ]


def known_keys(found: Match) -> int:
    """How many of a state dict's tensors belong to the net, fitting or not."""
    return len(found.pairs) + len(found.misfits)


def likely_names(spec: NetSpec, state: StateDict) -> str:
    """The known name map that fits most of a state dict's keys; "" where none fits any."""
    keys = _without_wrapper(state.tensors)
    found = {}
    for name in known_name_maps():
        prefix = name_map(name).prefix
        with contextlib.suppress(WeightMismatchError):
            count = known_keys(match_names(spec, state, name))
            found[count, any(key.startswith(prefix) for key in keys), name] = name
    best = max(found, default=(0, False, ""))
    return found[best] if best[0] else ""


def load_named_state(
    net: Net, state: Mapping[str, Tensor], names: Names, *, strict: bool = True
) -> Match:
    """Loads the state dict of another program into a net, the inverse of ``named_state``.

    Args:
        net: the net, whose parameters are set.
        state: key -> tensor, of any device.
        names: as for ``named_state``.
        strict: whether missing and extra tensors are errors; False keeps what the net has and
            skips what it has not. A wrong shape is always an error.
    Returns:
        What was matched, missing and extra.
    Raises:
        WeightMismatchError: nothing was loaded.
        UsageError: the state dict holds other than tensors.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> state = cp.weights.named_state(net, "torchvision", strict=False)
        >>> cp.weights.load_named_state(net, state, "torchvision", strict=False).extra
        []
    """
    from caffe_port.weights.torch_file import state_of

    try:
        given = state_of(state)
    except FormatError as error:
        raise UsageError(f"the state dict cannot be loaded: {error.message}") from error
    found = match_names(net.spec, given, names)
    net.load_match(found, strict=strict)
    return found
