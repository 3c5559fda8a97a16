"""ResNet-101 at one scale, or at three that share parameters, with each head of DeepLab v2."""

from __future__ import annotations

from dataclasses import dataclass

from vgg16 import LABELS, MEAN
from writing import TEST, TRAIN, Fields, Word, layer

SCALES = {"": "data", "_res05": "data_res05", "_res075": "data_res075"}
_STAGES = {  # blocks, inner width, stride, dilation
    2: (["a", "b", "c"], 64, 1, 1),
    3: (["a", *(f"b{i}" for i in range(1, 4))], 128, 2, 1),
    4: (["a", *(f"b{i}" for i in range(1, 23))], 256, 1, 2),
    5: (["a", "b", "c"], 512, 1, 4),
}
_SCORES = "fc1_${EXP}"
_SCORED = {  # each blob of scores and the labels on its grid
    "": ("fc_fusion", "label_shrink"),
    "_res1": (_SCORES, "label_shrink"),
    "_res075": (f"{_SCORES}_res075_interp", "label_shrink"),
    "_res05": (f"{_SCORES}_res05", "label_shrink16"),
}


def data(train: bool) -> Fields:
    """TRAIN: one crop of 321 x 321 at a random scale. TEST: whole images, padded to 513 x 513."""
    transform: Fields = {
        "mirror": train, "crop_size": 321 if train else 513, "mean_value": MEAN,
    }  # fmt: skip
    if train:
        transform["scale_factors"] = [0.5, 0.75, 1, 1.25, 1.5]
    image: Fields = {
        "root_folder": "${DATA_ROOT}",
        "source": "${EXP}/list/" + ("${TRAIN_SET}.txt" if train else "${TEST_SET}.txt"),
        "batch_size": 1,
        "label_type": Word("PIXEL"),
    }
    if train:
        image["shuffle"] = True
    return layer(
        "data", "ImageSegData", [], "data", "label", *([] if train else ["data_dim"]),
        include={"phase": TRAIN if train else TEST}, transform_param=transform,
        image_data_param=image,
    )  # fmt: skip


def interp(name: str, bottom: str, **options: int) -> Fields:
    return layer(name, "Interp", [bottom], interp_param={**options, "pad_beg": 0, "pad_end": 0})


def pyramid() -> list[Fields]:
    """The image at half and three quarters of its size."""
    return [
        interp("data_res05", "data", shrink_factor=2),
        interp("data_res075", "data", shrink_factor=4, zoom_factor=3),
    ]


def unit(
    name: str, bottom: str, width: int, scale: str, *, kernel: int = 1, pad: int = 0,
    stride: int = 1, dilation: int = 1,
) -> list[Fields]:  # fmt: skip
    """Convolution, frozen normalisation and scale, under names shared by the three scales."""
    options: Fields = {
        "num_output": width, "kernel_size": kernel, "pad": pad, "stride": stride,
        "bias_term": False,
    }  # fmt: skip
    if dilation > 1:
        options["dilation"] = dilation
    top = name + scale
    rest = f"_{name}" if name == "conv1" else name.removeprefix("res")
    frozen = [{"name": f"bn{rest}_{i}", "lr_mult": 0} for i in range(3)]
    fixed = [{"name": f"scale{rest}_{i}", "lr_mult": 0} for i in range(2)]
    learned = {"name": f"{name}_0", "lr_mult": 1, "decay_mult": 1}
    return [
        layer(top, "Convolution", [bottom], param=learned, convolution_param=options),
        layer(f"bn{rest}{scale}", "BatchNorm", [top], top,
              param=frozen, batch_norm_param={"use_global_stats": True}),
        layer(f"scale{rest}{scale}", "Scale", [top], top,
              param=fixed, scale_param={"bias_term": True}),
    ]  # fmt: skip


def relu(name: str, scale: str) -> Fields:
    return layer(f"{name}_relu{scale}", "ReLU", [name + scale], name + scale)


def block(name: str, bottom: str, stage: int, scale: str) -> list[Fields]:
    """A bottleneck; the first of a stage projects what goes past it."""
    _, width, stride, dilation = _STAGES[stage]
    first = name.endswith("a")
    stride = stride if first else 1
    layers, past = [], bottom + scale
    if first:
        past = f"{name}_branch1{scale}"
        layers += unit(f"{name}_branch1", bottom + scale, 4 * width, scale, stride=stride)
    a, b, c = (f"{name}_branch2{letter}" for letter in "abc")
    layers += [*unit(a, bottom + scale, width, scale, stride=stride), relu(a, scale)]
    layers += unit(b, a + scale, width, scale, kernel=3, pad=dilation, dilation=dilation)
    layers += [relu(b, scale), *unit(c, b + scale, 4 * width, scale)]
    return [*layers, layer(name + scale, "Eltwise", [past, c + scale]), relu(name, scale)]


def trunk(scale: str) -> list[Fields]:
    """conv1 to res5c at one scale: stride 8, res4 dilated by 2, res5 by 4."""
    options = {"pool": Word("MAX"), "kernel_size": 3, "stride": 2, "pad": 1}
    layers = [
        *unit("conv1", SCALES[scale], 64, scale, kernel=7, pad=3, stride=2),
        relu("conv1", scale),
        layer(f"pool1{scale}", "Pooling", [f"conv1{scale}"], pooling_param=options),
    ]
    bottom = "pool1"
    for stage, (names, *_) in _STAGES.items():
        for name in names:
            layers += block(f"res{stage}{name}", bottom, stage, scale)
            bottom = f"res{stage}{name}"
    return layers


@dataclass(frozen=True)
class ResNet101:
    """A net of the paper's tables.

    Args:
        dilations: of the 3 x 3 convolutions that score res5c, added; none, and one of 1 x 1 does.
        scales: one, or all of ``SCALES``.
    """

    dilations: tuple[int, ...] = ()
    scales: tuple[str, ...] = tuple(SCALES)

    @property
    def scored(self) -> dict[str, tuple[str, str]]:
        """Each blob of scores and the labels on its grid."""
        return _SCORED if len(self.scales) > 1 else {"": (_SCORES, "label_shrink")}

    def network(self, learned: bool) -> list[Fields]:
        """From the blob `data` to the scores."""
        layers = pyramid() if len(self.scales) > 1 else []
        for scale in self.scales:
            layers += trunk(scale)
        for scale in self.scales:
            layers += self._scores(scale, learned)
        return [*layers, *fused()] if len(self.scales) > 1 else layers

    def _scores(self, scale: str, learned: bool) -> list[Fields]:
        name = f"{_SCORES}{scale}"
        if len(self.dilations) < 2:
            return [_scoring(name, scale, _SCORES, learned, *self.dilations)]
        tops = [f"{name}_c{i}" for i in range(len(self.dilations))]
        return [
            *(
                _scoring(top, scale, f"{_SCORES}_c{i}", learned, dilation)
                for i, (top, dilation) in enumerate(zip(tops, self.dilations, strict=True))
            ),
            layer(name, "Eltwise", tops, eltwise_param={"operation": Word("SUM")}),
        ]

    def losses(self) -> list[Fields]:
        """A loss on the scores, and one on each scale's; the half scale's at half size."""
        layers = [interp("label_shrink", "label", shrink_factor=8)]
        for suffix, bottoms in self.scored.items():
            if suffix == "_res05":
                layers.append(interp("label_shrink16", "label", shrink_factor=16))
            layers += [
                layer(f"loss{suffix}", "SoftmaxWithLoss", bottoms, top=[],
                      loss_param={"ignore_label": 255}, include={"phase": TRAIN}),
                layer(f"accuracy{suffix}", "SegAccuracy", bottoms,
                      seg_accuracy_param={"ignore_label": 255}),
            ]  # fmt: skip
        return layers

    def enlarged(self) -> Fields:
        bottom = self.scored[""][0]
        return layer("fc1_interp", "Interp", [bottom], interp_param={"zoom_factor": 8})


LARGE_FOV, ASPP = (12,), (6, 12, 18, 24)
OTHERS = {
    "": ResNet101(scales=("",)),
    "_largefov": ResNet101(LARGE_FOV, ("",)),
    "_aspp": ResNet101(ASPP, ("",)),
    "_msc": ResNet101(),
    "_msc_largefov": ResNet101(LARGE_FOV),
}


def _scoring(name: str, scale: str, shared: str, learned: bool, dilation: int = 0) -> Fields:
    params: list[Fields] = [{"name": f"{shared}_w"}, {"name": f"{shared}_b"}]
    options: Fields = {"num_output": LABELS, "kernel_size": 1}
    if dilation:
        options |= {"kernel_size": 3, "pad": dilation, "dilation": dilation}
    if learned:
        params[0] |= {"lr_mult": 10, "decay_mult": 1}
        params[1] |= {"lr_mult": 20, "decay_mult": 0}
        options["weight_filler"] = {"type": "gaussian", "std": 0.01}
        options["bias_filler"] = {"type": "constant", "value": 0}
    return layer(name, "Convolution", [f"res5c{scale}"], param=params, convolution_param=options)


def fused() -> list[Fields]:
    """The three scores at one size; at each pixel the highest score of each label."""
    parts = [_SCORES, f"{_SCORES}_res075_interp", f"{_SCORES}_res05_interp"]
    return [
        interp(parts[2], f"{_SCORES}_res05", zoom_factor=2),
        interp(parts[1], f"{_SCORES}_res075", shrink_factor=3, zoom_factor=4),
        layer("fc_fusion", "Eltwise", parts, eltwise_param={"operation": Word("MAX")}),
    ]


def accuracies() -> list[Fields]:
    """TEST: the running accuracy on whole images."""
    options = {"ignore_label": 255, "reset": False}
    bottoms = ["fc1_interp", "label"]
    return [
        layer("accuracy", "SegAccuracy", bottoms, "fc1_accuracy", seg_accuracy_param=options),
        layer("silence", "Silence", ["label", "data_dim"], top=[]),
    ]
