"""The settings of a training that a user leaves out: CRF, threads, names of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from caffe_port.crf import CRFParameters, parse_parameters
from caffe_port.errors import UsageError
from caffe_port.evaluation.figures import read_class_names
from caffe_port.evaluation.scheduler import cores
from caffe_port.finetuning.inputs import Images, Options, RenderedRecipe
from caffe_port.finetuning.published import PUBLISHED
from caffe_port.finetuning.scoring import Setting
from caffe_port.finetuning.variants import Variant
from caffe_port.proto import caffe_pb2

NO_CRF = "none"


def make_setting(variant: Variant, images: Images, init: Path, options: Options) -> Setting:
    """The setting of an experiment whose first recipe is ``variant``.

    Raises:
        UsageError: no such device or CRF preset.
        FormatError: the recipe is malformed.
    """
    _check_device(options.device)
    parameters: CRFParameters | None
    if options.crf == NO_CRF:
        parameters = None
    elif options.crf is not None:
        parameters = parse_parameters(options.crf)
    else:
        parameters = own_crf(variant, RenderedRecipe(variant, images, options).test)
    options = replace(options, threads=options.threads or cores(options.jobs))
    return Setting(images, init.resolve(), options, parameters)


def own_crf(variant: Variant, test: caffe_pb2.NetParameter) -> CRFParameters | None:
    """The CRF of the test net's DenseCRF layer, or else the one published with this net."""
    for layer in test.layer:
        if layer.type == "DenseCRF":
            given = layer.dense_crf_param
            return CRFParameters(
                tuple(given.pos_w), tuple(given.pos_xy_std), tuple(given.bi_w),
                tuple(given.bi_xy_std), tuple(given.bi_rgb_std), given.max_iter,
            )  # fmt: skip
    presets = [row.crf for row in PUBLISHED if row.recipe.partition("/")[0] == variant.net]
    return parse_parameters(presets[0]) if presets else None


def class_names_of(images: Images, path: Path | None) -> list[str] | None:
    """Class names from a file, the data set or its class_names.txt; None means VOC's.

    Raises:
        DataError: the file cannot be read.
    """
    if path is None and images.data is not None:
        return list(images.data.classes)
    own = images.root / "class_names.txt"
    if path is None and not own.is_file():
        return None
    return read_class_names(path or own)


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"the device is '{device}'; expected cpu, cuda or cuda:1")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError(f"the device is '{device}', but torch finds no GPU here")
