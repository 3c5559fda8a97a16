"""Data: reads batches from a database."""

from __future__ import annotations

from caffe_port.data.database import DatabaseReader
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.streams import Streams
from caffe_port.layers._registry import register_layer
from caffe_port.layers._source import SourceLayer
from caffe_port.spec.ops.data import Data as Options


@register_layer("Data")
class Data(SourceLayer):
    """Tops: data (N, C, H, W) and, if there is a second one, label (N,).

    Source: BVLC/caffe data_layer.cpp.
    """

    def seeds(self, thread: CaffeRandom | None) -> Streams:
        op = self.spec.options(Options)
        return Streams(
            thread, self.spec.dialect, transforms=op.transform.draws(self.spec.phase),
            skips=self._skips, reads_apart=True,
        )  # fmt: skip

    @property
    def _skips(self) -> bool:
        return self.spec.options(Options).rand_skip > 0 and self.spec.dialect == "deeplab1"

    def open(self) -> DatabaseReader:
        op = self.spec.options(Options)
        skip = self.streams.skipped % op.rand_skip if self._skips else 0
        transformer = self.transformer(op.transform)
        return DatabaseReader(op.source, op.batch_size, transformer, backend=op.backend, skip=skip)
