"""Published figures, and the settings that reproduce them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from caffe_port.crf import CRFParameters, parse_parameters
from caffe_port.errors import UsageError
from caffe_port.evaluation.figures import read_class_names
from caffe_port.evaluation.scheduler import cores
from caffe_port.finetuning.inputs import Images, Options, RenderedRecipe
from caffe_port.finetuning.scoring import Setting
from caffe_port.finetuning.variants import Variant
from caffe_port.proto import caffe_pb2

VOC = "VOC 2012"
VOC_DATA = "10,582 images of train_aug to train on, 1,449 of val to evaluate on"
BUNDLED = "bundled"
SUSTAINED = 10e12  # operations per second, from which hours are computed


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        key: its name on the command line.
        what: the model.
        source: who published it.
        before, after: mean IoU in per cent before and after the CRF; None if not published.
        recipe: 'NET/RECIPE', or a net's folder, in prototxt/; '' where prototxt/ lacks it.
        dropout: whether the net had Dropout.
        init: the weights it was fine-tuned from, by their name for --init.
        crf: its CRF preset.
        operations: those of the training, 6 for each multiply-add of a forward pass.
        note: a remark.
    """

    key: str
    what: str
    source: str
    before: float | None
    after: float | None
    recipe: str = ""
    dropout: bool = True
    init: str = "vgg16"
    crf: str = ""
    operations: float = 0.0
    note: str = ""

    @property
    def hours(self) -> float:
        """Hours of a GPU that sustains SUSTAINED operations per second, for arithmetic alone."""
        return self.operations / SUSTAINED / 3600


INITS = {
    "vgg16": "vgg16_20M.caffemodel (VGG16 on ImageNet, DeepLab's Init Models page)",
    "resnet101": "init.caffemodel (ResNet-101 on MS-COCO, DeepLab v2's ResNet page)",
}
_ICLR, _TPAMI, _THESIS = "ICLR 2015", "TPAMI 2017", "the thesis's author"
_V1, _V2 = "deeplab_v1_largefov/step_softmax", "deeplab_v2_vgg16_largefov/poly_softmax"
_STEP, _POLY, _ASPP, _RESNET = 55.06e15, 61.17e15, 96.19e15, 165.56e15

PUBLISHED = (
    Published("largefov-step", "DeepLab-LargeFOV, step, batch 30, 6k", _ICLR, 62.25, 67.64,
              _V1, crf="v1_largefov", operations=_STEP),
    Published("msc-largefov", "MSc-LargeFOV", _ICLR, 64.21, 68.70,
              note="prototxt/ has no text of the multi-scale net"),
    Published("largefov-poly", "LargeFOV, poly, batch 10, 20k", _TPAMI, 65.88, None,
              _V2, crf="v2_vgg16", operations=_POLY),
    Published("largefov-v2", "LargeFOV as the v2 baseline", _TPAMI, 65.76, 69.84,
              _V2, crf="v2_vgg16", operations=_POLY),
    Published("aspp-s", "VGG16 ASPP-S", _TPAMI, 66.98, 69.73,
              "deeplab_v2_vgg16_aspp_s", crf="v2_vgg16", operations=_ASPP),
    Published("aspp-l", "VGG16 ASPP-L", _TPAMI, 68.96, 71.57,
              "deeplab_v2_vgg16_aspp", crf="v2_vgg16", operations=_ASPP),
    Published("resnet101", "ResNet-101, MSC + COCO + Aug + ASPP", _TPAMI, 76.35, 77.69,
              "deeplab_v2_resnet101_msc_aspp/poly_softmax", init="resnet101", crf="v2_resnet101",
              operations=_RESNET),
    Published("thesis-step", "PyTorch LargeFOV, regime 1 (step)", _THESIS, 61.58, None,
              _V1, crf="v1_largefov", operations=_STEP),
    Published("thesis-poly", "PyTorch LargeFOV, regime 2 (poly)", _THESIS, 65.22, None,
              _V2, crf="v2_vgg16", operations=_POLY),
    Published("thesis-step-no-dropout", "PyTorch LargeFOV, regime 1 (step), no dropout", _THESIS,
              63.57, None, _V1, dropout=False, crf="v1_largefov", operations=_STEP),
    Published("thesis-poly-no-dropout", "PyTorch LargeFOV, regime 2 (poly), no dropout", _THESIS,
              65.65, None, _V2, dropout=False, crf="v2_vgg16", operations=_POLY),
    Published("shapes", "thin LargeFOV, as DeepLab v2's Caffe trained it", "the bundled example",
              85.744, 94.845, init=BUNDLED),
)  # fmt: skip


def find_published(key: str) -> Published | None:
    """The row of a key; None if there is none."""
    return next((row for row in PUBLISHED if row.key == key), None)


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
    """Class names from a file, or else from the data's class_names.txt; None means VOC's.

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
