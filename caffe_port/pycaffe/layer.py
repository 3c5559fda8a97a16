"""Base class of the user's own layers."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_port.live.blob import Blob
from caffe_port.live.blob_vec import BlobVec
from caffe_port.proto import caffe_pb2


class Layer:
    """What a class named by ``python_param { module layer }`` derives from.

    It defines ``setup(bottom, top)``, ``reshape(bottom, top)``, ``forward(bottom, top)`` and
    ``backward(top, propagate_down, bottom)``; bottom and top are lists of Blobs.

    Attributes:
        blobs: parameters; ``setup`` declares each with ``self.blobs.add_blob(*shape)``.
        param_str: the prototxt's string; set before ``setup``, as is phase.
        param_str_: the same, as it was called in 2015.
        phase: caffe.TRAIN or caffe.TEST.
    Source: BVLC/caffe python_layer.hpp, _caffe.cpp.
    """

    param_str: str
    param_str_: str
    phase: int

    def __init__(self, param: caffe_pb2.LayerParameter) -> None:
        self.blobs = BlobVec()

    @property
    def type(self) -> str:
        """The layer type, 'Python'."""
        return "Python"

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called once, when the net is made. Does nothing unless a subclass says otherwise."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called before each forward; has to give each top its shape.

        Raises:
            TypeError: the subclass does not define it.
        """
        raise TypeError(f"{type(self).__name__} defines no reshape(bottom, top)")
