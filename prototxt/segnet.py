"""SegNet and Bayesian SegNet: VGG16 as encoder, its mirror image as decoder."""

from __future__ import annotations

from vgg16 import BLOCKS, relu
from writing import TRAIN, Fields, Word, layer, rates

_LABELS = 11
_SIZES = {5: {"upsample_h": 23, "upsample_w": 30}, 4: {"upsample_h": 45, "upsample_w": 60}}
# the median frequency over each class's, on CamVid's training images
_WEIGHTS = [
    0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614,
]  # fmt: skip


def data() -> Fields:
    """Four images with their label maps a step."""
    options = {"source": "${DATA_ROOT}/${TRAIN_SET}.txt", "batch_size": 4, "shuffle": True}
    return layer(
        "data", "DenseImageData", [], "data", "label",
        include={"phase": TRAIN}, dense_image_data_param=options,
    )  # fmt: skip


def image(number: int) -> Fields:
    """Images, BGR, without subtraction of a mean; CamVid's at half their size."""
    shape = {"dim": [number, 3, 360, 480]}
    return layer("input", "Input", [], "data", input_param={"shape": shape})


def _convolution(name: str, bottom: str, outputs: int) -> Fields:
    options: Fields = {
        "num_output": outputs, "kernel_size": 3, "pad": 1, "weight_filler": {"type": "msra"},
        "bias_filler": {"type": "constant"},
    }  # fmt: skip
    return layer(name, "Convolution", [bottom], param=rates(), convolution_param=options)


def _normalized(name: str, bottom: str, width: int, learned: bool, shift: float) -> list[Fields]:
    """A convolution, its batch normalization, and a ReLU."""
    options: Fields = {
        "scale_filler": {"type": "constant", "value": 1},
        "shift_filler": {"type": "constant", "value": shift},
    }
    if not learned:
        options["bn_mode"] = Word("INFERENCE")
    param = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}]
    return [
        _convolution(name, bottom, width),
        layer(f"{name}_bn", "BN", [name], name, param=param, bn_param=options),
        relu(f"relu{name[4:]}", name),
    ]


def _dropout(name: str, blob: str, learned: bool) -> Fields:
    """Bayesian SegNet draws in TEST too: one draw per image of the batch."""
    options: Fields = {"dropout_ratio": 0.5}
    if not learned:
        options["sample_weights_test"] = True
    return layer(name, "Dropout", [blob], blob, dropout_param=options)


def encoder(learned: bool, bayesian: bool) -> list[Fields]:
    layers, bottom, shift = [], "data", 0.0 if bayesian else 0.001
    for block, (count, width) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            layers += _normalized(f"conv{block}_{i}", bottom, width, learned, shift)
            bottom = f"conv{block}_{i}"
        pool = f"pool{block}"
        options = {"pool": Word("MAX"), "kernel_size": 2, "stride": 2}
        layers.append(layer(pool, "Pooling", [bottom], pool, f"{pool}_mask", pooling_param=options))
        if bayesian and block > 2:
            layers.append(_dropout(f"encdrop{block}", pool, learned))
        bottom = pool
    return layers


def decoder(learned: bool, bayesian: bool) -> list[Fields]:
    """To the scores `conv1_1_D`; the last convolution of a block has the width of the next."""
    layers, bottom, shift = [], "pool5", 0.0 if bayesian else 0.001
    for block in (5, 4, 3, 2, 1):
        count, width = BLOCKS[block - 1]
        top = f"pool{block}_D"
        layers.append(
            layer(f"upsample{block}", "Upsample", [bottom, f"pool{block}_mask"], top,
                  upsample_param={"scale": 2, **_SIZES.get(block, {})})
        )  # fmt: skip
        bottom = top
        for i in range(count, 0, -1):
            name = f"conv{block}_{i}_D"
            if (block, i) == (1, 1):
                return [*layers, _convolution(name, bottom, _LABELS)]
            outputs = BLOCKS[block - 2][1] if i == 1 else width
            layers += _normalized(name, bottom, outputs, learned, shift)
            bottom = name
        if bayesian and block > 2:
            layers.append(_dropout(f"decdrop{block}", bottom, learned))
    raise AssertionError


def network(learned: bool, bayesian: bool) -> list[Fields]:
    return [*encoder(learned, bayesian), *decoder(learned, bayesian)]


def probabilities() -> Fields:
    return layer(
        "prob", "Softmax", ["conv1_1_D"], softmax_param={"engine": Word("CAFFE")}
    )  # fmt: skip


def loss() -> list[Fields]:
    """Cross entropy with a weight for each class; label 11 does not count."""
    bottoms = ["conv1_1_D", "label"]
    options = {"weight_by_label_freqs": True, "ignore_label": 11, "class_weighting": _WEIGHTS}
    return [
        layer("loss", "SoftmaxWithLoss", bottoms, softmax_param={"engine": Word("CAFFE")},
              loss_param=options),
        layer("accuracy", "Accuracy", bottoms, "accuracy", "per_class_accuracy"),
    ]  # fmt: skip
