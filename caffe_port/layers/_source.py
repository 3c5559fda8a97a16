"""What layers that read batches from files share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.streams import Streams
from caffe_port.data.transformer import Transformer
from caffe_port.labels import WrongLabelError
from caffe_port.layers._registry import Layer
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops._transform import Transform

Batch: TypeAlias = tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]
_Read: TypeAlias = tuple[Batch, tuple[str, ...]]


class Reader(Protocol):
    """What makes the batches."""

    def next_batch(self) -> Batch:
        """One array per top."""


class SourceLayer(Layer):
    """Gives the next batch at every forward pass.

    Its files are opened at the first one, so that a net whose data the caller gives needs none.
    In TRAIN the batch after is read in a thread meanwhile; an error waits for the pass that needs
    the batch. From a Caffe generator it draws when it is made, as Caffe does, so neither changes
    a number. A copy of the layer opens its files again.

    Attributes:
        places: where each item of the last batch comes from, such as a line of a list; empty where
            the reader does not say.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.streams = self.seeds(rng.current())
        self.reader: Reader | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: Future[_Read] | None = None
        self.places: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reader": None, "_thread": None, "_ahead": None}

    def rewind(self) -> None:
        """Forgets the files and what was read ahead; the next pass opens them anew."""
        if self._ahead is not None:
            self._ahead.exception()  # waits
        self._ahead = self.reader = None

    def seeds(self, thread: rng.CaffeRandom | None) -> Streams:
        """Takes the layer's draws."""
        raise TypeError(f"{type(self).__name__} defines no seeds")

    def open(self) -> Reader:
        """Opens the layer's files."""
        raise TypeError(f"{type(self).__name__} defines no open")

    def transformer(self, transform: Transform) -> Transformer:
        """The layer's transformer, on the layer's generator."""
        return Transformer(transform, self.spec.phase, self.streams.transformer)

    @staticmethod
    def _read(reader: Reader) -> _Read:
        return reader.next_batch(), tuple(getattr(reader, "places", ()))

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self.reader is None:
            self.reader = self.open()
        ahead, self._ahead = self._ahead, None
        batch, self.places = self._read(self.reader) if ahead is None else ahead.result()
        self.streams.after_batch()
        if self.in_training:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, f"reading ahead for {self.spec.name}")
            self._ahead = self._thread.submit(self._read, self.reader)
        return tuple(torch.from_numpy(blob) for blob in batch[: len(self.spec.tops)])


def label_place(
    net: NetSpec, module: Callable[[str], Layer], layer: LayerSpec, wrong: WrongLabelError
) -> str:
    """Where a wrong label was read, for a message; "" where no reader says.

    Args:
        net: the net.
        module: a layer's module by its name.
        layer: the one that refused the label, its second bottom.
        wrong: what it refused.
    """
    names = [one.name for one in net.layers]
    blob, places, advice = layer.bottoms[1], (), ""
    for one in reversed(net.layers[: names.index(layer.name)]):
        if blob in one.tops and one.bottoms:  # a Split, or an Interp that makes the maps smaller
            blob = one.bottoms[0]
        elif blob in one.tops:
            places = getattr(module(one.name), "places", ())
            if one.type == "ImageSegData":
                advice = "; caffe-port prepare_voc --check-only finds all wrong label maps"
            break
    if not places or wrong.count % len(places):
        return ""
    return f" ({places[wrong.item(len(places))]}){advice}"
