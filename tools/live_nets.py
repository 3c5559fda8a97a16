"""Small random nets for tools/record_live.py, with Python layers that write where they should not.

Imports nothing but numpy, so that both files can be copied to a machine with Caffe.
"""

from __future__ import annotations

import sys
import types

LAYERS = '''
import caffe
import numpy as np


class Scaled(caffe.Layer):
    """Keeps its blobs from setup and uses them alone."""

    def setup(self, bottom, top):
        self.source, self.result = bottom[0], top[0]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.result.data[...] = 3 * self.source.data

    def backward(self, top, propagate_down, bottom):
        self.source.diff[...] = 3 * self.result.diff


class Clipping(caffe.Layer):
    """Writes into its bottom in place, then copies it; writes into its top's diff too."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        np.clip(bottom[0].data, -0.5, 0.5, out=bottom[0].data)
        top[0].data[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff
        top[0].diff[...] *= 0.5


class Constant(caffe.Layer):
    """Fills its top in setup, and never again."""

    def setup(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
        top[0].data[...] = np.arange(top[0].count).reshape(top[0].data.shape) % 7 - 3
        top[0].diff[...] = 0.25

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        pass

    def backward(self, top, propagate_down, bottom):
        pass
'''


def define_layers() -> None:
    """Makes the Python layers importable as module ``live_layers``."""
    module = types.ModuleType("live_layers")
    sys.modules["live_layers"] = module
    exec(LAYERS, module.__dict__)


GAUSSIAN = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'constant' value: 0.1 }"
FROZEN = " param { lr_mult: 0 }" * 3
# a type, and after a space its options
NEURONS = [
    "ReLU",
    "ReLU relu_param { negative_slope: 0.1 }",
    "ELU elu_param { alpha: 0.7 }",
    "Sigmoid",
    "TanH",
    "AbsVal",
    "BNLL",
    "Swish swish_param { beta: 1.5 }",
    "Clip clip_param { min: -0.6 max: 0.8 }",
    "Exp exp_param { base: 2 scale: 0.3 shift: 0.1 }",
    "Power power_param { scale: 0.5 shift: 9 }",
    "Power power_param { power: 2 scale: 0.7 }",
    "Power power_param { power: 1.5 scale: 0.1 shift: 9 }",
    "Power power_param { power: 3 scale: 0.2 shift: 2 }",
    "Log log_param { scale: 0.1 shift: 9 }",
    "PReLU",
    "Dropout dropout_param { dropout_ratio: 0.4 }",
    "Scale scale_param { bias_term: true }",
    "Bias",
    "BatchNorm batch_norm_param { eps: 0.1 }" + FROZEN,
    "BatchNorm batch_norm_param { use_global_stats: true }" + FROZEN,
]
OTHERS = [
    "Softmax",
    "MVN mvn_param { eps: 0.1 }",
    "MVN mvn_param { normalize_variance: false }",
    "MVN mvn_param { across_channels: true eps: 0.1 }",
    "LRN lrn_param { local_size: 3 alpha: 0.9 }",
    "LRN lrn_param { local_size: 3 alpha: 0.9 norm_region: WITHIN_CHANNEL }",
    "Convolution convolution_param { num_output: 3 kernel_size: 3 pad: 1 " + GAUSSIAN + "}",
    "Convolution convolution_param { num_output: 3 kernel_size: 1 bias_term: false }",
    "Convolution convolution_param { num_output: 3 group: 3 kernel_size: 3 pad: 2 dilation: 2 }",
    "Deconvolution convolution_param { num_output: 3 kernel_size: 3 pad: 1 " + GAUSSIAN + "}",
    "Pooling pooling_param { kernel_size: 3 stride: 1 pad: 1 }",
    "Pooling pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }",
    "Concat",
    "Slice",
    "Tile tile_param { axis: 2 tiles: 1 }",
    "Im2col convolution_param { kernel_size: 1 }",
    "SPP spp_param { pyramid_height: 2 }",
    "Python python_param { module: 'live_layers' layer: 'Scaled' }",
    "Python python_param { module: 'live_layers' layer: 'Clipping' }",
    "Python python_param { module: 'live_layers' layer: 'Constant' }",
]
JOINS = [
    "Eltwise",
    "Eltwise eltwise_param { coeff: 0.5 coeff: -2 }",
    "Eltwise eltwise_param { operation: PROD }",
    "Eltwise eltwise_param { operation: PROD stable_prod_grad: false }",
    "Eltwise eltwise_param { operation: MAX }",
    "Concat",
    "Scale scale_param { axis: 0 }",
    "Bias bias_param { axis: 0 }",
    "Crop crop_param { axis: 2 }",
]
# what the loss reads: the last blob, or "ip" or "soft" of it; what its labels are
LOSSES = [
    ("blob map", "SoftmaxWithLoss"),
    ("blob map", "SoftmaxWithLoss loss_param { ignore_label: 1 } loss_weight: 2"),
    ("ip class", "InfogainLoss infogain_loss_param { source: 'GAINS' }"),
    ("soft class", "MultinomialLogisticLoss"),
    ("ip class", "HingeLoss"),
    ("ip class", "HingeLoss hinge_loss_param { norm: L2 }"),
    ("blob same", "EuclideanLoss"),
    ("blob same", "SigmoidCrossEntropyLoss"),
    ("blob same", "SigmoidCrossEntropyLoss loss_param { ignore_label: 1 normalization: VALID }"),
    ("ip pair", "ContrastiveLoss"),
    ("blob", "Reduction reduction_param { operation: SUMSQ } loss_weight: 0.5"),
    ("blob", "Reduction reduction_param { operation: ASUM axis: 1 coeff: 2 } loss_weight: 0.5"),
    ("blob", "Reduction reduction_param { operation: MEAN } loss_weight: 0.5"),
    ("", ""),
]
CHANNELS, HEIGHT, WIDTH = 3, 4, 5
KINDS = ["neuron", "neuron", "other", "other", "branch", "branch", "mask", "flat"]


class NetDrawer:
    """Draws a net whose blobs have the shape of the input x, up to its loss."""

    def __init__(self, dice):
        self.dice, self.texts, self.count = dice, ["force_backward: true"], 0
        self.input("x", 2, CHANNELS, HEIGHT, WIDTH)

    def layer(self, what, bottoms, tops):
        """Adds a layer; returns its first top."""
        self.count += 1
        type, _, options = what.partition(" ")
        words = [("name", f"n{self.count}"), ("type", type)]
        words += [("bottom", name) for name in bottoms] + [("top", name) for name in tops]
        text = " ".join(f"{key}: '{value}'" for key, value in words)
        self.texts.append(f"layer {{ {text} {options} }}")
        return tops[0]

    def fresh(self):
        return f"b{self.count + 1}"

    def input(self, name, *shape):
        dims = " ".join(f"dim: {size}" for size in shape)
        self.layer(f"Input input_param {{ shape {{ {dims} }} }}", [], [name])

    def product(self, blob, size, top):
        what = f"InnerProduct inner_product_param {{ num_output: {size} {GAUSSIAN} }}"
        return self.layer(what, [blob], [top])

    def block(self, blob):
        """A few layers on a blob; returns their last top."""
        kind = self.dice.choice([*KINDS, "recurrent"] if self.count == 1 else KINDS)
        top = self.fresh()
        if kind == "neuron":
            what = self.dice.choice(NEURONS)
            in_place = self.dice.random() < 0.5 and blob != "x" and what != "AbsVal"
            return self.layer(what, [blob], [blob if in_place else top])
        if kind == "mask":
            what = "Pooling pooling_param { kernel_size: 3 stride: 1 pad: 1 }"
            return self.layer(what, [blob], [top, top + "_mask"])
        if kind == "flat":
            return self.shaped_back(self.layer("Flatten", [blob], [top]))
        if kind == "recurrent":
            self.input("cont", 2, CHANNELS)
            options = f"recurrent_param {{ num_output: {HEIGHT * WIDTH} {GAUSSIAN} }}"
            what = f"{self.dice.choice(['RNN', 'LSTM'])} {options}"
            return self.shaped_back(self.layer(what, [blob, "cont"], [self.fresh()]))
        return self.branch(blob) if kind == "branch" else self.one(blob)

    def shaped_back(self, blob):
        shape = f"shape {{ dim: 0 dim: {CHANNELS} dim: {HEIGHT} dim: {WIDTH} }}"
        return self.layer(f"Reshape reshape_param {{ {shape} }}", [blob], [self.fresh()])

    def one(self, blob):
        what = self.dice.choice(NEURONS + OTHERS)
        top = self.layer(what, [blob], [self.fresh()])
        if what.startswith("SPP"):
            top = self.shaped_back(self.product(top, CHANNELS * HEIGHT * WIDTH, self.fresh()))
        return top

    def branch(self, blob):
        """Two readers of one blob, and a layer that joins their tops."""
        ends = [blob if self.dice.random() < 0.2 else self.one(blob) for _ in range(2)]
        join = self.dice.choice(JOINS)
        if "stable" in join:  # divides by its bottoms
            exp = "Exp exp_param { scale: 0.3 }"
            ends = [self.layer(exp, [end], [self.fresh()]) for end in ends]
        top = self.layer(join, ends, [self.fresh()])
        if join != "Concat":
            return top
        halves = [top + "_a", top + "_b"]
        self.layer("Slice", [top], halves)
        what = f"Parameter parameter_param {{ shape {{ dim: {CHANNELS} }} }}"
        halves[1:1] = [self.layer(what, [], [self.fresh()])]
        scaled = self.layer("Scale scale_param { axis: 1 }", halves[:2], ["s" + top])
        return self.layer("Eltwise", [scaled, halves[2]], [self.fresh()])

    def end(self, blob):
        """The loss, with what it reads."""
        reads, what = self.dice.choice(LOSSES)
        if not what:
            return
        bottoms = [blob]
        if reads.split()[0] in ("ip", "soft"):
            names = ("ip", "ip2") if "pair" in reads else ("ip",)
            bottoms = [self.product(blob, 4, name) for name in names]
        if "soft" in reads:
            bottoms = [self.layer("Softmax", bottoms, ["soft"])]
        if " " in reads:
            shapes = {"map": (2, 1, HEIGHT, WIDTH), "same": (2, CHANNELS, HEIGHT, WIDTH)}
            self.input("y", *shapes.get(reads.split()[1], (2,)))
            bottoms.append("y")
        self.layer(what, bottoms, ["loss"])


def draw_net(dice):
    """The prototxt of a net; in place of GAINS it needs the path of a 4 x 4 binaryproto.

    Args:
        dice: a random.Random.
    """
    drawer = NetDrawer(dice)
    blob = "x"
    for _ in range(dice.randint(1, 4)):
        blob = drawer.block(blob)
    drawer.end(blob)
    return "\n".join(drawer.texts) + "\n"


def scales_in_place(text):
    """Whether a net has a Scale in place, whose first backward spoils its buffer for the next.

    Source: BVLC/caffe scale_layer.cpp, Backward_cpu, where it stores the product in temp_.
    """
    for line in text.split("\n"):
        if "'Scale'" in line and line.count("bottom") == 1:
            bottom, top = (line.split(f"{word}: ")[1].split()[0] for word in ("bottom", "top"))
            if bottom == top:
                return True
    return False
