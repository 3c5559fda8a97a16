"""Where data layers stand between two batches, and putting them there again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.data.c_library import CLibraryRandom
from caffe_port.data.database import DatabaseReader
from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader
from caffe_port.data.rng import CaffeRandom
from caffe_port.layers.data import SourceLayer
from caffe_port.layers.files import HDF5Data

_LISTS = (ImageReader, ImageSegReader)
RandomState = tuple[npt.NDArray[np.uint32], int]


@dataclass(frozen=True)
class _Moment:
    """A data layer between two batches."""

    transformer: RandomState
    order: RandomState
    lines: list[int]
    next: int


class SourceState:
    """Follows a data layer, which reads ahead in a thread: what counts is what it has given.

    Args:
        layer: from now on every batch of it is noted.
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
        """Everything that the layer's next batch depends on."""
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
        """Puts the layer where another one was.

        Raises:
            UsageError: its list has changed since.
            KeyError, TypeError, ValueError: not what ``to_json`` gives.
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
            reader.pass_over(self.passes)
        elif isinstance(reader, Hdf5Reader):
            for _ in range(self.passes):
                reader.next_batch()


def encoded(state: RandomState) -> dict[str, Any]:
    """A generator's state for JSON."""
    words, place = state
    return {"keys": words.tobytes().hex(), "place": place}


def set_encoded(random: CaffeRandom, state: Mapping[str, Any]) -> None:
    """Gives a generator a state that ``encoded`` made."""
    words = np.frombuffer(bytes.fromhex(state["keys"]), np.uint32)
    random.set_state(words, int(state["place"]))
