"""Published figures, and the data, weights and recipes that reproduce them.

Sources: Chen and others, ICLR 2015, arXiv 1412.7062; DeepLab v2, TPAMI 2017, arXiv 1606.00915. Nets
of others: the tables of the papers in prototxt/README.md that each row names, compared with their
texts, and the READMEs of hszhao/PSPNet, hszhao/ICNet, s9xie/hed.
"""

from __future__ import annotations

from dataclasses import dataclass

VOC, CONTEXT, PERSON, CITY = "VOC 2012", "PASCAL-Context", "PASCAL-Person-Part", "Cityscapes"
ADE, CAMVID, BSDS = "ADE20K", "CamVid", "BSDS500"
DATA = {
    VOC: "10,582 images of train_aug to train on, 1,449 of val to evaluate on",
    CONTEXT: "4,998 images to train on, 5,105 to evaluate on (--dataset pascal_context60)",
    PERSON: "1,716 images to train on, 1,817 to evaluate on (--dataset pascal_person_part)",
    CITY: "2,975 images to train on, 500 of val to evaluate on (--dataset cityscapes)",
    ADE: "20,210 images to train on, 2,000 to evaluate on (--dataset ade20k)",
    CAMVID: "367 images to train on, 233 to evaluate on",
    BSDS: "300 images to train on, 200 to evaluate on; edges, not segments",
}
NAMES = {  # of the data sets, for --dataset; VOC 2012 is read as DeepLab's VOC folder
    CONTEXT: "pascal_context60",
    PERSON: "pascal_person_part",
    CITY: "cityscapes",
}
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
        rescaling: whether the training images were rescaled at random ('Aug').
        init: the weights it was fine-tuned from, a name of INITS.
        crf: its CRF preset.
        operations: those of the training: 6 for each multiply-add of a forward pass, 2 in layers
            that do not learn.
        note: why it cannot be reproduced; only without a recipe.
        chosen: what no public source says of the row, and what the recipe does instead.
        data: the data set, a name of DATA.
        digits: after the decimal point, as published.
    """

    key: str
    what: str
    source: str
    before: float | None
    after: float | None
    recipe: str = ""
    dropout: bool = True
    rescaling: bool = True
    init: str = "vgg16"
    crf: str = ""
    operations: float = 0.0
    note: str = ""
    chosen: str = ""
    data: str = VOC
    digits: int = 2

    @property
    def hours(self) -> float:
        """Hours of a GPU that sustains SUSTAINED operations per second, for arithmetic alone."""
        return self.operations / SUSTAINED / 3600

    @property
    def overlap(self) -> float | None:
        """Of the windows that cover an image in the evaluation; None where it is run once."""
        return 1 / 3 if self.data == CITY else None


INITS = {
    "vgg16": "vgg16_20M.caffemodel (VGG16 on ImageNet, DeepLab's Init Models page)",
    "resnet101": "init.caffemodel (ResNet-101 on MS-COCO, DeepLab v2's ResNet page)",
    "resnet101_imagenet": "ResNet-101-model.caffemodel (ResNet-101 on ImageNet, He and others, "
    "arXiv 1512.03385)",
    "largefov": "train_iter_6000.caffemodel (of the row largefov-step, whose layers stay as they "
    "are)",
    "authors": "the authors' weights of the row itself (prototxt/README.md says where)",
}
_ICLR, _TPAMI, _THESIS = "ICLR 2015", "TPAMI 2017", "the thesis's author"
_V1, _V2 = "deeplab_v1_largefov/step_softmax", "deeplab_v2_vgg16_largefov/poly_softmax"
_STEP, _POLY, _ASPP, _RESNET = 55.06e15, 61.17e15, 96.19e15, 165.56e15
_MSC = 20.57e15

PUBLISHED = (
    Published("largefov-step", "DeepLab-LargeFOV, step, batch 30, 6k", _ICLR, 62.25, 67.64,
              _V1, crf="v1_largefov", operations=_STEP),
    Published("msc-largefov", "MSc-LargeFOV", _ICLR, 64.21, 68.70,
              "deeplab_v1_msc_largefov", init="largefov", crf="v1_msc_largefov", operations=_MSC),
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
              85.744, 94.845, init=BUNDLED, digits=3),
)  # fmt: skip


# The other rows of DeepLab v2's tables. Each gives what the paper's text says of the row. The order
# of the columns assigns the rows with LargeFOV and with ASPP of tables 6 and 7. The paper does not
# say the classifier of ResNet-101 without either; ports read one of 1 x 1 from the published COCO
# weights. It says no batch, crop, rate and length for data sets other than VOC 2012.
_NO_NET = "prototxt/ has no text of this net"
_NO_SOLVER = "prototxt/ has no solver of this batch and length"
_HALF = "the recipe of cityscapes-vgg16 needs images and label maps of half the size for it"
_SERVER = "scored by the data set's server; the label maps of the test images are not public"
_IMAGENET = "resnet101_imagenet"
_SOLVER_OF_VOC = "batch, crop, rate, updates and CRF (VOC 2012's)"
_HEADS = {  # of ResNet-101: what is chosen
    "": "classifier (one 1 x 1 convolution)",
    "largefov": "dilation of LargeFOV (12, VGG16's)",
    "aspp": "",
}
_WINDOWS = "overlap of the windows (a third)"
_OPERATIONS = {  # of ResNet-101, by net, for 21, 60, 7 and 19 classes
    "": (87.25, 87.41, 87.19, 87.24),
    "_largefov": (87.94, 89.39, 87.42, 87.87),
    "_aspp": (90.28, 96.08, 88.20, 89.99),
    "_msc": (159.99, 160.29, 159.89, 159.98),
    "_msc_largefov": (161.26, 163.92, 160.31, 161.13),
    "_msc_aspp": (165.56, 176.20, 161.74, 165.01),
}


def _voc(
    number: int, key: str, what: str, before: float, after: float | None = None,
    note: str = _NO_NET,
) -> Published:  # fmt: skip
    return Published(key, what, f"{_TPAMI}, table {number}", before, after, note=note)


def _resnet(
    data: str, number: int, key: str, what: str, before: float, after: float | None = None, *,
    net: str = "", init: str = _IMAGENET, rescaling: bool = False, digits: int = 2,
) -> Published:  # fmt: skip
    """A row of ResNet-101; ``net`` is the end of its folder's name in prototxt/."""
    folder = f"deeplab_v2_resnet101{net}"
    return Published(
        key, what if data == VOC else f"{data}: {what}", f"{_TPAMI}, table {number}", before, after,
        f"{folder}/poly_softmax" if net == "_msc_aspp" else folder, rescaling=rescaling, init=init,
        crf="v2_resnet101", operations=1e15 * _OPERATIONS[net][list(DATA).index(data)],
        chosen=_chosen(data, _HEADS[net.removeprefix("_msc").lstrip("_")]),
        data=data, digits=digits,
    )  # fmt: skip


def _chosen(data: str, head: str = "") -> str:
    words = [head, "" if data == VOC else _SOLVER_OF_VOC, _WINDOWS if data == CITY else ""]
    return ", ".join(word for word in words if word)


def _vgg16(
    data: str, number: int, key: str, what: str, before: float, after: float, operations: float,
    digits: int, note: str = "",
) -> Published:  # fmt: skip
    return Published(
        key, f"{data}: {what}", f"{_TPAMI}, table {number}", before, after, "" if note else _V2,
        crf="v2_vgg16", operations=operations, note=note, chosen="" if note else _chosen(data),
        data=data, digits=digits,
    )  # fmt: skip


def _test(key: str, what: str, after: float, init: str, where: str, data: str = VOC) -> Published:
    return Published(
        key, f"{data} test: {what}", f"{_TPAMI}, {where}", None, after,
        init=init, note=_SERVER, data=data, digits=1,
    )  # fmt: skip


_COCO = "resnet101"
OTHER_ROWS = (
    _voc(1, "fov-7x7-4", "VGG16, fc6 of 7 x 7, rate 4", 64.38, 67.64),
    _voc(1, "fov-4x4-4", "VGG16, fc6 of 4 x 4, rate 4", 59.80, 63.74),
    _voc(1, "fov-4x4-8", "VGG16, fc6 of 4 x 4, rate 8", 63.41, 67.14),
    _voc(2, "poly-30-6k", "LargeFOV, poly, batch 30, 6k", 63.42, note=_NO_SOLVER),
    _voc(2, "poly-30-10k", "LargeFOV, poly, batch 30, 10k", 64.90, note=_NO_SOLVER),
    _voc(2, "poly-10-10k", "LargeFOV, poly, batch 10, 10k", 64.71, note=_NO_SOLVER),
    _resnet(VOC, 4, "resnet101-alone", "ResNet-101", 68.72),
    _resnet(VOC, 4, "resnet101-msc", "ResNet-101, MSC", 71.27, net="_msc"),
    _resnet(VOC, 4, "resnet101-msc-coco", "ResNet-101, MSC + COCO", 73.28, net="_msc", init=_COCO),
    _resnet(VOC, 4, "resnet101-msc-coco-aug", "ResNet-101, MSC + COCO + Aug", 74.87, net="_msc",
            init=_COCO, rescaling=True),
    _resnet(VOC, 4, "resnet101-largefov", "ResNet-101, MSC + COCO + Aug + LargeFOV", 75.54,
            net="_msc_largefov", init=_COCO, rescaling=True),
    _test("voc-test-largefov", "LargeFOV, step", 70.3, "vgg16", "section 4.1"),
    _test("voc-test-aspp-l", "VGG16 ASPP-L", 72.6, "vgg16", "section 4.1"),
    _test("voc-test-resnet101", "ResNet-101, the best model", 79.7, _COCO, "table 5"),
    _vgg16(CONTEXT, 6, "context-vgg16", "VGG16 LargeFOV", 37.6, 39.6, 61.25e15, 1),
    _resnet(CONTEXT, 6, "context-resnet101", "ResNet-101", 39.6, digits=1),
    _resnet(CONTEXT, 6, "context-msc", "ResNet-101, MSC", 41.4, net="_msc", digits=1),
    _resnet(CONTEXT, 6, "context-msc-coco", "ResNet-101, MSC + COCO", 42.9, net="_msc", init=_COCO,
            digits=1),
    _resnet(CONTEXT, 6, "context-largefov", "ResNet-101, best with LargeFOV", 43.5,
            net="_msc_largefov", init=_COCO, rescaling=True, digits=1),
    _resnet(CONTEXT, 6, "context-aspp", "ResNet-101, best with ASPP", 44.7, 45.7, net="_msc_aspp",
            init=_COCO, rescaling=True, digits=1),
    _resnet(PERSON, 7, "person-resnet101", "ResNet-101", 58.90),
    _resnet(PERSON, 7, "person-msc", "ResNet-101, MSC", 63.10, net="_msc"),
    _resnet(PERSON, 7, "person-msc-coco", "ResNet-101, MSC + COCO", 64.40, 64.94, net="_msc",
            init=_COCO),
    _resnet(PERSON, 7, "person-largefov", "ResNet-101 with LargeFOV", 62.18, net="_msc_largefov",
            init=_COCO, rescaling=True),
    _resnet(PERSON, 7, "person-aspp", "ResNet-101 with ASPP", 62.76, net="_msc_aspp", init=_COCO,
            rescaling=True),
    _vgg16(CITY, 9, "cityscapes-vgg16-half", "VGG16 LargeFOV, images of half size", 62.97, 64.18,
           0, 2, _HALF),
    _vgg16(CITY, 9, "cityscapes-vgg16", "VGG16 LargeFOV", 64.89, 65.94, 61.17e15, 2),
    _resnet(CITY, 9, "cityscapes-resnet101", "ResNet-101", 66.6, digits=1),
    _resnet(CITY, 9, "cityscapes-largefov", "ResNet-101, LargeFOV", 69.2, net="_largefov",
            digits=1),
    _resnet(CITY, 9, "cityscapes-aspp", "ResNet-101, ASPP", 70.4, net="_aspp", digits=1),
    _resnet(CITY, 9, "cityscapes-aspp-aug", "ResNet-101, ASPP + Aug", 71.0, 71.4, net="_aspp",
            rescaling=True, digits=1),
    _test("cityscapes-test-vgg16", "VGG16 LargeFOV, data before its release", 63.1, "vgg16",
          "table 8", CITY),
    _test("cityscapes-test-resnet101", "ResNet-101, the best model", 70.4, _IMAGENET, "table 8",
          CITY),
)  # fmt: skip


def _other(
    net: str, key: str, what: str, source: str, before: float | None, after: float | None = None,
    data: str = VOC, digits: int = 1, note: str = "no solver was published",
) -> Published:  # fmt: skip
    """A row of a net of others, whose text is prototxt/``net``."""
    note += f"; 'evaluate' takes the authors' weights with prototxt/{net}"
    return Published(
        f"{net}{key}", what, source, before, after, init="authors", note=note, data=data,
        digits=digits,
    )  # fmt: skip


_CRFRNN, _SEGNET = "Zheng and others, ICCV 2015", "Badrinarayanan and others, TPAMI 2017"
_PSPNET, _ICNET = "Zhao and others, CVPR 2017", "Zhao and others, ECCV 2018"
_DILATED, _DECONV = "Yu and Koltun, ICLR 2016", "Noh and others, ICCV 2015"
_TEST_SET = "scored by the data set's server"
_NOT_LISTED = "the recipe reads lists of its own data, which 'finetune' does not make"
OTHER_NETS = (
    _other("crfrnn", "-val", "CRF-RNN, with COCO, 346 images of val", f"{_CRFRNN}, table 1", None,
           72.9),
    _other("crfrnn", "-test", "CRF-RNN, with COCO, test", f"{_CRFRNN}, table 2", None, 74.7,
           note=_TEST_SET),
    _other("segnet", "", "SegNet, 3,433 training images",
           f"{_SEGNET}, the table of CamVid's 11 classes", 60.10, data=CAMVID, digits=2,
           note="3,433 training images, most of them of other data sets; no list was published"),
    _other("bayesian_segnet", "", "Bayesian SegNet", "Kendall and others, BMVC 2017", 63.1,
           data=CAMVID, note=_NOT_LISTED),
    _other("enet", "", "ENet, test", "Paszke and others, arXiv 1606.02147", 58.3, data=CITY,
           note=_TEST_SET),
    _other("pspnet50_ade20k", "", "PSPNet-50", _PSPNET, 41.68, data=ADE, digits=2),
    _other("pspnet50_ade20k", "-ms", "PSPNet-50, several scales", _PSPNET, 42.78, data=ADE,
           digits=2),
    _other("pspnet101_voc2012", "", "PSPNet-101, several scales, test", _PSPNET, 85.41, digits=2,
           note=_TEST_SET),
    _other("pspnet101_cityscapes", "", "PSPNet-101", _PSPNET, 79.70, data=CITY, digits=2),
    _other("pspnet101_cityscapes", "-ms", "PSPNet-101, several scales", _PSPNET, 80.91, data=CITY,
           digits=2),
    _other("icnet", "", "ICNet, train_30k", _ICNET, 67.7, data=CITY),
    _other("icnet", "-test", "ICNet, trainval_90k, test", _ICNET, 69.5, data=CITY,
           note=_TEST_SET),
    _other("dilatednet_frontend", "-val", "DilatedNet, front end",
           f"{_DILATED}, table 3", 69.8),
    _other("dilatednet_frontend", "-test", "DilatedNet, front end, test",
           f"{_DILATED}, table 4", 71.3,
           note=_TEST_SET),
    _other("dilatednet_context", "-val", "DilatedNet, large context",
           f"{_DILATED}, table 3", 72.1,
           73.3),
    _other("dilatednet_context", "-test", "DilatedNet, context, test", f"{_DILATED}, table 4", 73.5,
           note=_TEST_SET),
    _other("hed", "", "HED: not mean IoU, but the F-measure of edges (ODS)",
           "Xie and Tu, ICCV 2015", 79.0, data=BSDS,
           note="edges are scored by thinning and matching, which is not part of this program"),
    _other("deconvnet", "", "DeconvNet, 50 proposals per image, test", f"{_DECONV}, table 1", 69.6,
           70.5, note=_TEST_SET),
)  # fmt: skip
ROWS = (*PUBLISHED, *OTHER_ROWS, *OTHER_NETS)


def find_published(key: str) -> Published | None:
    """The row of a key in ROWS; None if there is none."""
    return next((row for row in ROWS if row.key == key), None)
