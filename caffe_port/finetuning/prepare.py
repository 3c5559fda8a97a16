"""What a user leaves out: the CRF of a recipe, threads, and the names of the classes."""

from __future__ import annotations

from pathlib import Path

from caffe_port.crf import CRFParameters, parse_parameters
from caffe_port.errors import UsageError
from caffe_port.evaluation.cores import cores
from caffe_port.evaluation.figures import read_class_names
from caffe_port.finetuning.composed import Changes, Composed
from caffe_port.finetuning.data import Images
from caffe_port.finetuning.published import PUBLISHED
from caffe_port.finetuning.trial import Setting
from caffe_port.finetuning.variants import Variant
from caffe_port.proto import caffe_pb2

NO_CRF = "none"


def make_setting(
    variant: Variant,
    images: Images,
    init: Path,
    changes: Changes,
    crf: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    jobs: int = 1,
) -> Setting:
    """The setting of an experiment.

    Args:
        variant: the first of its recipes.
        crf: as the user wrote it; 'none' for none, the recipe's own when absent.
        threads: of each of so many ``jobs``; the cores divided by them when absent.
    Raises:
        UsageError: no such device or CRF preset.
        FormatError: the recipe breaks its format.
    """
    _check_device(device)
    parameters: CRFParameters | None
    if crf == NO_CRF:
        parameters = None
    elif crf is not None:
        parameters = parse_parameters(crf)
    else:
        parameters = own_crf(variant, Composed(variant, images, changes).test)
    return Setting(images, init.resolve(), changes, parameters, device, threads or cores(jobs))


def own_crf(variant: Variant, test: caffe_pb2.NetParameter) -> CRFParameters | None:
    """The CRF of the test net's DenseCRF layer, else the one published with this net."""
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
    """Names in a file, else in the data's own class_names.txt; None leaves it to VOC's.

    Raises:
        DataError: the file cannot be read.
    """
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
