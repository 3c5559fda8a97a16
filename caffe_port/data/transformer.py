"""Caffe's data transformer, and the generators from which a data layer draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.data.rng import CaffeRandom
from caffe_port.errors import DataError

if TYPE_CHECKING:
    from caffe_port.spec.ops.data import Transform


class RandomStreams:
    """The generators of one data layer, seeded by the solver thread's one as in Caffe.

    Constructing it takes the draws of the layer's set-up.

    Args:
        thread: the generator the net is built under; None seeds all by the operating system.
        dialect: one of ``DIALECTS``; DeepLab v1 draws in another order.
        transforms: whether the transformer needs a generator: it mirrors, or crops in TRAIN.
        orders: whether the layer draws an order, or windows.
        skips: whether rand_skip is set.
        prefetches: whether the layer reads ahead in a thread, which takes a draw (v1: every
            batch gets a new transformer's seed).
        reads_apart: whether DeepLab v2 reads for it in one more thread.
    Attributes:
        transformer, order: generators.
        skipped: the draw for rand_skip.
    Source: BVLC/caffe base_data_layer.cpp, LayerSetUp; internal_thread.cpp; DeepLab v2
        data_reader.cpp; DeepLab v1 base_data_layer.cpp, CreatePrefetchThread.
    """

    def __init__(
        self,
        thread: CaffeRandom | None,
        dialect: str,
        *,
        transforms: bool,
        orders: bool = False,
        skips: bool = False,
        prefetches: bool = True,
        reads_apart: bool = False,
    ) -> None:
        self.transformer, self.order = CaffeRandom(), CaffeRandom()
        self.skipped = self.order.draw()
        self._thread, self._renews = thread, False
        if thread is None:
            return
        first = dialect == "deeplab1"  # v1 sets the transformer up last
        if reads_apart and dialect == "deeplab2":
            thread.draw()
        if transforms and not first:
            self.transformer.reseed(thread.draw())
        if orders:
            self.order.reseed(thread.draw())
        if skips:
            self.skipped = thread.draw()
        if transforms and first:
            self.transformer.reseed(thread.draw())
        if prefetches:
            if transforms:
                self.transformer.reseed(thread.draw())
            if not first:
                thread.draw()
        self._renews = first and transforms and prefetches

    def after_batch(self) -> None:
        """Takes the draw of prefetching the next batch (DeepLab v1)."""
        if self._renews and self._thread is not None:
            self.transformer.reseed(self._thread.draw())


Floats = npt.NDArray[np.float32]


class Transformer:
    """Caffe's DataTransformer: mean, scale, crop and mirror of one item.

    Args:
        options: the layer's transform_param.
        phase: TRAIN crops at random, TEST in the middle.
        random: draws flips and crops.
    Raises:
        FormatError: the mean file is not a mean.
        OSError: the mean file cannot be opened.
    Source: BVLC/caffe data_transformer.cpp, Transform.
    """

    def __init__(self, options: Transform, phase: str, random: CaffeRandom) -> None:
        self.options, self.phase, self.random = options, phase, random
        self.mean: Floats | None = None
        if options.mean_file:
            from caffe_port.weights import read_mean

            self.mean = np.asarray(read_mean(options.mean_file), np.float32)

    def __call__(self, item: npt.NDArray[np.generic], where: str) -> Floats:
        """Draws and applies one item's mirror and crop, in Caffe's order.

        Args:
            item: (C, H, W) uint8 or float32.
            where: names it in errors.
        Returns:
            (C, H', W') float32.
        Raises:
            DataError: it is smaller than the crop, or the mean is of another size or number.
        """
        options, (_, height, width) = self.options, item.shape
        mean = self._mean(item.shape, where)
        mirrored = options.mirror and self.random.rand(2) == 1
        crop = options.crop_size
        window: tuple[slice, ...] = (slice(None),)
        if crop:
            if crop > min(height, width):
                raise DataError(f"{where}: {width}x{height}, smaller than crop_size {crop}")
            if self.phase == "TRAIN":
                y = self.random.rand(height - crop + 1)
                x = self.random.rand(width - crop + 1)
            else:
                y, x = (height - crop) // 2, (width - crop) // 2
            window = (slice(None), slice(y, y + crop), slice(x, x + crop))
        values = item[window].astype(np.float32)
        if mean is not None:
            values = values - (mean[window] if self.mean is not None else mean)
        values = values * np.float32(options.scale)
        return values[:, :, ::-1] if mirrored else values

    def skip(self) -> None:
        """Takes the draws of an item that another process needs."""
        crops = self.options.crop_size and self.phase == "TRAIN"
        for _ in range(bool(self.options.mirror) + 2 * bool(crops)):
            self.random.draw()

    def _mean(self, shape: tuple[int, ...], where: str) -> Floats | None:
        if self.mean is not None:
            if self.mean.shape != shape:
                raise DataError(
                    f"{where}: an item of {shape}, but the mean of {self.options.mean_file} is "
                    f"{self.mean.shape}"
                )
            return self.mean
        given = self.options.mean_values
        if not given:
            return None
        if len(given) not in (1, shape[0]):
            raise DataError(f"{where}: {len(given)} mean_value for {shape[0]} channels")
        return np.array(given, np.float32)[:, None, None]


def is_own(item: int, own: range | None) -> bool:
    """Whether an item of a batch is to be read; None is all of them."""
    return own is None or item in own


def stacked(items: list[Floats | None]) -> Floats:
    """A batch of items of one shape; None, what another process reads, is zeros.

    Where there is nothing else, the batch is empty: its shape is not known.
    """
    blank = next((np.zeros_like(item) for item in items if item is not None), None)
    if blank is None:
        return np.zeros((0, 0, 0, 0), np.float32)
    return np.stack([blank if item is None else item for item in items])
