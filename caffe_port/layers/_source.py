"""What layers that read batches from files share."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.streams import Streams
from caffe_port.data.transformer import Transformer
from caffe_port.layers._registry import Layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops._transform import Transform

Batch: TypeAlias = tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]


class Reader(Protocol):
    """What makes the batches."""

    def next_batch(self) -> Batch:
        """One array per top."""


class SourceLayer(Layer):
    """Gives the next batch at every forward pass.

    Its files are opened at the first one, so that a net whose data the caller gives needs none.
    In TRAIN the batch after is read in a thread meanwhile; an error waits for the pass that needs
    the batch. From a Caffe generator it draws when it is made, as Caffe does, so neither changes
    a number. A copy of the layer opens its files anew.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.streams = self.seeds(rng.current())
        self.reader: Reader | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: Future[Batch] | None = None

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

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self.reader is None:
            self.reader = self.open()
        ahead, self._ahead = self._ahead, None
        batch = self.reader.next_batch() if ahead is None else ahead.result()
        self.streams.after_batch()
        if self.in_training:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, f"reading ahead for {self.spec.name}")
            self._ahead = self._thread.submit(self.reader.next_batch)
        return tuple(torch.from_numpy(blob) for blob in batch[: len(self.spec.tops)])
