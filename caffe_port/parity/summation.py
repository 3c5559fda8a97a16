"""How float32 sums are made while the port is compared with Caffe: as products of matrices.

Caffe lays every window out (im2col) and multiplies matrices; a BLAS sums in blocks. torch has other
ways too, chosen by processor, shape and batch, and some of them round much worse: oneDNN's direct
kernels add all products of an output in one or few running sums, and NNPACK, which is used for
batches from 16 on where oneDNN is off, transforms its input. docs/verify.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_sums() -> Iterator[None]:
    """Convolutions inside are computed as Caffe does: im2col, then a matrix product per image.

    Covers forward and backward, transposed convolutions too, if both run inside. The switches are
    those of the whole process and are restored at the end. A float64 run is computed so anyway.

    Example:
        with exact_sums():
            scores = net({"data": x})["score"]
    """
    backend = torch.backends.mkldnn
    enabled = backend.enabled
    with torch.backends.nnpack.flags(enabled=False):
        try:
            backend.enabled = False  # type: ignore[assignment]
            yield
        finally:
            backend.enabled = enabled
