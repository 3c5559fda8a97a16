"""Scoring on VOC: from a network and a list of images to label maps, figures and a report."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.evaluation.makers import CRFMaker, NetMaker
    from caffe_port.evaluation.pipeline import Result, evaluate
    from caffe_port.evaluation.settings import Settings

_MODULES = {
    "CRFMaker": "makers",
    "NetMaker": "makers",
    "Result": "pipeline",
    "Settings": "settings",
    "evaluate": "pipeline",
}
__all__ = ["CRFMaker", "NetMaker", "Result", "Settings", "evaluate"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
