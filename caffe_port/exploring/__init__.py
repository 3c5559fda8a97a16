"""A web page on this machine to look inside a model: ``caffe-port explore`` and ``cp.explore``."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.exploring.notebook import Explorer, explore

_MODULES = {"Explorer": "notebook", "explore": "notebook"}
__all__ = ["Explorer", "explore"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
