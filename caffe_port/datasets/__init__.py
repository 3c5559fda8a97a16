"""Data sets by name: their classes, colours, stored labels, folders and splits."""

from typing import TYPE_CHECKING, Any

from caffe_port import import_name

if TYPE_CHECKING:
    from caffe_port.datasets.description import Dataset, dataset, known_datasets
    from caffe_port.datasets.finding import dataset_items
    from caffe_port.datasets.rules import LabelRules

_MODULES = {
    "Dataset": "description",
    "LabelRules": "rules",
    "dataset": "description",
    "dataset_items": "finding",
    "known_datasets": "description",
}
__all__ = ["Dataset", "LabelRules", "dataset", "dataset_items", "known_datasets"]


def __getattr__(name: str) -> Any:
    return import_name(__name__, _MODULES, name)
