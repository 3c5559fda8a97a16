"""Parameters of a net under the names of another program's state dict, and back.

Caffe's BatchNorm stores sums and the factor that divides them, torch's the quotients. The file
keeps the sums in its metadata, so that the way back restores them bit for bit; where the
statistics were changed since, or the metadata is missing, the way back writes factor 1.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from caffe_port.errors import WeightMismatchError, option
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Shape
from caffe_port.weights.matching import listed
from caffe_port.weights.naming import NameMap, known_name_maps, name_map
from caffe_port.weights.stored import Array, StateDict, StoredBlob, StoredLayer, identity

if TYPE_CHECKING:
    from collections import OrderedDict

    from torch import Tensor

    from caffe_port.net import Net

Names: TypeAlias = "str | os.PathLike[str] | NameMap"
STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"
METADATA = "caffe_port"


class Slot(NamedTuple):
    """A tensor of the other program's state dict.

    Attributes:
        key: its name.
        layer: the layer of the net, by its unique name.
        param: the index of the parameter in the layer.
        shape: the tensor's; None for any of as many values.
        statistics: the module's path where it is a BatchNorm's mean or variance.
    """

    key: str
    layer: str
    param: int
    shape: Shape | None
    statistics: str = ""


@dataclass(frozen=True)
class NamedState:
    """What ``to_names`` gives.

    Attributes:
        state: the tensors and the metadata for the way back.
        left_out: layers without a name there.
    """

    state: StateDict
    left_out: tuple[str, ...]


def slots_of(spec: NetSpec, names: NameMap) -> tuple[list[Slot], list[str]]:
    """The tensors that hold a net's parameters there, and the layers without a name there."""
    slots, unnamed = [], []
    for layer in spec.layers:
        if not layer.params:
            continue
        found = names.module(layer.prototxt_name, layer.type)
        if found is None:
            if any(param.owner is None for param in layer.params):
                unnamed.append(f"layer '{layer.name}' ({layer.type})")
            continue
        module, rule = found
        path = names.prefix + module
        if layer.type == "BatchNorm":
            for index, name in enumerate(STATISTICS):
                shape = layer.params[index].shape
                slots.append(Slot(f"{path}.{name}", layer.name, index, shape, module))
            for index, name in zip((3, 4), ("weight", "bias"), strict=True):
                if index < len(layer.params):  # NVCaffe's scale_bias
                    shape = layer.params[index].shape
                    slots.append(Slot(f"{path}.{name}", layer.name, index, shape))
            continue
        for index, param in enumerate(layer.params):
            key = f"{path}.{rule.parameters.get(param.name, param.name)}"
            shape = _reshaped(layer, param.shape, rule.shape) if index == 0 else param.shape
            slots.append(Slot(key, layer.name, index, shape))
    return slots, unnamed


def _reshaped(layer: LayerSpec, shape: Shape, wanted: Shape) -> Shape:
    """A weight's shape by a rule, with Caffe's meaning of 0 and -1."""
    if not wanted:
        return shape
    sizes = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted)]
    count = math.prod(shape)
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and known:
        sizes[sizes.index(-1)] = count // known
    if math.prod(sizes) != count:
        raise WeightMismatchError(
            f"layer '{layer.name}': its weight of shape {shape} cannot have the shape "
            f"{list(wanted)} of the name map's rule"
        )
    return tuple(sizes)


def to_names(
    spec: NetSpec, layers: Sequence[StoredLayer], names: Names, *, strict: bool = True
) -> NamedState:
    """A net's parameters as the state dict of another program.

    Args:
        spec: the net.
        layers: its parameters, one entry per layer of the spec: ``Net.stored_layers()``.
        names: the name map.
        strict: whether a layer without a name there is an error; False leaves it out.
    Raises:
        WeightMismatchError: see ``strict``; two layers have one name and different values.
        UsageError, FormatError: as ``name_map`` raises them.
    """
    chosen = name_map(names)
    slots, unnamed = slots_of(spec, chosen)
    if unnamed and (strict or not slots):
        advice = f"\n{option('strict', False)} leaves them out" if slots else ""
        text = listed(f"no name: {layer}" for layer in unnamed)
        raise WeightMismatchError(f"'{chosen.name}' does not name every layer:{text}{advice}")
    blobs = {layer.name: stored.blobs for layer, stored in zip(spec.layers, layers, strict=True)}
    tensors: dict[str, StoredBlob] = {}
    sums: dict[str, dict[str, str]] = {}
    problems = []
    for slot in slots:
        value = blobs[slot.layer][slot.param].data
        if slot.statistics:
            factor = blobs[slot.layer][2].data
            if factor[0] != 1:
                entry = sums.setdefault(slot.statistics, {"factor": _encoded(factor)})
                entry[STATISTICS[slot.param]] = _encoded(value)
            value = divided(value, factor)
            tensors[_counter(slot)] = StoredBlob(np.zeros((), np.int64))
        value = value.reshape(value.shape if slot.shape is None else slot.shape)
        if not same_bits(tensors.setdefault(slot.key, StoredBlob(value)).data, value):
            problems.append(f"{slot.key}: layer '{slot.layer}' has other values or another shape")
    if problems:
        text = listed(problems)
        raise WeightMismatchError(f"several layers have one name, which holds one tensor:{text}")
    remembered = {"names": chosen.name if chosen.name in known_name_maps() else ""}
    metadata = {METADATA: json.dumps({**remembered, "sums": sums}, sort_keys=True)}
    return NamedState(StateDict(tensors, "", metadata), tuple(unnamed))


def _counter(slot: Slot) -> str:
    return f"{slot.key.rpartition('.')[0]}.{COUNTER}"


def divided(sums: Array, factor: Array) -> Array:
    """As Caffe's BatchNorm does, in float32: times the reciprocal, and 0 for a factor of 0."""
    if factor[0] == 1:
        return sums
    one = np.ones(1, sums.dtype)
    with np.errstate(all="ignore"):
        scale = one / factor if factor[0] != 0 else np.zeros_like(one)
        return np.asarray(sums * scale)


def same_bits(first: Array, second: Array) -> bool:
    """Whether two arrays have one shape and the same bytes."""
    if first is second or (first.size and identity(first) == identity(second)):
        return True
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _encoded(values: Array) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def named_state(net: Net, names: Names, *, strict: bool = True) -> OrderedDict[str, Tensor]:
    """A net's parameters under the names of another program, for its ``load_state_dict``.

    BatchNorm's mean and variance are divided by Caffe's factor, and the Scale layer after it is
    the weight and bias of the same module. ``load_named_state`` restores Caffe's numbers bit for
    bit, also after ``torch.save``.

    Args:
        net: the net.
        names: 'kazuto1011', 'isht7', 'torchvision', 'timm', or the path of a JSON file.
        strict: whether a layer without a name there is an error; False leaves it out.
    Returns:
        Key -> tensor on the CPU, copies of the net's.
    Raises:
        WeightMismatchError: layers have no name there, or several have one.
        UsageError, FormatError: as ``name_map`` raises them.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> state = cp.weights.named_state(net, "torchvision", strict=False)
        >>> list(state)[:2], state["features.0.weight"].shape
        (['features.0.weight', 'features.0.bias'], torch.Size([8, 3, 3, 3]))
    """
    from caffe_port.weights.torch_file import tensors_of

    return tensors_of(to_names(net.spec, net.stored_layers(), names, strict=strict).state)
