"""What is known of a model before its folder is written: given, remembered, or in the net."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from caffe_port.datasets import dataset as find_dataset
from caffe_port.datasets import known_datasets
from caffe_port.errors import UsageError
from caffe_port.evaluation.figures import read_class_names
from caffe_port.evaluation.network import score_blob
from caffe_port.evaluation.preprocessing import data_preprocessing
from caffe_port.model_info import ModelInfo

if TYPE_CHECKING:
    from caffe_port.net import Net
    from caffe_port.spec import NetSpec


def completed(net: Net, given: Mapping[str, Any]) -> ModelInfo:
    """What is known of a net.

    Args:
        net: its ``info`` is what was known before.
        given: fields of ``ModelInfo``, in place of those; ``classes`` may be a file with one name
            on each line. None counts as not given.
    Raises:
        UsageError: an unknown field, a wrong value, or another number of classes than the net's.
        DataError: the file of classes cannot be read.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if isinstance(classes := values.get("classes"), str | os.PathLike):
        values["classes"] = read_class_names(classes)
    if "classes" in values or "dataset" in values:
        values.setdefault("palette", ())  # that of other classes
        values.setdefault("classes", ())
    try:
        info = replace(net.info, **values)
    except TypeError:
        fields = ModelInfo.__dataclass_fields__
        unknown = ", ".join(name for name in values if name not in fields)
        raise UsageError(f"unknown field {unknown}; fields: {', '.join(fields)}") from None
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _with_preprocessing(_with_classes(_with_blob(info, net.spec), net.spec), net.spec)


def _with_blob(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    if info.blob is None:
        try:
            return replace(info, blob=score_blob(spec))
        except UsageError:  # a net that does not segment, or several outputs
            return info
    if info.blob not in spec.shapes:
        raise UsageError(f"blob: the net '{spec.name}' has no blob '{info.blob}'")
    return info


def _with_classes(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    """With the classes and colours of a data set that is known, or described in a file.

    Raises:
        UsageError: another number of classes than the net's.
    """
    name, counts = info.dataset, _class_counts(info, spec)
    is_file = name.lower().endswith(".json")
    if is_file or (not info.classes and name.lower().replace("-", "_") in known_datasets()):
        data = find_dataset(name)
        if counts and len(data.classes) not in counts:
            data.rules.expect_classes(min(counts))
        colours = data.colours[: len(data.classes)].tolist()
        info = replace(info, dataset=data.name, classes=data.classes, palette=colours)
    if info.classes and counts and len(info.classes) not in counts:
        words = " or ".join(map(str, sorted(counts)))
        raise UsageError(f"classes: {len(info.classes)} names for a net of {words} classes")
    return info


def _class_counts(info: ModelInfo, spec: NetSpec) -> set[int]:
    """The channels of the score blob; where none is known, of the outputs that could be it."""
    made = [blob for blob in spec.outputs if blob not in spec.sources]
    blobs = made if info.blob is None else [info.blob]
    return {shape[1] for shape in map(spec.shapes.__getitem__, blobs) if len(shape) > 1}


def _with_preprocessing(info: ModelInfo, spec: NetSpec) -> ModelInfo:
    if not spec.sources:
        return info
    mean, scale = data_preprocessing(spec)
    if info.mean is None and mean is not None:
        info = replace(info, mean=mean)
    return replace(info, scale=scale) if info.scale is None and scale is not None else info
