"""DeconvNet of Noh and others: VGG16 with its classifier, and its mirror image with unpooling."""

from __future__ import annotations

from vgg16 import BLOCKS, MEAN, relu
from writing import TRAIN, Fields, Word, layer, rates

_LABELS = 21
_FRESH = {
    "weight_filler": {"type": "gaussian", "std": 0.01},
    "bias_filler": {"type": "constant", "value": 0},
}


def data() -> Fields:
    """Crops of 224 x 224 of images of 250 x 250; each shows one object (stage 1)."""
    return layer(
        "data", "ImageSegData", [], "data", "seg-label",
        include={"phase": TRAIN},
        transform_param={"mirror": True, "crop_size": 224, "mean_value": MEAN},
        image_data_param={
            "root_folder": "${DATA_ROOT}", "source": "${EXP}/list/${TRAIN_SET}.txt",
            "batch_size": 8, "shuffle": True, "new_height": 250, "new_width": 250,
            "label_type": Word("PIXEL"),
        },
    )  # fmt: skip


def image() -> Fields:
    """A region of an image, mean subtracted, BGR, as 224 x 224."""
    return layer("input", "Input", [], "data", input_param={"shape": {"dim": [1, 3, 224, 224]}})


def _normalized(
    type: str, name: str, bottom: str, bn: str, activation: str, learned: bool, **options: object
) -> list[Fields]:
    """A convolution or deconvolution, its batch normalization, and a ReLU."""
    bn_options: Fields = {
        "scale_filler": {"type": "constant", "value": 1},
        "shift_filler": {"type": "constant", "value": 0.001},
    }
    if not learned:
        bn_options["bn_mode"] = Word("INFERENCE")
    return [
        layer(name, type, [bottom], param=rates(), convolution_param=options),
        layer(bn, "BN", [name], name, bn_param=bn_options),
        relu(activation, name),
    ]


def _encoder(learned: bool) -> list[Fields]:
    layers, bottom = [], "data"
    for block, (count, width) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"{block}_{i}"
            layers += _normalized(
                "Convolution", f"conv{name}", bottom, f"bn{name}", f"relu{name}", learned,
                num_output=width, kernel_size=3, pad=1,
            )  # fmt: skip
            bottom = f"conv{name}"
        pool = f"pool{block}"
        options = {"pool": Word("MAX"), "kernel_size": 2, "stride": 2}
        layers.append(layer(pool, "Pooling", [bottom], pool, f"{pool}_mask", pooling_param=options))
        bottom = pool
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        layers += _normalized(
            "Convolution", name, bottom, f"bn{name}", f"relu{name[2:]}", learned,
            num_output=4096, kernel_size=kernel,
        )  # fmt: skip
        bottom = name
    return layers


def _decoder(learned: bool) -> list[Fields]:
    bottom = "fc6-deconv"
    layers = _normalized(
        "Deconvolution", bottom, "fc7", f"{bottom}-bn", f"{bottom}-relu", learned,
        num_output=512, kernel_size=7, **_FRESH,
    )  # fmt: skip
    for block in (5, 4, 3, 2, 1):
        count, width = BLOCKS[block - 1]
        options = {"unpool": Word("MAX"), "kernel_size": 2, "stride": 2,
                   "unpool_size": 224 >> (block - 1)}  # fmt: skip
        top = f"unpool{block}"
        layers.append(
            layer(top, "Unpooling", [bottom, f"pool{block}_mask"], unpooling_param=options)
        )
        bottom = top
        for i in range(1, count + 1):
            name = f"{block}_{i}"
            outputs = BLOCKS[block - 2][1] if i == count and block > 1 else width
            layers += _normalized(
                "Deconvolution", f"deconv{name}", bottom, f"debn{name}", f"derelu{name}", learned,
                num_output=outputs, kernel_size=3, pad=1, **_FRESH,
            )  # fmt: skip
            bottom = f"deconv{name}"
    return layers


def network(learned: bool) -> list[Fields]:
    """From the blob `data` to `seg-score`."""
    options = {"num_output": _LABELS, "kernel_size": 1, **_FRESH}
    scores = layer("seg-score-voc", "Convolution", ["deconv1_2"], "seg-score", param=rates(),
                   convolution_param=options)  # fmt: skip
    return [*_encoder(learned), *_decoder(learned), scores]


def loss() -> Fields:
    options = {"ignore_label": 255}
    return layer("seg-loss", "SoftmaxWithLoss", ["seg-score", "seg-label"], loss_param=options)
