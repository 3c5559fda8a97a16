"""Where data layers stand between two batches, and putting them there again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_port.data.c_library import CLibraryRandom
from caffe_port.data.database import DatabaseReader
from caffe_port.data.hdf5 import Hdf5Reader
from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader
from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import UsageError
from caffe_port.layers._source import SourceLayer
from caffe_port.layers.hdf5_data import HDF5Data

_LISTS = (ImageReader, ImageSegReader)


@dataclass(frozen=True)
class _Moment:
    """A data layer between two batches; generators as numpy gives them."""

    transformer: tuple[Any, ...]
    order: tuple[Any, ...]
    lines: list[Any]
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
        lines, place = [], 0
        if isinstance(reader, _LISTS):
            lines, place = list(reader._lines), reader._place
        return _Moment(raw(streams.transformer), raw(streams.order), lines, place)

    def to_json(self) -> dict[str, Any]:
        """Everything that the layer's next batch depends on."""
        moment = self._moment
        return {
            "passes": self.passes,
            "skipped": self._layer.streams.skipped,
            "transformer": encoded(moment.transformer),
            "order": encoded(moment.order),
            "lines": [_number(line.where) for line in moment.lines],
            "next": moment.next,
        }

    def set_json(self, state: Mapping[str, Any]) -> None:
        """Puts the layer where another one was.

        Raises:
            UsageError: its list has changed since.
            KeyError, TypeError, ValueError: not what ``to_json`` gives.
        """
        layer, self.passes = self._layer, int(state["passes"])
        if layer._ahead is not None:
            layer._ahead.exception()  # waits; what was read ahead is dropped
            layer._ahead = None
        layer.reader, layer.streams.skipped = None, int(state["skipped"])
        if isinstance(layer, HDF5Data):
            layer.order = CLibraryRandom()  # its order is the same in every run
        if self.passes:
            layer.reader = layer.open()
            self._set_place(state)
        set_raw(layer.streams.transformer, state["transformer"])
        set_raw(layer.streams.order, state["order"])
        self._moment = self._now()

    def _set_place(self, state: Mapping[str, Any]) -> None:
        reader = self._layer.reader
        if isinstance(reader, _LISTS):
            _reorder(reader, state["lines"], int(state["next"]))
        elif isinstance(reader, DatabaseReader):
            records = sum(1 for _ in reader._database)
            for _ in range(self.passes * reader.batch_size % records):
                next(reader._records)
        elif isinstance(reader, Hdf5Reader):
            for _ in range(self.passes):
                reader.next_batch()


def _reorder(reader: ImageReader | ImageSegReader, numbers: list[int], place: int) -> None:
    lines: list[Any] = reader._lines
    found = {_number(line.where): line for line in lines}
    if sorted(numbers) != sorted(found) or not 0 <= place < len(found):
        raise UsageError(
            f"{lines[0].where.rpartition(':')[0]}: the list has changed since the snapshot: "
            f"{len(found)} lines, {len(numbers)} then; give -norunstate to start it afresh"
        )
    lines[:] = [found[number] for number in numbers]
    reader._place = place


def _number(where: str) -> int:
    """The number in 'list: line 12'."""
    return int(where.rpartition(" ")[2])


def raw(random: CaffeRandom) -> tuple[Any, ...]:
    """A generator's state, as numpy gives it."""
    state = random._state.get_state(legacy=True)
    assert isinstance(state, tuple)
    return state


def encoded(state: tuple[Any, ...]) -> dict[str, Any]:
    """A generator's state for JSON."""
    return {"keys": np.asarray(state[1], np.uint32).tobytes().hex(), "place": int(state[2])}


def set_raw(random: CaffeRandom, state: Mapping[str, Any]) -> None:
    """Gives a generator a state that ``encoded`` made."""
    keys = np.frombuffer(bytes.fromhex(state["keys"]), np.uint32)
    random._state.set_state(("MT19937", keys, int(state["place"]), 0, 0.0))
