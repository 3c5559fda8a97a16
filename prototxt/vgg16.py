"""VGG16 as DeepLab uses it: stride 8, large field of view or atrous spatial pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from writing import TEST, TRAIN, Fields, Word, layer, rates

LABELS = Word("${NUM_LABELS}")
SCORES = "fc8_${EXP}"
ASPP_S, ASPP_L = (2, 4, 8, 12), (6, 12, 18, 24)  # dilations of fc6, small and large
SCORED = {"": (SCORES, "label_shrink")}
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions and channels
MEAN = [104.008, 116.669, 122.675]
_FRESH = {
    "weight_filler": {"type": "gaussian", "std": 0.01},
    "bias_filler": {"type": "constant", "value": 0},
}


def train_data(batch_size: int) -> Fields:
    """Shuffled, mirrored crops of 321 x 321 with their label maps."""
    return layer(
        "data", "ImageSegData", [], "data", "label",
        include={"phase": TRAIN},
        transform_param={"mirror": True, "crop_size": 321, "mean_value": MEAN},
        image_data_param={
            "root_folder": "${DATA_ROOT}", "source": "${EXP}/list/${TRAIN_SET}.txt",
            "batch_size": batch_size, "shuffle": True, "label_type": Word("PIXEL"),
        },
    )  # fmt: skip


def test_data(*sizes: str) -> Fields:
    """Whole images, padded to 513 x 513 with the mean, in order, without labels.

    DeepLab v2 also gives the sizes before padding, as the top named in ``sizes``.
    """
    return layer(
        "data", "ImageSegData", [], "data", "label", *sizes,
        include={"phase": TEST},
        transform_param={"mirror": False, "crop_size": 513, "mean_value": MEAN},
        image_data_param={
            "root_folder": "${DATA_ROOT}", "source": "${EXP}/list/${TEST_SET}.txt",
            "batch_size": 1, "label_type": Word("NONE"),
        },
    )  # fmt: skip


def convolution(
    name: str, bottom: str, outputs: int | Word, kernel: int, pad: int = 0, dilation: int = 1,
    learned: bool = False,
) -> Fields:  # fmt: skip
    """A convolution; rates are given only in nets that learn."""
    options: Fields = {"num_output": outputs, "kernel_size": kernel}
    if pad:
        options["pad"] = pad
    if dilation > 1:
        options["dilation"] = dilation
    fields: Fields = {"param": rates()} if learned else {}
    return layer(name, "Convolution", [bottom], convolution_param=options, **fields)


def relu(name: str, blob: str) -> Fields:
    return layer(name, "ReLU", [blob], blob)


def dropout(name: str, blob: str) -> Fields:
    return layer(name, "Dropout", [blob], blob, dropout_param={"dropout_ratio": 0.5})


def pooling(name: str, bottom: str, stride: int, method: str = "MAX") -> Fields:
    options = {"pool": Word(method), "kernel_size": 3, "stride": stride, "pad": 1}
    return layer(name, "Pooling", [bottom], pooling_param=options)


def trunk(learned: bool) -> list[Fields]:
    """conv1_1 to pool5: pooling over 3 x 3, the last two without stride, conv5 dilated by 2."""
    layers, bottom = [], "data"
    for block, (count, width) in enumerate(BLOCKS, 1):
        dilation = 2 if block == 5 else 1
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            layers.append(convolution(name, bottom, width, 3, dilation, dilation, learned))
            layers.append(relu(f"relu{block}_{i}", name))
            bottom = name
        layers.append(pooling(f"pool{block}", bottom, 2 if block < 4 else 1))
        bottom = f"pool{block}"
    return layers


def branch(bottom: str, dilation: int, learned: bool, suffix: str = "") -> list[Fields]:
    """fc6, fc7 and the scores over one field of view."""
    fc6, fc7 = f"fc6{suffix}", f"fc7{suffix}"
    scores = convolution(f"{SCORES}{suffix}", fc7, LABELS, 1)
    if learned:
        options = scores.pop("convolution_param")
        assert isinstance(options, dict)
        scores |= {"param": rates(10), "convolution_param": options | _FRESH}
    return [
        convolution(fc6, bottom, 1024, 3, dilation, dilation, learned),
        relu(f"relu6{suffix}", fc6),
        dropout(f"drop6{suffix}", fc6),
        convolution(fc7, fc6, 1024, 1, learned=learned),
        relu(f"relu7{suffix}", fc7),
        dropout(f"drop7{suffix}", fc7),
        scores,
    ]


def large_fov(learned: bool) -> list[Fields]:
    """The field of view of 12: an average over pool5, then one branch."""
    return [
        *trunk(learned),
        pooling("pool5a", "pool5", 1, "AVE"),
        *branch("pool5a", 12, learned),
    ]


def aspp(learned: bool, dilations: Sequence[int]) -> list[Fields]:
    """Branches of several fields of view over pool5, added."""
    layers = trunk(learned)
    for i, dilation in enumerate(dilations, 1):
        layers += branch("pool5", dilation, learned, f"_{i}")
    bottoms = [f"{SCORES}_{i}" for i in range(1, len(dilations) + 1)]
    summed = layer(SCORES, "Eltwise", bottoms, eltwise_param={"operation": Word("SUM")})
    return [*layers, summed]


def loss(scores: str = SCORES) -> list[Fields]:
    """Cross entropy against labels taken at every eighth pixel; 255 does not count."""
    bottoms = [scores, "label_shrink"]
    return [
        layer("label_shrink", "Interp", ["label"],
              interp_param={"shrink_factor": 8, "pad_beg": 0, "pad_end": 0}),
        layer("loss", "SoftmaxWithLoss", bottoms, top=[],
              loss_param={"ignore_label": 255}, include={"phase": TRAIN}),
        layer("accuracy", "SegAccuracy", bottoms,
              seg_accuracy_param={"ignore_label": 255}),
    ]  # fmt: skip


def enlarged() -> Fields:
    return layer("fc8_interp", "Interp", [SCORES], interp_param={"zoom_factor": 8})


def written(*sizes: str, scores: str = "fc8_interp") -> list[Fields]:
    """The scores of each image into a .mat file, for the dense CRF."""
    options = {
        "prefix": "${FEATURE_DIR}/${TEST_SET}/fc8/", "source": "${EXP}/list/${TEST_SET}_id.txt",
        "strip": 0, "period": 1,
    }  # fmt: skip
    only: Fields = {"top": [], "include": {"phase": TEST}}
    return [
        layer("fc8_mat", "MatWrite", [scores], mat_write_param=options, **only),
        layer("silence", "Silence", ["label", *sizes], **only),
    ]
