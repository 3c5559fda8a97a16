"""ENet of Paszke and others, in the text of its Caffe version by Saemann."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from writing import TRAIN, Fields, Word, layer

_LABELS = 19
# of blocks 1 to 8 in stages 2 and 3: the dilation, or 0 for a pair of 5 x 1 and 1 x 5
_DILATIONS = (1, 2, 0, 4, 1, 8, 0, 16)
_FILLER = {"weight_filler": {"type": "msra"}}


def data(divisor: int, batch_size: int) -> Fields:
    """Images of 512 x 1024, and label maps whose sides are those over ``divisor``."""
    options = {
        "source": "${DATA_ROOT}/${TRAIN_SET}.txt", "batch_size": batch_size, "shuffle": True,
        "new_height": 512, "new_width": 1024, "label_divide_factor": divisor,
    }  # fmt: skip
    return layer(
        "data", "DenseImageData", [], "data", "label",
        include={"phase": TRAIN}, dense_image_data_param=options,
    )  # fmt: skip


def image() -> Fields:
    """An image, BGR, without subtraction of a mean."""
    shape = {"dim": [1, 3, 512, 1024]}
    return layer("input", "Input", [], "data", input_param={"shape": shape})


@dataclass
class _Net:
    """Layers of the net as they are added.

    Attributes:
        learned: with statistics of the batch, and with dropout of whole channels.
        decoded: a decoder follows, which needs the indices of the poolings.
        activation: of the encoder, then of the decoder.
    """

    learned: bool
    decoded: bool = True
    activation: str = "PReLU"
    layers: list[Fields] = field(default_factory=list)

    def add(self, name: str, type: str, *bottoms: str, **options: object) -> str:
        self.layers.append(layer(name, type, bottoms, **options))
        return name

    def convolution(
        self, name: str, bottom: str, outputs: int, kernel: int = 1, stride: int = 1,
        *, bias: bool = False, **more: object,
    ) -> str:  # fmt: skip
        sizes = {} if "kernel_h" in more else {"kernel_size": kernel}
        options = {"num_output": outputs, "bias_term": bias, **sizes, "stride": stride, **more}
        return self.add(name, "Convolution", bottom, convolution_param=options | _FILLER)

    def deconvolution(self, name: str, bottom: str, outputs: int, kernel: int = 2) -> str:
        options = {"num_output": outputs, "bias_term": True, "kernel_size": kernel,
                   "stride": kernel}  # fmt: skip
        return self.add(name, "Deconvolution", bottom, convolution_param=options)

    def bn(self, name: str, bottom: str) -> str:
        options = {
            "scale_filler": {"type": "constant", "value": 1},
            "shift_filler": {"type": "constant", "value": 0.001},
            "bn_mode": Word("LEARN" if self.learned else "INFERENCE"),
        }
        param = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}]
        return self.add(f"bn{name}", "BN", bottom, param=param, bn_param=options)

    def normalized(self, name: str, bottom: str) -> str:
        return self.activated(name, self.bn(name, bottom))

    def activated(self, name: str, bottom: str) -> str:
        return self.add(f"prelu{name}", self.activation, bottom)

    def pooled(self, name: str, bottom: str, *masks: str) -> str:
        options = {"pool": Word("MAX"), "kernel_size": 2, "stride": 2}
        self.layers.append(
            layer(name, "Pooling", [bottom], name, *masks, pooling_param=options)
        )  # fmt: skip
        return name

    def dropout(self, name: str, bottom: str, ratio: float) -> str:
        """Drops whole channels in TRAIN; in TEST too, the values are divided by 1 - ratio."""
        if not self.learned:
            return self.add(name, "Power", bottom, power_param={"scale": 1 / (1 - ratio)})
        options = {
            "module": "spatial_dropout", "layer": "SpatialDropoutLayer",
            "param_str": f"{{'phase': 'TRAIN', 'p': '{ratio}'}}",
        }  # fmt: skip
        return self.add(name, "Python", bottom, python_param=options)

    def middle(self, name: str, bottom: str, width: int, dilation: int) -> str:
        """The convolution between reduction and expansion of a block."""
        if dilation:
            wide = {"dilation": dilation} if dilation > 1 else {}
            return self.convolution(
                f"conv{name}_1", bottom, width, 3, bias=True, pad=dilation, **wide
            )
        high = self.convolution(f"conv{name}_1_a", bottom, width, pad=1, kernel_h=5, kernel_w=1)
        return self.convolution(
            f"conv{name}_1", high, width, bias=True, pad=1, kernel_h=1, kernel_w=5
        )

    def bottleneck(
        self, name: str, bottom: str, width: int, dilation: int = 1, kind: str = "",
        ratio: float = 0.1,
    ) -> str:  # fmt: skip
        """A block with ``width`` output channels; ``kind``: '', 'down' or 'up'."""
        inner = width // 4
        size = 2 if kind == "down" else 1
        reduced = self.convolution(f"conv{name}_0", bottom, inner, size, size)
        reduced = self.normalized(f"{name}_0", reduced)
        if kind == "up":
            middle = self.deconvolution(f"deconv{name}_1", reduced, inner)
        else:
            middle = self.middle(name, reduced, inner, dilation)
        middle = self.normalized(f"{name}_1", middle)
        expanded = self.bn(f"{name}_2", self.convolution(f"conv{name}_2", middle, width))
        dropped = self.dropout(f"drop{name}_3", expanded, ratio)
        other = self.other_branch(name, bottom, width, kind)
        return self.activated(f"{name}_4", self.add(f"eltwise{name}_4", "Eltwise", dropped, other))

    def other_branch(self, name: str, bottom: str, width: int, kind: str) -> str:
        """The block's input, pooled or enlarged with the indices of the pooling."""
        if not kind:
            return bottom
        if kind == "down":
            masks = [f"pool{name}_4_mask"] if self.decoded else []
            bottom = self.pooled(f"pool{name}_4", bottom, *masks)
        other = self.bn(f"{name}_4", self.convolution(f"conv{name}_4", bottom, width))
        if kind == "down":
            return other
        mask = {"4_0": "pool2_0_4_mask", "5_0": "pool1_0_4_mask"}[name]
        return self.add(f"upsample{name}_4", "Upsample", other, mask, upsample_param={"scale": 2})

    def encoder(self) -> str:
        options = {"num_output": 13, "bias_term": True, "kernel_size": 3, "stride": 2, "pad": 1}
        first = self.add("conv0_1", "Convolution", "data", convolution_param=options | _FILLER)
        pooled = self.pooled("pool0_1", "data")
        joined = self.add("concat0_1", "Concat", first, pooled, concat_param={"axis": 1})
        bottom = self.normalized("0_1", joined)
        bottom = self.bottleneck("1_0", bottom, 64, kind="down", ratio=0.01)
        for block in range(1, 5):
            bottom = self.bottleneck(f"1_{block}", bottom, 64, ratio=0.01)
        bottom = self.bottleneck("2_0", bottom, 128, kind="down")
        for name, dilation in _dilated():
            bottom = self.bottleneck(name, bottom, 128, dilation)
        return bottom

    def decoder(self, bottom: str) -> str:
        self.activation = "ReLU"
        for stage, width, blocks in ((4, 64, 2), (5, 16, 1)):
            bottom = self.bottleneck(f"{stage}_0", bottom, width, kind="up")
            for block in range(1, blocks + 1):
                bottom = self.bottleneck(f"{stage}_{block}", bottom, width)
        return self.deconvolution("deconv6_0_0", bottom, _LABELS)


def _dilated() -> Iterator[tuple[str, int]]:
    for stage in (2, 3):
        for block, dilation in enumerate(_DILATIONS, 1):
            yield f"{stage}_{block}", dilation


def loss(scores: str) -> list[Fields]:
    bottoms = [scores, "label"]
    options = {"ignore_label": 255, "weight_by_label_freqs": False}
    return [
        layer("loss", "SoftmaxWithLoss", bottoms, loss_param=options),
        layer("accuracy", "Accuracy", bottoms, "accuracy", "per_class_accuracy"),
    ]


def encoder() -> list[Fields]:
    """The first part of the training: scores at an eighth of the image's size."""
    net = _Net(True, decoded=False)
    scores = net.deconvolution("deconv_encoder6_0_0", net.encoder(), _LABELS, 1)
    return [data(8, 4), *net.layers, *loss(scores)]


def network(learned: bool) -> list[Fields]:
    """The whole net, from the blob `data` to `deconv6_0_0`."""
    net = _Net(learned)
    scores = net.decoder(net.encoder())
    return [data(1, 3), *net.layers, *loss(scores)] if learned else [image(), *net.layers]
