"""Holistically-nested edge detection: VGG16 with a side output per stage, and their fusion."""

from __future__ import annotations

from collections.abc import Sequence

from vgg16 import BLOCKS, relu
from writing import TRAIN, Fields, Word, layer, rates

_MEAN = [104.00699, 116.66877, 122.67892]
_OFFSETS = (34, 35, 36, 38, 42)  # of conv1_1's padding, in each side output
_SIDES = range(1, 6)


def data() -> Fields:
    """Whole images with edge maps, one a step."""
    return layer(
        "data", "ImageLabelmapData", [], "data", "label",
        include={"phase": TRAIN}, transform_param={"mirror": False, "mean_value": _MEAN},
        image_data_param={
            "root_folder": "${DATA_ROOT}", "source": "${EXP}/list/${TRAIN_SET}.txt",
            "batch_size": 1, "shuffle": True, "new_height": 0, "new_width": 0,
        },
    )  # fmt: skip


def image() -> Fields:
    """An image given by the caller, mean subtracted, BGR; its size is an example."""
    return layer("input", "Input", [], "data", input_param={"shape": {"dim": [1, 3, 500, 500]}})


def _convolution(
    name: str, bottom: str, outputs: int, kernel: int, rate: float, *tops: str, **more: object
) -> Fields:
    options = {"num_output": outputs, "kernel_size": kernel, **more, "engine": Word("CAFFE")}
    return layer(name, "Convolution", [bottom], *tops, param=rates(rate), convolution_param=options)


def trunk() -> list[Fields]:
    layers, bottom = [], "data"
    for block, (count, width) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            pad = 35 if bottom == "data" else 1
            rate = 100 if block == 5 else 1
            layers += [_convolution(name, bottom, width, 3, rate, pad=pad)]
            layers += [relu(f"relu{block}_{i}", name)]
            bottom = name
        if block < 5:
            options = {"pool": Word("MAX"), "kernel_size": 2, "stride": 2}
            layers.append(layer(f"pool{block}", "Pooling", [bottom], pooling_param=options))
            bottom = f"pool{block}"
    return layers


def side(number: int) -> list[Fields]:
    """The score of a stage, enlarged with fixed weights and cropped to the image."""
    bottom, score, upscore = f"conv{number}_{BLOCKS[number - 1][0]}", f"score-dsn{number}", ""
    layers = [_convolution(score, bottom, 1, 1, 0.01, score if number > 1 else f"{score}-up")]
    upscore = f"{score}-up"
    if number > 1:
        stride = 2 ** (number - 1)
        fixed = [{"lr_mult": 0, "decay_mult": 1}, {"lr_mult": 0, "decay_mult": 0}]
        options = {"num_output": 1, "kernel_size": 2 * stride, "stride": stride}
        layers.append(
            layer(f"upsample_{stride}", "Deconvolution", [score], upscore, param=fixed,
                  convolution_param=options)
        )  # fmt: skip
    crop = {"axis": 2, "offset": _OFFSETS[number - 1]}
    layers.append(layer("crop", "Crop", [upscore, "data"], f"upscore-dsn{number}", crop_param=crop))
    return layers


def fusion(rate: float) -> list[Fields]:
    filler = {"type": "constant", "value": 0.2}
    return [
        layer("concat", "Concat", [f"upscore-dsn{i}" for i in _SIDES], "concat-upscore",
              concat_param={"concat_dim": 1}),
        _convolution("new-score-weighting", "concat-upscore", 1, 1, rate, "upscore-fuse",
                     weight_filler=filler),
    ]  # fmt: skip


def _outputs() -> list[tuple[str, str]]:
    return [*((f"upscore-dsn{i}", f"dsn{i}") for i in _SIDES), ("upscore-fuse", "fuse")]


def network(learned: bool) -> list[Fields]:
    """Each side output is followed by its loss (TRAIN) or its sigmoid, as is the fusion."""
    layers = trunk()
    heads: Sequence[list[Fields]] = [*map(side, _SIDES), fusion(0.001 if learned else 0.01)]
    for head, (scores, name) in zip(heads, _outputs(), strict=True):
        layers += head
        if learned:
            layers.append(
                layer("", "SigmoidCrossEntropyLoss", [scores, "label"], f"{name}_loss",
                      loss_weight=1)
            )  # fmt: skip
        else:
            layers.append(layer(f"sigmoid-{name}", "Sigmoid", [scores]))
    return layers
