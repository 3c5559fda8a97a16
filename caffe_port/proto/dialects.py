"""Whose Caffe a text was written for, where that changes what the same text means.

Four dialects: 'bvlc' (Caffe 1.0), 'deeplab1' (DeepLab v1, V1 layers with `hole`), 'deeplab2', and
'longjon' (longjon/caffe and what came of it: HED, DSS, CRF-RNN, U-Net), which is never detected. A
text that uses what only one fork has is that fork's; all else is taken as BVLC's unless the caller
or the environment variable CAFFE_PORT_DIALECT (for scripts that cannot pass it) says otherwise.
"""

from __future__ import annotations

import os

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2

DIALECTS = ("bvlc", "deeplab1", "deeplab2", "longjon")
ENVIRONMENT = "CAFFE_PORT_DIALECT"
OTHER_FORKS = 20001  # from here on fields that no dialect has a number for
FORK_NUMBERS = 10000  # fields of the forks have their number plus this, or more
LAST_BVLC_V1_TYPE = 39  # DECONVOLUTION

V2_TYPES = {
    "AdaptiveBiasChannel", "BiasChannel", "DenseCRF", "DomainTransform", "ImageSegData", "Interp",
    "MatRead", "MatWrite", "SegAccuracy", "SpatialProduct", "UniqueLabel",
}  # fmt: skip


def choose_dialect(message: caffe_pb2.NetParameter, dialect: str | None) -> str:
    """The dialect asked for, else the environment's, else the one the text shows.

    Args:
        message: as read, before any upgrade.
        dialect: one of ``DIALECTS``, or None.
    Raises:
        UsageError: no such dialect.
    """
    return settle_dialect(dialect, detect_dialect(message))


def settle_dialect(dialect: str | None, detected: str) -> str:
    """The dialect asked for, else the environment's, else the detected one.

    Raises:
        UsageError: no such dialect.
    """
    chosen = dialect or os.environ.get(ENVIRONMENT) or detected
    if chosen not in DIALECTS:
        raise UsageError(f"dialect is {chosen!r}; expected one of {', '.join(DIALECTS)}")
    return chosen


def detect_dialect(message: caffe_pb2.NetParameter) -> str:
    """The dialect that a net's own layers and fields show."""
    if any(_is_v1_fork(layer) for layer in message.layers):
        return "deeplab1"
    if any(layer.type in V2_TYPES for layer in message.layer):
        return "deeplab2"
    return "bvlc"


def _is_v1_fork(layer: caffe_pb2.V1LayerParameter) -> bool:
    holes = ("hole", "hole_h", "hole_w")
    return (
        layer.type > LAST_BVLC_V1_TYPE
        or layer.HasField("strict_dim")
        or any(FORK_NUMBERS <= field.number < OTHER_FORKS for field, _ in layer.ListFields())
        or any(layer.convolution_param.HasField(hole) for hole in holes)
    )
