"""Modules: batches read from databases, lists of images and windows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.image import ImageReader
from caffe_port.data.image_seg import ImageSegReader, LabelType, Transform
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import RandomStreams, Transformer
from caffe_port.errors import LayerError
from caffe_port.labels import WrongLabelError
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops import data as ops

if TYPE_CHECKING:  # what few nets have is imported where it is opened
    from caffe_port.data.database import DatabaseReader
    from caffe_port.data.window_file import WindowReader

Batch: TypeAlias = tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]
_Read: TypeAlias = tuple[Batch, tuple[str, ...]]


class Reader(Protocol):
    """A reader of batches."""

    def next_batch(self) -> Batch:
        """One array per top."""


@runtime_checkable
class PartReader(Protocol):
    """A reader that can leave items of its batches out."""

    batch_size: int
    own: range | None


class SourceLayer(Layer):
    """Returns the next batch at every forward pass.

    The files are opened at the first pass, so a net whose data the caller gives needs none. In
    TRAIN a thread prefetches the following batch; its error is raised by the pass that needs that
    batch. As in Caffe, Caffe's generator is drawn from at construction, so neither changes the
    numbers. A copy of the layer opens its files again.

    Attributes:
        places: where each item of the last batch comes from, such as a line of a list; empty where
            the reader does not record it.
        part: (i, n) where only the i-th n-th of the items of each batch are needed. Readers that
            can leave the others out make them zeros.
        turn: (i, n) where only the i-th of each n batches is needed, as ``part``.
    """

    part: tuple[int, int] = (0, 1)
    turn: tuple[int, int] = (0, 1)
    _batches = 0  # that were read

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
        """Closes the files and drops the prefetched batch; the next pass opens them again."""
        if self._ahead is not None:
            self._ahead.exception()  # waits
        self._ahead = self.reader = None
        self._batches = 0

    def seeds(self, thread: rng.CaffeRandom | None) -> RandomStreams:
        """Draws the seeds of the layer's generators."""
        raise TypeError(f"{type(self).__name__} defines no seeds")

    def open(self) -> Reader:
        """Opens the layer's files."""
        raise TypeError(f"{type(self).__name__} defines no open")

    def transformer(self, transform: ops.Transform) -> Transformer:
        """The layer's transformer, on the layer's generator."""
        return Transformer(transform, self.spec.phase, self.streams.transformer)

    def _read(self, reader: Reader) -> _Read:
        number, count = self.part
        if isinstance(reader, PartReader):
            size = reader.batch_size // count
            needed = self._batches % self.turn[1] == self.turn[0]
            reader.own = range(number * size, (number + 1) * size) if needed else range(0)
        self._batches += 1
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
    """Where a wrong label was read, for a message; "" if the reader does not record it.

    Args:
        net: the net.
        module: a layer's module by its name.
        layer: the layer whose second bottom holds the label.
        wrong: the error about the label.
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


@register_layer("Data")
class Data(SourceLayer):
    """Tops: data (N, C, H, W) and, if there is a second one, label (N,).

    Source: BVLC/caffe data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        op = self.spec.options(ops.Data)
        return RandomStreams(
            thread, self.spec.dialect, transforms=op.transform.draws(self.spec.phase),
            skips=self._skips, reads_apart=True,
        )  # fmt: skip

    @property
    def _skips(self) -> bool:
        return self.spec.options(ops.Data).rand_skip > 0 and self.spec.dialect == "deeplab1"

    def open(self) -> DatabaseReader:
        from caffe_port.data.database import DatabaseReader

        op = self.spec.options(ops.Data)
        skip = self.streams.skipped % op.rand_skip if self._skips else 0
        transformer = self.transformer(op.transform)
        return DatabaseReader(op.source, op.batch_size, transformer, backend=op.backend, skip=skip)


@register_layer("ImageData")
class ImageData(SourceLayer):
    """Tops: data (N, C, H, W) and label (N,). Source: BVLC/caffe image_data_layer.cpp."""

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        op = self.spec.options(ops.ImageData)
        return RandomStreams(
            thread, self.spec.dialect, transforms=op.transform.draws(self.spec.phase),
            orders=op.shuffle, skips=op.rand_skip > 0,
        )  # fmt: skip

    def open(self) -> ImageReader:
        op = self.spec.options(ops.ImageData)
        return ImageReader(
            op.source, op.root_folder, op.batch_size, self.transformer(op.transform),
            size=op.size, is_color=op.is_color, order=self.streams.order if op.shuffle else None,
            skip=self.streams.skipped % op.rand_skip if op.rand_skip else 0,
        )  # fmt: skip


@register_layer("ImageSegData")
class ImageSegData(SourceLayer):
    """Tops: data (N, C, H, W) less the mean, label (N, 1, H, W), data_dim (N, 1, 1, 2).

    Source: DeepLab v2 image_seg_data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        op = self.spec.options(ops.ImageSegData)
        transforms = op.mirror or (self.in_training and op.crop[0] > 0)
        return RandomStreams(
            thread, self.spec.dialect, transforms=transforms, orders=op.shuffle,
            skips=op.rand_skip > 0,
        )  # fmt: skip

    def open(self) -> ImageSegReader:
        op = self.spec.options(ops.ImageSegData)
        if op.mean_file:
            message = f"mean_file '{op.mean_file}': only mean_value is read here"
            raise LayerError(self.spec.name, self.spec.type, message)
        transform = Transform(
            mean_values=op.mean_values, scale=op.scale, crop_height=op.crop[0],
            crop_width=op.crop[1], mirror=op.mirror, scale_factors=op.scale_factors,
        )  # fmt: skip
        return ImageSegReader(
            op.source, op.root_folder, batch_size=op.batch_size,
            label_type=cast("LabelType", op.label_type), has_label=op.has_label,
            ignore_label=op.ignore_label, transform=transform, phase=self.spec.phase,
            new_height=op.new_height, new_width=op.new_width, is_color=op.is_color,
            shuffle=op.shuffle,
            rng=self.streams.transformer, shuffle_rng=self.streams.order,
            skip=self.streams.skipped % op.rand_skip if op.rand_skip else 0,
        )  # fmt: skip


@register_layer("WindowData")
class WindowData(SourceLayer):
    """Tops: data (N, 3, crop, crop) and label (N,), background first.

    Source: BVLC/caffe window_data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> RandomStreams:
        transforms = self.spec.options(ops.WindowData).transform.draws(self.spec.phase)
        return RandomStreams(thread, self.spec.dialect, transforms=transforms, orders=True)

    def open(self) -> WindowReader:
        from caffe_port.data.window_file import WindowReader

        op = self.spec.options(ops.WindowData)
        return WindowReader(op, self.transformer(op.transform).mean, self.streams.order)
