"""What real Caffe said about one run of one net: inputs, blobs, diffs and parameters.

Two homes for the same content: a folder with ``case.json`` and ``case.npz`` (``npz.py``), and the
HDF5 file that ``tools/record_caffe.py`` writes inside a real pycaffe (``hdf5.py``). Arrays are read
when they are asked for, so a recording may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from caffe_port import loading
from caffe_port.errors import FormatError, ParityError, option
from caffe_port.net import Net
from caffe_port.parity import archives
from caffe_port.parity.archives import BLOB_PARTS, PARAM_PARTS, Array, Meta

Key = TypeVar("Key")


class Arrays(Mapping[Key, Array], Generic[Key]):
    """Arrays by name, each read from the file at every look-up and not kept."""

    def __init__(self, readers: Mapping[Key, Callable[[], Array]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, key: Key) -> Array:
        return self._readers[key]()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, key: object) -> bool:
        return key in self._readers


@dataclass(frozen=True)
class Recording:
    """One run of real Caffe. Arrays are float32 in Caffe's axis order.

    Args:
        path: the folder or file it was read from.
        meta: phase, versions and the like.
        inputs: set before the forward pass, by blob.
        data: blobs after it (with in-place layers, the last writer's).
        topdiffs: diffs set on the outputs before the backward pass; {} when the loss weights were.
        diffs: blobs after it (with in-place layers, of the first writer's output).
        params: parameters used, by (layer, i).
        param_diffs: their gradients.
        after: parameters that the forward pass changed (BatchNorm in TRAIN).
    """

    path: Path
    meta: Meta
    inputs: Arrays[str]
    data: Arrays[str]
    topdiffs: Arrays[str]
    diffs: Arrays[str]
    params: Arrays[tuple[str, int]]
    param_diffs: Arrays[tuple[str, int]]
    after: Arrays[tuple[str, int]]

    @property
    def name(self) -> str:
        """The folder's or file's own name."""
        return self.path.resolve().name


def read_recording(path: str | Path) -> Recording:
    """Opens a recording: a folder as in tests/goldens, or HDF5 of ``tools/record_caffe.py``.

    Args:
        path: the folder or the file; arrays are read when they are used.
    Raises:
        FormatError: it is neither, or one of its parts is malformed. Arrays are checked for shape,
            type and length here; their content (checksums) when it is read.
    Examples:
        >>> from caffe_port.parity import read_recording
        >>> recording = read_recording("examples/shapes_voc/caffe_run/recording")
        >>> recording.meta.phase, recording.data["fc8_interp"].shape
        ('TEST', (1, 6, 161, 161))
    """
    path = Path(path)
    if path.is_dir():
        meta, readers = archives.open_folder(path)
    elif path.is_file():
        meta, readers = archives.open_file(path)
    else:
        raise FormatError("no such recording: expected a folder or an HDF5 file", path=path)
    return _assemble(path, meta, readers)


def _assemble(path: Path, meta: Meta, readers: Mapping[str, Callable[[], Array]]) -> Recording:
    blobs: dict[str, dict[str, Callable[[], Array]]] = {part: {} for part in BLOB_PARTS}
    params: dict[str, dict[tuple[str, int], Callable[[], Array]]] = {p: {} for p in PARAM_PARTS}
    for key, reader in readers.items():
        part, _, name = key.partition("/")
        if part in blobs and name:
            blobs[part][name] = reader
        elif part in params and name.rpartition("/")[0]:
            params[part][_param_key(key, name, path)] = reader
        else:
            known = ", ".join(BLOB_PARTS + PARAM_PARTS)
            raise FormatError(f"array '{key}': expected <part>/<name> of {known}", path=path)
    if not blobs["data"]:
        raise FormatError("no blob was recorded: there is no array 'data/<blob>'", path=path)
    return Recording(
        path=path,
        meta=meta,
        inputs=Arrays(blobs["input"]),
        data=Arrays(blobs["data"]),
        topdiffs=Arrays(blobs["topdiff"]),
        diffs=Arrays(blobs["diff"]),
        params=Arrays(params["param"]),
        param_diffs=Arrays(params["pdiff"]),
        after=Arrays(params["after"]),
    )


def _param_key(key: str, name: str, path: Path) -> tuple[str, int]:
    layer, _, index = name.rpartition("/")
    if not (index.isascii() and index.isdigit() and len(index) < 4):
        raise FormatError(f"array '{key}': '{index}' is no parameter's number", path=path)
    return layer, int(index)


def load_recorded(
    net: str | Path, weights: str | Path | None, recording: str | Path, options: Mapping[str, Any]
) -> tuple[Net, Recording, frozenset[tuple[str, int]]]:
    """Loads the net of a recording: its phase, shapes of inputs, and parameters without weights.

    Args:
        net, weights: files, see ``caffe_port.load``.
        recording: see ``read_recording``.
        options: of ``load``; a shape that they give has precedence.
    Returns:
        The net, the recording, and what ``adopt_parameters`` set.
    Raises:
        ParityError: ``options`` name another phase.
        CaffePortError: a file cannot be read or used.
    """
    case = read_recording(recording)
    phase = options.get("phase") or case.meta.phase
    check_phase(phase, case)
    # data layers then need none of their files
    shapes = {name: values.shape for name, values in case.inputs.items()}
    shapes |= options.get("input_shapes") or {}
    port = loading.load(
        net, weights, strict=False, **{**options, "phase": phase, "input_shapes": shapes}
    )
    return port, case, adopt_parameters(port, case)


def check_phase(phase: str, recording: Recording) -> None:
    """Raises ParityError where a net of that phase is not the one that was recorded."""
    if phase != recording.meta.phase:
        raise ParityError(
            f"the net was built for phase {phase}, {recording.path} was recorded in "
            f"{recording.meta.phase}: give {option('phase', recording.meta.phase)}"
        )


def adopt_parameters(net: Net, recording: Recording) -> frozenset[tuple[str, int]]:
    """Sets every parameter that no file of weights gave to its recorded value.

    Caffe fills what a file lacks with random numbers and says nothing, for instance the last layer
    of a net that is fine-tuned; without a file it fills all.

    Args:
        net: loaded with ``strict=False``; changed.
        recording: of the same net.
    Returns:
        (layer, i) of each parameter that was set; comparing it with the recording proves nothing.
    Raises:
        WeightMismatchError: there is a file of weights, but none of them are the net's.
        ParityError: a parameter is neither in the file nor, with its shape, in the recording.
    """
    keys = {
        (layer.name, i): param
        for layer in net.spec.layers
        for i, param in enumerate(net.layer_params(layer.name))
    }
    if net.loaded is not None and keys and not net.loaded.pairs:
        net.loaded.check(strict=True)
    pairs = () if net.loaded is None else net.loaded.pairs
    loaded = {id(keys[layer, i]) for layer, i, _ in pairs}
    adopted = {key: param for key, param in keys.items() if id(param) not in loaded}
    for (layer, i), param in adopted.items():
        if (layer, i) not in recording.params:
            raise ParityError(
                f"parameter {i} of layer '{layer}' is in no file of weights and not in "
                f"{recording.path}: give all weights, or record without --no-params"
            )
        values = torch.from_numpy(recording.params[layer, i].copy())
        if values.numel() != param.numel():
            raise ParityError(
                f"parameter {i} of layer '{layer}' has shape {list(param.shape)}, in "
                f"{recording.path} {list(values.shape)}: is this the net that was recorded?"
            )
        with torch.no_grad():
            param.copy_(values.reshape(param.shape))
    return frozenset(adopted)
