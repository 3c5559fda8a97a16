"""PSPNet and ICNet: ResNet with a stem of three convolutions, and a pyramid of pooled features."""

from __future__ import annotations

from dataclasses import dataclass

from writing import Fields, Word, layer

_STAGES = {2: (1, 1), 3: (2, 1), 4: (1, 2), 5: (1, 4)}  # stride of the first block, dilation
_BINS = (1, 2, 3, 6)  # of the pyramid, along each side
_STEPS = {1: (33, 65), 2: (16, 32), 3: (10, 20), 6: (5, 10)}  # of ICNet's windows


@dataclass(frozen=True)
class _Network:
    """The parts that PSPNet and ICNet share.

    Attributes:
        width: channels of the first convolution.
        blocks: in stages 2 to 5.
        merged: BN is part of the convolutions, which have biases then.
        late: the stride of a stage is that of its first 3 x 3, not of the 1 x 1 before.
    """

    width: int
    blocks: tuple[int, int, int, int]
    merged: bool = False
    late: bool = False

    def convolution(
        self, name: str, bottom: str, outputs: int, kernel: int = 1, stride: int = 1,
        dilation: int = 1, rate: int = 1, relu: bool = True,
    ) -> list[Fields]:  # fmt: skip
        """A convolution that keeps the size, batch normalization, and a ReLU if wanted."""
        options: Fields = {
            "num_output": outputs, "kernel_size": kernel, "stride": stride,
            "pad": dilation * (kernel // 2), "weight_filler": {"type": "msra"},
        }  # fmt: skip
        if dilation > 1:
            options["dilation"] = dilation
        param = [{"lr_mult": rate, "decay_mult": 1}]
        if not self.merged:
            options["bias_term"] = False
        layers = [layer(name, "Convolution", [bottom], param=param, convolution_param=options)]
        if not self.merged:
            layers.append(_bn(name, rate))
        return [*layers, _relu(name)] if relu else layers

    def stem(self, bottom: str) -> list[Fields]:
        half = self.width
        options = {"pool": Word("MAX"), "kernel_size": 3, "stride": 2, "pad": 1}
        return [
            *self.convolution("conv1_1_3x3_s2", bottom, half, 3, stride=2),
            *self.convolution("conv1_2_3x3", "conv1_1_3x3_s2", half, 3),
            *self.convolution("conv1_3_3x3", "conv1_2_3x3", 2 * half, 3),
            layer("pool1_3x3_s2", "Pooling", ["conv1_3_3x3"], pooling_param=options),
        ]

    def block(self, name: str, bottom: str, stage: int, first: bool) -> list[Fields]:
        inner = self.width << (stage - 2)
        stride, dilation = _STAGES[stage]
        stride = stride if first else 1
        reduced, increased = f"{name}_1x1_reduce", f"{name}_1x1_increase"
        layers = [
            *self.convolution(reduced, bottom, inner, stride=1 if self.late else stride),
            *self.convolution(
                f"{name}_3x3", reduced, inner, 3, stride if self.late else 1, dilation
            ),
            *self.convolution(increased, f"{name}_3x3", 4 * inner, relu=False),
        ]
        kept = bottom
        if first:
            kept = f"{name}_1x1_proj"
            layers += self.convolution(kept, bottom, 4 * inner, stride=stride, relu=False)
        return [*layers, _sum(name, kept, increased), _relu(name)]

    def stage(self, stage: int, bottom: str, start: int = 1) -> list[Fields]:
        layers = []
        for i in range(start, self.blocks[stage - 2] + 1):
            name = f"conv{stage}_{i}"
            layers += self.block(name, bottom, stage, first=i == 1)
            bottom = name
        return layers

    def last(self, stage: int) -> str:
        return f"conv{stage}_{self.blocks[stage - 2]}"


def _bn(name: str, rate: int) -> Fields:
    """Scale and shift are learned, without decay; mean and variance are statistics."""
    param = [{"lr_mult": lr, "decay_mult": 0} for lr in (rate, rate, 0, 0)]
    options = {
        "slope_filler": {"type": "constant", "value": 1},
        "bias_filler": {"type": "constant", "value": 0},
        "frozen": True,
        "momentum": 0.95,
    }
    return layer(f"{name}/bn", "BN", [name], name, param=param, bn_param=options)


def _relu(name: str) -> Fields:
    return layer(f"{name}/relu", "ReLU", [name], name)


def _sum(name: str, *bottoms: str) -> Fields:
    return layer(name, "Eltwise", bottoms, eltwise_param={"operation": Word("SUM")})


def _interp(name: str, bottom: str, **options: int) -> Fields:
    return layer(name, "Interp", [bottom], interp_param=options)


def _image(height: int, width: int) -> Fields:
    shape = {"dim": [1, 3, height, width]}
    return layer("input", "Input", [], "data", input_param={"shape": shape})


def _scores(name: str, bottom: str, labels: int, rate: int) -> Fields:
    options = {"num_output": labels, "kernel_size": 1, "stride": 1,
               "weight_filler": {"type": "msra"}}  # fmt: skip
    param = [{"lr_mult": rate, "decay_mult": 1}, {"lr_mult": 2 * rate, "decay_mult": 1}]
    return layer(name, "Convolution", [bottom], param=param, convolution_param=options)


def pspnet(depth: int, labels: int, size: int) -> list[Fields]:
    """PSPNet-50 or -101, from an image of size x size, mean subtracted, to `conv6_interp`."""
    net = _Network(64, (3, 4, 23 if depth == 101 else 6, 3), late=depth == 101)
    layers = [_image(size, size), *net.stem("data")]
    bottom = "pool1_3x3_s2"
    for stage in (2, 3, 4, 5):
        layers += net.stage(stage, bottom)
        bottom = net.last(stage)
    side = size // 8 + 1
    for bins in _BINS:
        name, cell = f"conv5_3_pool{bins}", side // bins
        options = {"pool": Word("AVE"), "kernel_size": cell, "stride": cell}
        layers += [
            layer(name, "Pooling", [bottom], pooling_param=options),
            *net.convolution(f"{name}_conv", name, 512, rate=10),
            _interp(f"{name}_interp", f"{name}_conv", height=side, width=side),
        ]
    enlarged = [f"conv5_3_pool{bins}_interp" for bins in reversed(_BINS)]
    return [
        *layers,
        layer("conv5_3_concat", "Concat", [bottom, *enlarged]),
        *net.convolution("conv5_4", "conv5_3_concat", 512, 3, rate=10),
        layer("conv5_4/dropout", "Dropout", ["conv5_4"], "conv5_4",
              dropout_param={"dropout_ratio": 0.1}),
        _scores("conv6", "conv5_4", labels, 10),
        _interp("conv6_interp", "conv6", zoom_factor=8),
    ]  # fmt: skip


def icnet(merged: bool) -> list[Fields]:
    """ICNet for Cityscapes: the image at full, half and quarter size, fused from coarse to fine."""
    net = _Network(32, (3, 4, 6, 3), merged)
    layers = [
        _image(1025, 2049),
        layer("data_sub1", "Scale", ["data"]),
        _interp("data_sub2", "data_sub1", shrink_factor=2),
        *net.stem("data_sub2"),
        *net.stage(2, "pool1_3x3_s2"),
        *net.block("conv3_1", net.last(2), 3, first=True),
        _interp("conv3_1_sub4", "conv3_1", shrink_factor=2),
        *net.stage(3, "conv3_1_sub4", start=2),
        *net.stage(4, net.last(3)),
        *net.stage(5, net.last(4)),
        *_icnet_pyramid(33, 65),
        *net.convolution("conv5_4_k1", "conv5_3_sum", 256),
        _interp("conv5_4_interp", "conv5_4_k1", zoom_factor=2),
    ]  # fmt: skip
    layers += _cascade(net, "conv_sub4", "conv5_4_interp", "conv3_1_sub2_proj", "conv3_1", "24")
    layers += net.convolution("conv_sub2", "sub24_sum_interp", 128, 3, dilation=2, relu=False)
    bottom = "data_sub1"
    for i, width in enumerate((32, 32, 64), 1):
        layers += net.convolution(f"conv{i}_sub1", bottom, width, 3, stride=2)
        bottom = f"conv{i}_sub1"
    layers += net.convolution("conv3_sub1_proj", bottom, 128, relu=False)
    return [
        *layers,
        *_added("12", "conv3_sub1_proj", "conv_sub2"),
        _scores("conv6_cls", "sub12_sum_interp", 19, 1),
        _interp("conv6_interp", "conv6_cls", zoom_factor=4),
    ]


def _cascade(
    net: _Network, coarse: str, bottom: str, proj: str, fine: str, name: str
) -> list[Fields]:
    return [
        *net.convolution(coarse, bottom, 128, 3, dilation=2, relu=False),
        *net.convolution(proj, fine, 128, relu=False),
        *_added(name, proj, coarse),
    ]


def _added(name: str, fine: str, coarse: str) -> list[Fields]:
    summed = f"sub{name}_sum"
    return [
        _sum(summed, fine, coarse),
        _relu(summed),
        _interp(f"{summed}_interp", summed, zoom_factor=2),
    ]


def _icnet_pyramid(height: int, width: int) -> list[Fields]:
    """Pooled features, enlarged and added; the windows of neighbouring bins overlap."""
    layers = []
    for bins, (down, right) in _STEPS.items():
        name = f"conv5_3_pool{bins}"
        options = {
            "pool": Word("AVE"),
            "kernel_h": height - (bins - 1) * down, "kernel_w": width - (bins - 1) * right,
            "stride_h": down, "stride_w": right,
        }  # fmt: skip
        layers += [
            layer(name, "Pooling", ["conv5_3"], pooling_param=options),
            _interp(f"{name}_interp", name, height=height, width=width),
        ]
    enlarged = [f"conv5_3_pool{bins}_interp" for bins in reversed(_BINS)]
    return [*layers, _sum("conv5_3_sum", "conv5_3", *enlarged)]
