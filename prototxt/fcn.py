"""Fully convolutional networks: AlexNet and VGG16 with 32, 16 and 8 pixels of stride."""

from __future__ import annotations

from vgg16 import BLOCKS, dropout, relu
from writing import TRAIN, Fields, Word, layer, rates

_LABELS = 21
_MEAN = [104.00699, 116.66877, 122.67892]


def data() -> Fields:
    """Whole images with their label maps, one a step."""
    return layer(
        "data", "ImageSegData", [], "data", "label",
        include={"phase": TRAIN}, transform_param={"mean_value": _MEAN},
        image_data_param={
            "root_folder": "${DATA_ROOT}", "source": "${EXP}/list/${TRAIN_SET}.txt",
            "batch_size": 1, "shuffle": True, "label_type": Word("PIXEL"),
        },
    )  # fmt: skip


def image() -> Fields:
    """An image given by the caller, mean subtracted, BGR; its size is an example."""
    return layer("input", "Input", [], "data", input_param={"shape": {"dim": [1, 3, 500, 500]}})


def convolution(
    name: str, bottom: str, outputs: int, kernel: int, *, pad: int = 0, stride: int = 1,
    group: int = 1, rated: bool = True,
) -> Fields:  # fmt: skip
    options: Fields = {"num_output": outputs, "pad": pad, "kernel_size": kernel, "stride": stride}
    if group > 1:
        options["group"] = group
    fields: Fields = {"param": rates()} if rated else {}
    return layer(name, "Convolution", [bottom], convolution_param=options, **fields)


def pooling(name: str, bottom: str, kernel: int) -> Fields:
    options = {"pool": Word("MAX"), "kernel_size": kernel, "stride": 2}
    return layer(name, "Pooling", [bottom], pooling_param=options)


def upscore(name: str, bottom: str, kernel: int, stride: int) -> Fields:
    """Fixed interpolation, filled by net surgery before training."""
    options = {"num_output": _LABELS, "bias_term": False, "kernel_size": kernel, "stride": stride}
    param = {"lr_mult": 0}
    return layer(name, "Deconvolution", [bottom], param=param, convolution_param=options)


def crop(name: str, bottom: str, like: str, offset: int) -> Fields:
    return layer(name, "Crop", [bottom, like], crop_param={"axis": 2, "offset": offset})


def classifier(kernel: int, rated: bool) -> list[Fields]:
    """The three fully connected layers as convolutions; the padding of 100 makes them fit."""
    layers: list[Fields] = []
    for name, bottom, size in (("6", "pool5", kernel), ("7", "fc6", 1)):
        layers += [
            convolution(f"fc{name}", bottom, 4096, size, rated=rated),
            relu(f"relu{name}", f"fc{name}"),
            dropout(f"drop{name}", f"fc{name}"),
        ]
    return [*layers, convolution("score_fr", "fc7", _LABELS, 1)]


def vgg16() -> list[Fields]:
    layers, bottom = [], "data"
    for block, (count, width) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            pad = 100 if bottom == "data" else 1
            layers += [convolution(name, bottom, width, 3, pad=pad), relu(f"relu{name[4:]}", name)]
            bottom = name
        layers.append(pooling(f"pool{block}", bottom, 2))
        bottom = f"pool{block}"
    return [*layers, *classifier(7, rated=True)]


def alexnet() -> list[Fields]:
    layers: list[Fields] = []
    bottom = "data"
    stages = [(96, 11, 100, 4, 1), (256, 5, 2, 1, 2), (384, 3, 1, 1, 1), (384, 3, 1, 1, 2),
              (256, 3, 1, 1, 2)]  # fmt: skip
    for i, (width, kernel, pad, stride, group) in enumerate(stages, 1):
        name = f"conv{i}"
        layers.append(
            convolution(
                name, bottom, width, kernel, pad=pad, stride=stride, group=group, rated=False
            )
        )
        layers.append(relu(f"relu{i}", name))
        bottom = name
        if i in (1, 2, 5):
            layers.append(pooling(f"pool{i}", name, 3))
            bottom = f"pool{i}"
        if i in (1, 2):
            norm = {"local_size": 5, "alpha": 0.0001, "beta": 0.75}
            layers.append(layer(f"norm{i}", "LRN", [bottom], lrn_param=norm))
            bottom = f"norm{i}"
    return [*layers, *classifier(6, rated=False)]


def fuse(pool: int, offset: int, upscored: str) -> list[Fields]:
    """Adds the scores of an earlier pooling layer to the finer ones."""
    score = f"score_pool{pool}"
    return [
        convolution(score, f"pool{pool}", _LABELS, 1),
        crop(f"{score}c", score, upscored, offset),
        layer(f"fuse_pool{pool}", "Eltwise", [upscored, f"{score}c"],
              eltwise_param={"operation": Word("SUM")}),
    ]  # fmt: skip


def net(kind: str) -> list[Fields]:
    """'alexnet', '32s', '16s' or '8s', from the blob `data` to the blob `score`."""
    if kind == "alexnet":
        return [*alexnet(), upscore("upscore", "score_fr", 63, 32),
                crop("score", "upscore", "data", 18)]  # fmt: skip
    if kind == "32s":
        return [*vgg16(), upscore("upscore", "score_fr", 64, 32),
                crop("score", "upscore", "data", 19)]  # fmt: skip
    layers = [*vgg16(), upscore("upscore2", "score_fr", 4, 2), *fuse(4, 5, "upscore2")]
    if kind == "16s":
        return [*layers, upscore("upscore16", "fuse_pool4", 32, 16),
                crop("score", "upscore16", "data", 27)]  # fmt: skip
    return [*layers, upscore("upscore_pool4", "fuse_pool4", 4, 2), *fuse(3, 9, "upscore_pool4"),
            upscore("upscore8", "fuse_pool3", 16, 8),
            crop("score", "upscore8", "data", 31)]  # fmt: skip


def loss(normalize: bool) -> Fields:
    options = {"ignore_label": 255, "normalize": normalize}
    return layer("loss", "SoftmaxWithLoss", ["score", "label"], loss_param=options)
