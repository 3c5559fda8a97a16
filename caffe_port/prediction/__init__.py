"""From photographs and videos to label maps: the Python API, the files and the gallery."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.prediction.segmentation import Segmentation
    from caffe_port.prediction.segmenter import Segmenter

_MODULES = {"Segmentation": "segmentation", "Segmenter": "segmenter"}
__all__ = ["Segmentation", "Segmenter"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
