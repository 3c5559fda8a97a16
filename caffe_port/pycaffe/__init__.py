"""Caffe's Python face on PyTorch: ``import caffe_port.pycaffe as caffe``."""

from caffe_port.proto import caffe_pb2
from caffe_port.pycaffe.blob import Blob
from caffe_port.pycaffe.net import TEST, TRAIN, Net

__all__ = ["TEST", "TRAIN", "Blob", "Net", "caffe_pb2", "set_mode_cpu"]


def set_mode_cpu() -> None:
    """Computes on the CPU, which is what this face does anyway."""
