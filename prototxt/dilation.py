"""DilatedNet of Yu and Koltun: VGG16 as front end without padding, and the large context module."""

from __future__ import annotations

from vgg16 import BLOCKS, convolution, dropout, relu
from writing import Fields, Word, layer

_LABELS = 21
_CONTEXT = (  # layers of the large module for VOC: name, multiple of the labels, dilation
    ("1_1", 2, 1), ("1_2", 2, 1), ("2_1", 4, 2), ("3_1", 8, 4), ("4_1", 16, 8), ("5_1", 32, 16),
)  # fmt: skip


def front_end() -> list[Fields]:
    """To `fc-final`: the last two poolings are left out, and the layers after them are dilated."""
    layers, bottom = [], "data"
    for block, (count, width) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            dilation = 2 if block == 5 else 1
            layers += [convolution(name, bottom, width, 3, dilation=dilation)]
            layers += [relu(f"relu{block}_{i}", name)]
            bottom = name
        if block < 4:
            options = {"pool": Word("MAX"), "kernel_size": 2, "stride": 2}
            layers.append(layer(f"pool{block}", "Pooling", [bottom], pooling_param=options))
            bottom = f"pool{block}"
    return [
        *layers,
        convolution("fc6", bottom, 4096, 7, dilation=4), relu("relu6", "fc6"),
        dropout("drop6", "fc6"),
        convolution("fc7", "fc6", 4096, 1), relu("relu7", "fc7"), dropout("drop7", "fc7"),
        convolution("fc-final", "fc7", _LABELS, 1),
    ]  # fmt: skip


def context() -> list[Fields]:
    """To `ct_final`. The first layer pads by what the whole module takes off."""
    layers, bottom = [], "fc-final"
    for name, multiple, dilation in _CONTEXT:
        conv = f"ct_conv{name}"
        pad = 33 if bottom == "fc-final" else 0
        layers += [
            convolution(conv, bottom, multiple * _LABELS, 3, pad, dilation),
            relu(f"ct_relu{name}", conv),
        ]
        bottom = conv
    return [
        *layers,
        convolution("ct_fc1", bottom, 32 * _LABELS, 3), relu("ct_fc1_relu", "ct_fc1"),
        convolution("ct_final", "ct_fc1", _LABELS, 1),
    ]  # fmt: skip


def probabilities(bottom: str) -> Fields:
    return layer("prob", "Softmax", [bottom])


def image() -> Fields:
    """The image, mean subtracted, BGR, reflected by 186 pixels on all sides."""
    return layer("input", "Input", [], "data", input_param={"shape": {"dim": [1, 3, 900, 900]}})
