"""What layers that read batches from files share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.streams import Streams
from caffe_port.data.transformer import Transformer
from caffe_port.layers._registry import Layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops._transform import Transform


class Reader(Protocol):
    """What makes the batches."""

    def next_batch(self) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
        """One array per top."""


class SourceLayer(Layer):
    """Gives the next batch at every forward pass.

    Its files are opened at the first one, so that a net whose data the caller gives needs none.
    From a Caffe generator it draws when it is made, as Caffe does.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.streams = self.seeds(rng.current())
        self.reader: Reader | None = None

    def seeds(self, thread: rng.CaffeRandom | None) -> Streams:
        """Takes the layer's draws."""
        raise TypeError(f"{type(self).__name__} defines no seeds")

    def open(self) -> Reader:
        """Opens the layer's files."""
        raise TypeError(f"{type(self).__name__} defines no open")

    def needs_random(self, transform: Transform) -> bool:
        """Whether Caffe's transformer draws: it mirrors, or crops in TRAIN."""
        return transform.mirror or (self.in_training and transform.crop_size > 0)

    def transformer(self, transform: Transform) -> Transformer:
        """The layer's transformer, on the layer's generator."""
        return Transformer(transform, self.spec.phase, self.streams.transformer)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self.reader is None:
            self.reader = self.open()
        batch = self.reader.next_batch()
        self.streams.after_batch()
        return tuple(torch.from_numpy(blob) for blob in batch[: len(self.spec.tops)])
