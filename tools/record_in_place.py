#!/usr/bin/env python
"""Records Caffe's trainings of small nets with layers in place.

Copy this file to where "import caffe" works; it needs numpy besides. Then

    python record_in_place.py > in_place.npz

Each net is trained for three steps. Recorded are the sum of the outputs at each step and the last
update of the weights, under "<net>/outputs" and "<net>/update". tests/solver/test_side_effects.py
does the same with caffe_port and compares.
"""

import io
import os
import shutil
import sys
import tempfile

import numpy as np

STEPS = 3
SOLVER = (
    'base_lr: 0.002 lr_policy: "fixed" momentum: 0.9 max_iter: 9 random_seed: 7 '
    'snapshot_after_train: false train_net: "%s"'
)
WEIGHTS = 'weight_filler { type: "gaussian" std: %s }'


def layer(name, kind, bottoms, tops, options=""):
    """The text of a layer; bottoms and tops are names with spaces between."""
    blobs = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(blobs)} {options} }}\n'


def inner_product(name, bottom, outputs=2):
    """An InnerProduct whose top has the layer's name."""
    options = f"num_output: {outputs} {WEIGHTS % 0.2}"
    return layer(name, "InnerProduct", bottom, name, f"inner_product_param {{ {options} }}")


def constant(name, value, shape=(4, 3, 4, 4)):
    """A DummyData layer that always gives one value."""
    axes = " ".join(f"dim: {size}" for size in shape)
    options = f"shape {{ {axes} }} data_filler {{ value: {value} }}"
    return layer(name, "DummyData", "", name, f"dummy_data_param {{ {options} }}")


START = (
    layer("in", "DummyData", "", "x t", "dummy_data_param { shape { dim: 4 dim: 3 dim: 4 dim: 4 }"
            ' shape { dim: 4 dim: 2 } data_filler { type: "gaussian" }'
            ' data_filler { type: "gaussian" } }')
    + layer("c", "Convolution", "x", "c", "convolution_param { num_output: 3 kernel_size: 3 pad: 1 "
            + WEIGHTS % 0.3 + " }")
)  # fmt: skip


def end(blob, name=""):
    """The end of a net: a loss of an InnerProduct of the blob; the name is for a second end."""
    loss = layer("loss" + name, "EuclideanLoss", f"ip{name} t", "loss" + name)
    return inner_product("ip" + name, blob) + loss


# A type and its options; "in" is the layer in place on c, otherwise its top is y.
READERS = [
    "ReLU", "ReLU in", "ReLU in relu_param { negative_slope: 0.2 }",
    "ReLU in relu_param { negative_slope: -0.2 }", "PReLU", "PReLU in", "ELU", "ELU in",
    "ELU in elu_param { alpha: -0.5 }", "Swish", "Swish in", "Sigmoid", "Sigmoid in", "TanH",
    "TanH in", "AbsVal", "BNLL", "BNLL in", "Exp", "Exp in",
    "Power power_param { power: 2 }", "Power power_param { power: 3 scale: 0.2 shift: 2 }",
    "Power in power_param { scale: 0.7 }", "Power in power_param { power: 2 scale: 0.3 }",
    "Power power_param { power: 1.5 scale: 0.1 shift: 2 }",
    "Log log_param { scale: 0.1 shift: 3 }", "Log in log_param { scale: 0.1 shift: 3 }",
    "Clip clip_param { min: -0.5 max: 0.5 }", "Clip in clip_param { min: -0.5 max: 0.5 }",
    "Dropout", "Dropout in", "Softmax", "Softmax in",
    "LRN lrn_param { local_size: 3 alpha: 0.9 }",
    "LRN lrn_param { local_size: 3 alpha: 0.9 norm_region: WITHIN_CHANNEL }",
    "MVN mvn_param { eps: 0.1 }", "MVN mvn_param { across_channels: true eps: 0.1 }",
    "MVN mvn_param { normalize_variance: false }", "BatchNorm", "BatchNorm in", "Scale", "Scale in",
    "Bias", "Bias in", "Pooling pooling_param { kernel_size: 2 stride: 2 }",
    "Pooling pooling_param { pool: AVE kernel_size: 2 stride: 2 }",
    "SPP spp_param { pyramid_height: 2 }", "Tile tile_param { axis: 1 tiles: 2 }",
    "Reduction reduction_param { operation: SUMSQ axis: 2 }", "Im2col convolution_param { "
    "kernel_size: 2 }", "Flatten", "Reshape reshape_param { shape { dim: 0 dim: 0 dim: 16 } }",
    "Concat", "Slice", "Split",
    "Convolution convolution_param { num_output: 2 kernel_size: 2 " + WEIGHTS % 0.3 + " }",
    "Deconvolution convolution_param { num_output: 2 kernel_size: 2 " + WEIGHTS % 0.3 + " }",
    "InnerProduct inner_product_param { num_output: 5 " + WEIGHTS % 0.3 + " }",
]  # fmt: skip
# Types with several bottoms: c and another convolution of x.
JOINS = [
    "Eltwise", "Eltwise eltwise_param { operation: PROD }", "Eltwise eltwise_param { operation: "
    "PROD stable_prod_grad: false }", "Eltwise eltwise_param { operation: MAX }", "Concat",
    "Scale scale_param { axis: 0 }", "Bias bias_param { axis: 0 }", "Crop crop_param { axis: 2 }",
]  # fmt: skip
# Types with bottoms of other kinds: the layers before, the bottoms and the options.
SEQUENCE = "recurrent_param { num_output: 3 " + WEIGHTS % 0.3 + " }"
OTHERS = {
    "Embed": (constant("k", 1, (4,)), "k", "embed_param { input_dim: 3 num_output: 4 "
              + WEIGHTS % 0.3 + " }"),
    "BatchReindex": (constant("k", 1, (4,)), "c k", ""),
    "Filter": (constant("k", 1, (4,)), "c k", ""),
    "LSTM": (constant("k", 1, (4, 3)), "c k", SEQUENCE),
    "RNN": (constant("k", 1, (4, 3)), "c k", SEQUENCE),
    "LSTMUnit": (constant("k", 1, (1, 4)) + constant("p", 0.5, (1, 4, 2))
                 + inner_product("i", "c", 8) + layer("g", "Reshape", "i", "g", "reshape_param { "
                 "shape { dim: 1 dim: 4 dim: 8 } }"), "p g k", ""),
}  # fmt: skip
WRITERS = [
    "ReLU", "TanH", "Sigmoid", "Dropout", "Power power_param { scale: 0.5 }",
    "Scale scale_param { filler { value: 1.5 } }",
]  # fmt: skip


def _views():
    """Nets with blobs that share memory: name -> text after START."""
    relu = layer("r", "ReLU", "y", "y")
    other = inner_product("i2", "c") + layer("l2", "EuclideanLoss", "i2 t", "l2")
    late = other + layer("l3", "Reduction", "c", "l3", "loss_weight: 0.01")
    shape = "reshape_param { shape { dim: 0 dim: 0 dim: 16 } }"
    nets = {}
    for kind in ("Flatten", "Reshape " + shape, "Concat", "Slice", "Split"):
        name, _, options = kind.partition(" ")
        view = layer("v", name, "c", "y", options)
        nets[name + ", in place, read later"] = view + relu + other + end("y")
        nets[name + ", read before, in place"] = other + view + relu + end("y")
        nets[name + ", in place, an output"] = (
            view + relu + layer("s", "Silence", "y", "") + end("c")
        )
        nets[name + ", in place, and a view of that"] = (
            view + relu + layer("w", "Reshape", "y", "z", "reshape_param { shape { dim: 0 dim: -1 "
                                "} }") + end("z"))  # fmt: skip
        nets[name + ", then Flatten"] = view + layer("w", "Flatten", "y", "z") + end("z")
        nets[name + ", in place, then Flatten"] = (
            view + relu + layer("w", "Flatten", "y", "z") + end("z"))  # fmt: skip
    nets["read later by a loss"] = layer("v", "Flatten", "c", "y") + relu + late + end("y")
    power = layer("w", "Power", "k", "k", "power_param { scale: 0.5 shift: 0.5 }")
    add = layer("y", "Eltwise", "c k", "y") + end("y")
    param = layer("k", "Parameter", "", "k", "parameter_param { shape { dim: 4 dim: 3 dim: 4 "
                  "dim: 4 } }")  # fmt: skip
    flat = layer("f", "Flatten", "k", "f") + layer("g", "Flatten", "c", "g")
    add_flat = layer("y", "Eltwise", "g f", "y") + end("y")
    nets["a constant in place"] = constant("k", 2) + power + add
    nets["a view of a constant in place"] = (
        constant("k0", 2) + layer("v", "Split", "k0", "k") + power + add)  # fmt: skip
    nets["a constant"] = constant("k", 2) + add
    nets["a parameter in place"] = param + power + add
    nets["a parameter"] = param + add
    nets["a parameter, flat"] = param + flat + add_flat
    return nets


def nets():
    """Name -> text of all nets."""
    made = {}
    for reader in READERS + JOINS:
        kind, _, options = reader.partition(" ")
        joins = "joined " if reader in JOINS else ""
        in_place = options.startswith("in ") or options == "in"
        top = "c" if in_place else "y"
        text = layer("y", kind, "c d" if joins else "c", top, options[3:] if in_place else options)
        if joins:
            text = START[START.index('layer { name: "c"') :].replace('"c"', '"d"') + text
        for writer in WRITERS:
            if writer == "Sigmoid" and "stable_prod_grad: false" in reader:
                continue  # divides by numbers near 0
            kind, _, more = writer.partition(" ")
            made[f"{joins}{reader}, then {writer}"] = (
                text + layer("w", kind, top, top, more) + end(top)
            )
    items = "reshape_param { shape { dim: 4 dim: -1 } }"
    for kind, (before, bottoms, options) in OTHERS.items():
        tops = "y h" if kind == "LSTMUnit" else "y"
        text = before + layer("y", kind, bottoms, tops, options)
        text += layer("h2", "Reshape", "h", "h2", items) + end("h2", "2") if "h" in tops else ""
        for writer in WRITERS:
            what, _, more = writer.partition(" ")
            last = layer("w", what, "y", "y", more) + layer("y2", "Reshape", "y", "y2", items)
            made[kind + ", then " + writer] = text + last + end("y2")
    made.update(_views())
    return {name: START + text for name, text in made.items()}


def train(solver, record, name):
    """Trains a net and records it."""
    outputs = []
    for _ in range(STEPS):
        solver.step(1)
        outputs.append(sum(float(solver.net.blobs[blob].data.sum()) for blob in solver.net.outputs))
    # the last update has the momentum of all steps
    updates = [blob.diff.ravel() for blobs in solver.net.params.values() for blob in blobs]
    record[name + "/outputs"] = np.array(outputs, np.float32)
    record[name + "/update"] = np.concatenate(updates).astype(np.float32)


def main():
    import caffe

    record, folder = {}, tempfile.mkdtemp()
    for name, text in nets().items():
        with open(os.path.join(folder, "net.prototxt"), "w") as file:
            file.write(text)
        with open(os.path.join(folder, "solver.prototxt"), "w") as file:
            file.write(SOLVER % os.path.join(folder, "net.prototxt"))
        sys.stderr.write(name + "\n")
        train(caffe.SGDSolver(os.path.join(folder, "solver.prototxt")), record, name)
    shutil.rmtree(folder)
    stream = io.BytesIO()
    np.savez_compressed(stream, **record)
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    main()
