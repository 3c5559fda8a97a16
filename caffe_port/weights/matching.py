"""Matching of stored blobs with the parameters of a net.

Source: BVLC/caffe net.cpp, CopyTrainedLayersFrom; blob.cpp, ShapeEquals.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from caffe_port.errors import WeightMismatchError, option
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import Shape
from caffe_port.weights.stored import StoredBlob, StoredLayer

_SHOWN = 12
_WITH_BIAS = {
    "Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution", "InnerProduct",
    "Scale",
}  # fmt: skip


@dataclass
class Match:
    """The outcome of matching stored layers with a net.

    Attributes:
        pairs: (layer, index, blob) to copy, in the file's order; as in Caffe the last of several
            copies of a shared parameter counts.
        missing: parameters of the net without stored blobs.
        extra: stored layers with blobs that the net does not have.
        misfits: stored blobs whose count or shape is not the net's.
    """

    pairs: list[tuple[str, int, StoredBlob]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def check(self, strict: bool) -> None:
        """Raises an error if something does not fit.

        Args:
            strict: whether missing and extra ones count too; Caffe itself ignores both.
        Raises:
            WeightMismatchError: with all of them.
        """
        problems = list(self.misfits)
        if strict:
            problems += [f"missing: {name}" for name in self.missing]
            problems += [f"not in the net: {name}" for name in self.extra]
        if problems:
            accepting = "" if self.misfits else option("strict", False)
            advice = f"\n{accepting} accepts this, as Caffe did" if accepting else ""
            raise WeightMismatchError(f"the weights do not fit the net:{listed(problems)}{advice}")


def listed(problems: Iterable[str]) -> str:
    """The first of several problems, one on each line, for a message."""
    shown = list(problems)
    if len(shown) > _SHOWN:
        shown[_SHOWN:] = [f"and {len(shown) - _SHOWN} more"]
    return "".join(f"\n  {problem}" for problem in shown)


def fits(stored: StoredBlob, shape: Shape, strict_dim: bool = True) -> bool:
    """Whether a blob has a parameter's shape; legacy shapes are compared padded to 4 axes.

    Args:
        stored: the blob.
        shape: the parameter's.
        strict_dim: False compares counts only, an option of DeepLab v1.
    """
    found = tuple(stored.data.shape)
    if not strict_dim:
        return bool(math.prod(found) == math.prod(shape))
    if stored.legacy:
        return len(shape) <= 4 and found == (1,) * (4 - len(shape)) + shape
    return found == shape


def match(spec: NetSpec, layers: Sequence[StoredLayer]) -> Match:
    """Matches by layer name and position.

    Layers of one name are matched in order; those without parameters are skipped.
    """
    result = Match()
    filled: set[tuple[str, int]] = set()
    for stored, layer in _partners(spec, layers):
        if layer is None:
            if stored.blobs:
                result.extra.append(f"layer '{stored.name}' with {len(stored.blobs)} blobs")
            continue
        params, message = layer.params, layer.message
        strict_dim = message.strict_dim or not message.HasField("strict_dim")
        blobs = list(stored.numbered())
        complete = [i for i, _ in blobs] == list(range(len(params)))
        # HDF5 stores a shared parameter with its owner only
        elsewhere = {i for i, param in enumerate(params) if param.owner is not None}
        if not complete and {i for i, _ in blobs} | elsewhere != set(range(len(params))):
            result.misfits.append(
                f"layer '{stored.name}': {len(blobs)} blobs stored, {len(params)} expected"
                + _why_count(stored, layer)
            )
            continue
        for i, blob in blobs:
            # TSN's BN has (1, C) where PSPNet's has (1, C, 1, 1)
            loose = layer.type == "BN" and math.prod(params[i].shape) == blob.data.size
            if not loose and not fits(blob, params[i].shape, strict_dim):
                result.misfits.append(
                    f"layer '{stored.name}', blob {i}: shape {tuple(blob.data.shape)} stored, "
                    f"{params[i].shape} expected" + _why_shape(blob, layer, i)
                )
                continue
            result.pairs.append((layer.name, i, blob))
            filled.add((layer.name, i))
    result.missing = [f"layer '{layer}', blob {i}" for layer, i in missing(spec, filled)]
    return result


def _why_count(stored: StoredLayer, layer: LayerSpec) -> str:
    """The likely cause of a wrong number of blobs, for a message."""
    found, wanted = len(stored.blobs), len(layer.params)
    if (layer.type, found, wanted) == ("BatchNorm", 5, 3):
        return (
            ": NVCaffe's BatchNorm with scale_bias: write batch_norm_param { scale_bias: true } "
            "and its eps"
        )
    if layer.type == "BN" and {found, wanted} == {2, 4}:
        return (
            ": PSPNet's BN has four, SegNet's two. The options of bn_param say which one it is; "
            f"the stored ones are {'PSPNet' if found == 4 else 'SegNet'}'s, which is told by "
            f"{'momentum' if found == 4 else 'bn_mode'}"
        )
    if layer.type in _WITH_BIAS and {found, wanted} == {1, 2}:
        return f": bias_term is {'false' if found == 1 else 'true'} for the stored ones"
    return ""


def _why_shape(blob: StoredBlob, layer: LayerSpec, index: int) -> str:
    """The likely cause of a wrong shape, for a message."""
    found, wanted = tuple(blob.data.shape), layer.params[index].shape
    if math.prod(found) == math.prod(wanted):
        kinds = {"Convolution": "an InnerProduct", "InnerProduct": "a Convolution"}
        other = f", of {kinds[layer.type]} layer" if layer.type in kinds and not index else ""
        return (
            f": the same number of values{other}; strict_dim: false in the layer takes them as "
            "they are, in their order"
        )
    bare = found[max(0, len(found) - len(wanted)) :] if blob.legacy else found
    if bare[1:] == wanted[1:] and len(bare) == len(wanted) and layer.type in _WITH_BIAS:
        return (
            f": the layer has {wanted[0]} outputs and was stored with {bare[0]}; to train it from "
            "scratch, give it another name"
        )
    return ""


def _partners(
    spec: NetSpec, layers: Sequence[StoredLayer]
) -> Iterator[tuple[StoredLayer, LayerSpec | None]]:
    """Each stored layer with the layer of the net that it belongs to, if there is one."""
    wanted: defaultdict[str, list[LayerSpec]] = defaultdict(list)
    for layer in sorted(spec.layers, key=lambda layer: not layer.params):
        same = wanted[layer.prototxt_name]
        if layer.params or not same:
            same.append(layer)
    with_blobs = {stored.name for stored in layers if stored.blobs}
    met: Counter[str] = Counter()
    for stored in layers:
        if not stored.blobs and stored.name in with_blobs:
            continue
        same = wanted.get(stored.name, [])
        # a TRAIN and a TEST layer of one name may both be stored; the last one counts
        yield stored, same[min(met[stored.name], len(same) - 1)] if same else None
        met[stored.name] += 1


def missing(spec: NetSpec, filled: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Parameters (layer, index) that are not filled, neither directly nor through sharing."""
    owner_of = {
        (layer.name, i): param.owner or (layer.name, i)
        for layer in spec.layers
        for i, param in enumerate(layer.params)
    }
    reached = {owner_of[key] for key in filled}
    return [place for place, owner in owner_of.items() if owner not in reached]
