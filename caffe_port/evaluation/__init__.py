"""Scoring on VOC: from a network and a list of images to label maps, figures and a report."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.evaluation.network import NetFactory, Options
    from caffe_port.evaluation.pipeline import Result, evaluate
    from caffe_port.evaluation.refinement import CRFFactory
    from caffe_port.evaluation.test_time import InferenceOptions

_MODULES = {
    "CRFFactory": "refinement",
    "InferenceOptions": "test_time",
    "NetFactory": "network",
    "Options": "network",
    "Result": "pipeline",
    "evaluate": "pipeline",
}
__all__ = ["CRFFactory", "InferenceOptions", "NetFactory", "Options", "Result", "evaluate"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
