"""SSD: VGG16 at 300 x 300 (Liu et al., 2016), and MobileNet v1 with SSD's heads."""

from __future__ import annotations

from dataclasses import dataclass, field

from vgg16 import relu
from writing import TEST, Fields, Word, layer, prototxt

CLASSES = 21
_INPUT = {"input": "data", "input_shape": {"dim": [1, 3, 300, 300]}}


@dataclass
class Trunk:
    """Layers one after the other; ``blob`` is the last one's top."""

    layers: list[Fields] = field(default_factory=list)
    blob: str = "data"

    def convolution(
        self, name: str, outputs: int, kernel: int, relu_name: str, **options: object
    ) -> None:
        """A convolution and its ReLU."""
        sizes = {"num_output": outputs, "kernel_size": kernel, **options}
        self.layers.append(layer(name, "Convolution", [self.blob], convolution_param=sizes))
        self.layers.append(relu(relu_name, name))
        self.blob = name

    def pooling(self, name: str, **options: int) -> None:
        sizes = {"pool": Word("MAX"), **options}
        self.layers.append(layer(name, "Pooling", [self.blob], pooling_param=sizes))
        self.blob = name


@dataclass(frozen=True)
class Source:
    """A blob that boxes are predicted from: their sizes, aspect ratios, and step in pixels."""

    blob: str
    smallest: float
    largest: float | None
    ratios: tuple[int, ...]
    step: int | None = None

    @property
    def priors(self) -> int:
        return 1 + (self.largest is not None) + 2 * len(self.ratios)


def heads(sources: list[Source], kernel: int) -> list[Fields]:
    """Locations, scores and priors of each source, and what joins them."""
    layers = []
    for source in sources:
        for kind, width in (("loc", 4), ("conf", CLASSES)):
            layers += _predictions(source, kind, width, kernel)
        layers.append(_priors(source))
    for kind, axis in (("loc", 1), ("conf", 1), ("priorbox", 2)):
        end = "" if kind == "priorbox" else "_flat"
        bottoms = [f"{source.blob}_mbox_{kind}{end}" for source in sources]
        layers.append(layer(f"mbox_{kind}", "Concat", bottoms, concat_param={"axis": axis}))
    return layers


def _predictions(source: Source, kind: str, width: int, kernel: int) -> list[Fields]:
    name = f"{source.blob}_mbox_{kind}"
    options: Fields = {"num_output": source.priors * width, "kernel_size": kernel}
    if kernel > 1:
        options["pad"] = kernel // 2
    return [
        layer(name, "Convolution", [source.blob], convolution_param=options),
        layer(f"{name}_perm", "Permute", [name], permute_param={"order": [0, 2, 3, 1]}),
        layer(f"{name}_flat", "Flatten", [f"{name}_perm"], flatten_param={"axis": 1}),
    ]


def _priors(source: Source) -> Fields:
    options: Fields = {"min_size": source.smallest}
    if source.largest is not None:
        options["max_size"] = source.largest
    options |= {"aspect_ratio": list(source.ratios), "flip": True, "clip": False}
    options |= {"variance": [0.1, 0.1, 0.2, 0.2], "offset": 0.5}
    if source.step is not None:
        options["step"] = source.step
    name = f"{source.blob}_mbox_priorbox"
    return layer(name, "PriorBox", [source.blob, "data"], prior_box_param=options)


def detections(looked_at: int, kept: int, confidence: float) -> list[Fields]:
    """Softmax over the classes of each prior, and the boxes that are left."""
    return [
        layer("mbox_conf_reshape", "Reshape", ["mbox_conf"],
              reshape_param={"shape": {"dim": [0, -1, CLASSES]}}),
        layer("mbox_conf_softmax", "Softmax", ["mbox_conf_reshape"], softmax_param={"axis": 2}),
        layer("mbox_conf_flatten", "Flatten", ["mbox_conf_softmax"], flatten_param={"axis": 1}),
        layer("detection_out", "DetectionOutput",
              ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"],
              include={"phase": TEST},
              detection_output_param={
                  "num_classes": CLASSES, "share_location": True, "background_label_id": 0,
                  "nms_param": {"nms_threshold": 0.45, "top_k": looked_at},
                  "code_type": Word("CENTER_SIZE"), "keep_top_k": kept,
                  "confidence_threshold": confidence,
              }),
    ]  # fmt: skip


def _vgg16() -> list[Fields]:
    net = Trunk()
    for block, (count, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            net.convolution(f"conv{block}_{i}", width, 3, f"relu{block}_{i}", pad=1)
        last = {"kernel_size": 3, "stride": 1, "pad": 1}
        net.pooling(f"pool{block}", **(last if block == 5 else {"kernel_size": 2, "stride": 2}))
    net.convolution("fc6", 1024, 3, "relu6", pad=6, dilation=6)
    net.convolution("fc7", 1024, 1, "relu7")
    for block, (narrow, wide, options) in enumerate(
        [(256, 512, {"pad": 1, "stride": 2}), (128, 256, {"pad": 1, "stride": 2}),
         (128, 256, {}), (128, 256, {})], 6,
    ):  # fmt: skip
        net.convolution(f"conv{block}_1", narrow, 1, f"conv{block}_1_relu")
        net.convolution(f"conv{block}_2", wide, 3, f"conv{block}_2_relu", **options)
    scale = {"type": "constant", "value": 20}
    norm = {"across_spatial": False, "scale_filler": scale, "channel_shared": False}
    return [*net.layers, layer("conv4_3_norm", "Normalize", ["conv4_3"], norm_param=norm)]


def ssd300_vgg16() -> dict[str, str]:
    sources = [
        Source("conv4_3_norm", 30, 60, (2,), 8),
        Source("fc7", 60, 111, (2, 3), 16),
        Source("conv6_2", 111, 162, (2, 3), 32),
        Source("conv7_2", 162, 213, (2, 3), 64),
        Source("conv8_2", 213, 264, (2,), 100),
        Source("conv9_2", 264, 315, (2,), 300),
    ]
    layers = [*_vgg16(), *heads(sources, 3), *detections(400, 200, 0.01)]
    return {"deploy.prototxt": prototxt(layers, name="VGG_VOC0712_SSD_300x300_deploy", **_INPUT)}


def _mobilenet() -> list[Fields]:
    """MobileNet v1 with BatchNorm and Scale folded into the convolutions, and eight more."""
    net, width = Trunk(), 32
    net.convolution("conv0", width, 3, "conv0/relu", pad=1, stride=2)
    widths = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    for i, wide in enumerate(widths, 1):
        stride = 2 if i in (2, 4, 6, 12) else 1
        depthwise = {"pad": 1, "stride": stride, "group": width}
        net.convolution(f"conv{i}/dw", width, 3, f"conv{i}/dw/relu", **depthwise)
        net.convolution(f"conv{i}", wide, 1, f"conv{i}/relu")
        width = wide
    for i, (narrow, wide) in enumerate([(256, 512), (128, 256), (128, 256), (64, 128)], 14):
        net.convolution(f"conv{i}_1", narrow, 1, f"conv{i}_1/relu")
        net.convolution(f"conv{i}_2", wide, 3, f"conv{i}_2/relu", pad=1, stride=2)
    return net.layers


def mobilenet_ssd() -> dict[str, str]:
    sources = [Source("conv11", 60, None, (2,)), Source("conv13", 105, 150, (2, 3))]
    sizes = [150, 195, 240, 285, 300]
    for i in range(4):
        sources.append(Source(f"conv{14 + i}_2", sizes[i], sizes[i + 1], (2, 3)))
    layers = [*_mobilenet(), *heads(sources, 1), *detections(100, 100, 0.25)]
    return {"deploy.prototxt": prototxt(layers, name="MobileNet-SSD", **_INPUT)}
