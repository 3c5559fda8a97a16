"""Run state files: what a resumed training needs besides Caffe's solver state.

A solver state has the iteration and the histories of the update. The run state file next to it has,
in JSON, the random generators, the order of each data layer's list and the place in it, sums that
layers keep from batch to batch, and the losses of average_loss.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from caffe_port.data import rng
from caffe_port.data.database import DatabaseReader
from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader
from caffe_port.data.rng import CaffeRandom, CLibraryRandom
from caffe_port.errors import FormatError, UsageError, option
from caffe_port.files import OpenFile, read_json, write_text
from caffe_port.layers.data import SourceLayer
from caffe_port.layers.inputs import HDF5Data, MatWrite
from caffe_port.live import mode
from caffe_port.solver.log import WARNING, log
from caffe_port.solver.modes import LossScale

if TYPE_CHECKING:
    from caffe_port.live.net import Net


_LISTS = (ImageReader, ImageSegReader)
RandomState = tuple[npt.NDArray[np.uint32], int]


@dataclass(frozen=True)
class _Moment:
    """The state of a data layer between two batches."""

    transformer: RandomState
    order: RandomState
    lines: list[int]
    next: int


class SourceState:
    """Keeps the state of a data layer after its last batch; its thread has read further.

    Args:
        layer: the data layer.
    """

    def __init__(self, layer: SourceLayer) -> None:
        self._layer, self.passes = layer, 0
        self._renew = layer.streams.after_batch
        self._moment = self._now()
        # called between two batches, when nothing is being read
        setattr(layer.streams, "after_batch", self._after_batch)  # noqa: B010 - mypy's rule

    def _after_batch(self) -> None:
        self._renew()
        self.passes += 1
        self._moment = self._now()

    def _now(self) -> _Moment:
        streams, reader = self._layer.streams, self._layer.reader
        lines, place = reader.lines.state() if isinstance(reader, _LISTS) else ([], 0)
        return _Moment(streams.transformer.state(), streams.order.state(), lines, place)

    def to_json(self) -> dict[str, Any]:
        """Everything on which the next batch of the layer depends."""
        moment = self._moment
        return {
            "passes": self.passes,
            "skipped": self._layer.streams.skipped,
            "transformer": encoded(moment.transformer),
            "order": encoded(moment.order),
            "lines": moment.lines,
            "next": moment.next,
        }

    def set_json(self, state: Mapping[str, Any]) -> None:
        """Sets the layer to the state of another one.

        Raises:
            UsageError: its list has changed.
            KeyError, TypeError, ValueError: not the result of ``to_json``.
        """
        layer, self.passes = self._layer, int(state["passes"])
        layer.rewind()
        layer.streams.skipped = int(state["skipped"])
        if isinstance(layer, HDF5Data):
            layer.order = CLibraryRandom()  # its order is the same in every run
        if self.passes:
            layer.reader = layer.open()
            self._set_place(state)
        set_encoded(layer.streams.transformer, state["transformer"])
        set_encoded(layer.streams.order, state["order"])
        self._moment = self._now()

    def _set_place(self, state: Mapping[str, Any]) -> None:
        reader = self._layer.reader
        if isinstance(reader, _LISTS):
            reader.lines.set_state(state["lines"], int(state["next"]))
        elif isinstance(reader, DatabaseReader):
            reader.skip_batches(self.passes)
        elif isinstance(reader, Hdf5Reader):
            for _ in range(self.passes):
                reader.next_batch()


def encoded(state: RandomState) -> dict[str, Any]:
    """Encodes the state of a generator for JSON."""
    words, place = state
    return {"keys": words.tobytes().hex(), "place": place}


def set_encoded(random: CaffeRandom, state: Mapping[str, Any]) -> None:
    """Sets a generator to a state of ``encoded``."""
    words = np.frombuffer(bytes.fromhex(state["keys"]), np.uint32)
    random.set_state(words, int(state["place"]))


_Path = str | os.PathLike[str]
_FORMAT = "caffe_port runstate 1"
_LARGEST = 2**30  # bytes of a file that is read at all


@dataclass(frozen=True)
class Smoothing:
    """The running mean of the loss.

    Attributes:
        losses, smoothed: its losses, and their mean.
        start: its first iteration.
    """

    losses: tuple[float, ...]
    smoothed: float
    start: int


def path_of(state_file: _Path) -> str:
    """`x.runstate` for `x.solverstate` and `x.solverstate.h5`."""
    name = os.fspath(state_file)
    for suffix in (".solverstate.h5", ".solverstate"):
        if name.endswith(suffix):
            return name[: -len(suffix)] + ".runstate"
    return name + ".runstate"


class RunState:
    """Writes and reads run state files of some nets.

    Args:
        nets: the train net, then the test nets, before their first batch.
        scale: the loss scale, if the training has one.
    """

    def __init__(self, nets: Sequence[Net], scale: LossScale | None = None) -> None:
        self._scale = scale
        self._nets = [net._net for net in nets]
        self._sources = [
            {
                layer.name: SourceState(module)
                for layer in net.spec.layers
                if isinstance(module := net.module(layer.name), SourceLayer)
            }
            for net in self._nets
        ]

    def write(
        self, path: _Path, state_file: _Path, weights_file: _Path, smoothing: Smoothing
    ) -> None:
        """Writes the file, completely or not at all.

        Args:
            path: the file.
            state_file, weights_file: the files it belongs to, which exist.
            smoothing: of the loss.
        """
        thread = _thread()
        content = {
            "format": _FORMAT,
            "solverstate_sha256": OpenFile(state_file).digest(),
            "weights_sha256": OpenFile(weights_file).digest(),
            "thread": None if thread is None else encoded(thread.state()),
            "torch": bytes(torch.get_rng_state().numpy()).hex(),
            "gpu": _gpu_state(),
            "smoothing": asdict(smoothing),
            "loss_scale": None if self._scale is None else self._scale.state(),
            "nets": [self._net_json(number) for number in range(len(self._nets))],
        }
        write_text(path, json.dumps(content))

    def read(self, path: _Path, state_file: _Path, weights_file: _Path) -> Smoothing | None:
        """Restores everything as it was when the file was written.

        Returns:
            The mean of the loss; None where the file belongs to another snapshot of the same name,
            which is logged and changes nothing.
        Raises:
            FormatError: the file is malformed.
            UsageError: it belongs to other nets, the weights are not those that were saved with the
                state, or a list has changed.
        """
        content = _parsed(path)
        try:
            if content["solverstate_sha256"] != OpenFile(state_file).digest():
                message = f"{os.fspath(path)} belongs to another snapshot and is not used."
                log(message, severity=WARNING)
                return None
            if content.get("weights_sha256") not in (None, OpenFile(weights_file).digest()):
                without = option("keeps_run_state", False)
                without = f"; {without} resumes all the same" if without else ""
                raise UsageError(
                    f"{os.fspath(weights_file)}: not the weights that were saved with "
                    f"{os.fspath(state_file)}{without}"
                )
            return self._set(path, content)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError(
                f"not a run state file ({type(error).__name__}: {error}); delete it or give "
                "-norunstate to resume as Caffe does", path=path,
            ) from error  # fmt: skip

    def _set(self, path: _Path, content: Mapping[str, Any]) -> Smoothing:
        if len(content["nets"]) != len(self._nets):
            raise UsageError(
                f"{path}: of {len(content['nets'])} nets; this solver has {len(self._nets)}"
            )
        for number, states in enumerate(content["nets"]):
            self._set_net(path, number, states)
        thread = _thread()
        if thread is not None and content["thread"] is not None:
            set_encoded(thread, content["thread"])
        state = np.frombuffer(bytes.fromhex(content["torch"]), np.uint8)
        torch.set_rng_state(torch.from_numpy(state.copy()))
        if content.get("gpu") is not None and _gpu_state() is not None:
            state = np.frombuffer(bytes.fromhex(content["gpu"]), np.uint8)
            torch.cuda.set_rng_state(torch.from_numpy(state.copy()), mode.device())
        if self._scale is not None and content.get("loss_scale") is not None:
            self._scale.set_state(content["loss_scale"])
        found = content["smoothing"]
        losses = tuple(map(float, found["losses"]))
        return Smoothing(losses, float(found["smoothed"]), int(found["start"]))

    def _net_json(self, number: int) -> dict[str, Any]:
        states = {}
        for layer in self._nets[number].spec.layers:
            module = self._nets[number].module(layer.name)
            state: dict[str, Any] = {
                name: tensor.tolist() for name, tensor in module.named_buffers(recurse=False)
            }
            if isinstance(module, MatWrite):
                state["passes"] = module.passes
            if layer.name in self._sources[number]:
                state["source"] = self._sources[number][layer.name].to_json()
            if state:
                states[layer.name] = state
        return states

    def _set_net(self, path: _Path, number: int, states: Mapping[str, Any]) -> None:
        mine = self._net_json(number)
        if mine.keys() != states.keys():
            raise UsageError(
                f"{path}: of layers {sorted(states)}; this net has {sorted(mine)}; give "
                "-norunstate to resume as Caffe does"
            )
        for name, state in states.items():
            module = self._nets[number].module(name)
            for key, tensor in list(module.named_buffers(recurse=False)):
                stored = torch.tensor(state[key], dtype=tensor.dtype)
                # that of a recurrent layer is empty before the first pass
                setattr(module, key, stored.view(tensor.shape) if tensor.numel() else stored)
            if isinstance(module, MatWrite):
                module.passes = int(state["passes"])
            if name in self._sources[number]:
                self._sources[number][name].set_json(state["source"])


def _parsed(path: _Path) -> dict[str, Any]:
    content = read_json(path, _LARGEST)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(f"expected the format '{_FORMAT}'", path=path)
    return content


def _gpu_state() -> str | None:
    """The state of the generator from which masks of -torch_dropout come on a GPU; else None."""
    device = mode.device()
    if device.type != "cuda":
        return None
    return bytes(torch.cuda.get_rng_state(device).numpy()).hex()


def _thread() -> CaffeRandom | None:
    """The generator of the solver's thread."""
    with mode.building():
        return rng.current()
