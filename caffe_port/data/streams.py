"""The generators of one data layer, seeded from the solver thread's one as Caffe seeds them."""

from __future__ import annotations

from caffe_port.data.rng import CaffeRandom


class Streams:
    """What a data layer draws from. Making it takes the draws of the layer's set-up.

    Args:
        thread: the generator the net is built under; None seeds all from the operating system.
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
        """Takes what reading the next batch ahead takes (DeepLab v1)."""
        if self._renews and self._thread is not None:
            self.transformer.reseed(self._thread.draw())
