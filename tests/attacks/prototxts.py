"""Attacks with the text of a net or a solver."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.running import CANARY
from tests.attacks.scene import NET, SOLVER, train_net

INSPECT = caffe_port("inspect net.prototxt")
CONVERT = caffe_port("convert net.prototxt good.caffemodel -o out.pt")
UPGRADE = caffe_port("upgrade net.prototxt out.prototxt")
TRAIN = program("caffe", "train --solver=hostile_solver.prototxt")
TIME = program("caffe", "time --model=net.prototxt --iterations=1 --phase=TEST")
LOAD = python("cp.load('net.prototxt')")
PYCAFFE = python("caffe.Net('net.prototxt', caffe.TEST)")
SOLVE = python("caffe.get_solver('net.prototxt').solve()")
EVERY = (INSPECT, CONVERT, UPGRADE, TRAIN, LOAD, PYCAFFE)

PROTOTXT = Family("prototxt", *EVERY)
SOLVERS = Family(
    "solver prototxt", caffe_port("inspect net.prototxt"),
    program("caffe", "train --solver=net.prototxt"), SOLVE,
)  # fmt: skip


def text(content: str | bytes) -> Make:
    """Makes net.prototxt of this content."""
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    return lambda folder: (folder / "net.prototxt").write_bytes(data)


def layers(body: str, shape: str = "dim: 1 dim: 3 dim: 9 dim: 9") -> str:
    """A net with an input 'data' of a shape and these layers."""
    return (
        f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}'
        f"\n{body}"
    )


def one(
    type: str, options: str, tops: str = 'top: "out"', shape: str = "dim: 1 dim: 3 dim: 9 dim: 9"
) -> str:
    """A net of one layer on 'data'."""
    return layers(f'layer {{ name: "x" type: "{type}" bottom: "data" {tops} {options} }}', shape)


# faults of the text itself
PROTOTXT.add("blocks nested a million deep", text("layer {" * 10**6))
PROTOTXT.add("angle brackets nested a million deep", text("layer <" * 10**6))
PROTOTXT.add("unknown blocks nested a million deep", text("layer { " + "x { " * 10**6))
PROTOTXT.add("lists nested a million deep", text("layer: " + "[" * 10**6))
PROTOTXT.add(
    "a whole number of a million digits",
    text(one("Pooling", "pooling_param { kernel_size: " + "9" * 10**6 + " }")),
)
PROTOTXT.add(
    "a real number of a million digits",
    text(one("Power", "power_param { power: 1." + "9" * 10**6 + "x }")),
)
PROTOTXT.add(
    "a negative num_output", text(one("InnerProduct", "inner_product_param { num_output: -1 }"))
)
PROTOTXT.add(
    "a number of 2^64", text(one("InnerProduct", f"inner_product_param {{ num_output: {2**64} }}"))
)
PROTOTXT.add("invalid UTF-8 in a name", text(b'name: "\xff\xfe"\n' + NET.encode()))
PROTOTXT.add("UTF-16", text(NET.encode("utf-16")))
PROTOTXT.add("half a surrogate pair", text('name: "\\355\\240\\200"\n' + NET))
PROTOTXT.add("zero bytes", text(NET.encode() + bytes(1000)))
PROTOTXT.add("a string that never ends, 15 MB", text('name: "' + "a" * 15_000_000))
PROTOTXT.add("one word of 15 MB", text("a" * 15_000_000))
PROTOTXT.add("15 MB of comment without an end", text("#" * 15_000_000 + "\nlayer {"))
PROTOTXT.add("15 MB of dots and dashes", text("name: " + "-." * 7_500_000))
PROTOTXT.add("40 MB", text(b"# a line\n" * 4_500_000))
PROTOTXT.add("a million layers", text('layer{name:"a"}' * 10**6))
PROTOTXT.add("two million empty layers", text("layer{}" * 2_000_000))
PROTOTXT.add("four million unknown fields", text("a:1 " * 4_000_000))
PROTOTXT.add("a million old layers", text('layers{name:"a"}' * 10**6))
PROTOTXT.add("eight million numbers in a list", text("input_dim: [" + "1," * 7_900_000 + "1]"))
PROTOTXT.add("a variable without a value", text('name: "${HOME}"\n' + NET))
PROTOTXT.add("not prototxt: a web page", text("<!DOCTYPE html><html><body>404</body></html>"))
PROTOTXT.add("empty blocks only", text("layer {} layer {}"), reads=(UPGRADE,))
PROTOTXT.add("both generations at once", text('layers { name: "a" } layer { name: "b" }'))

# faults of the layers
PROTOTXT.add("a cycle", text(layers('layer { name: "a" type: "ReLU" bottom: "b" top: "a" }\n'
             'layer { name: "b" type: "ReLU" bottom: "a" top: "b" }')), reads=(UPGRADE,))  # fmt: skip
PROTOTXT.add(
    "a layer that feeds itself",
    text('layer { name: "a" type: "ReLU" bottom: "a" top: "a" }'),
    reads=(UPGRADE,),
)
PROTOTXT.add("two layers of one name", text(NET + NET), reads=(UPGRADE,))
PROTOTXT.add(
    "a top made twice",
    text(layers('layer { name: "a" type: "Input" top: "data" input_param { shape { dim: 1 } } }')),
    reads=(UPGRADE,),
)
PROTOTXT.add("an unknown layer type", text(one("Exploit", "")), reads=(UPGRADE,))
PROTOTXT.add(
    "an input of 10^9 x 10^9 pixels",
    text(one("ReLU", "", shape="dim: 1 dim: 3 dim: 1000000000 dim: 1000000000")),
    reads=(UPGRADE,),
)
PROTOTXT.add(
    "an input of -1 pixels",
    text(one("ReLU", "", shape="dim: 1 dim: 3 dim: -1 dim: 9")),
    reads=(UPGRADE,),
)
PROTOTXT.add(
    "an input of 2^63 - 1 pixels",
    text(one("ReLU", "", shape=f"dim: {2**63 - 1}")),
    reads=(UPGRADE,),
)
PROTOTXT.add(
    "an input of a million axes", text(one("ReLU", "", shape="dim: 1 " * 10**6)), reads=(UPGRADE,)
)
PROTOTXT.add("an input of 100 axes", text(one("ReLU", "", shape="dim: 1 " * 100)), reads=(UPGRADE,))
for name, type, options in (
    ("a convolution of 4 billion outputs", "Convolution", "convolution_param { num_output: 4294967295 kernel_size: 1 }"),
    ("a kernel of 4 billion pixels", "Convolution", "convolution_param { num_output: 1 kernel_size: 4294967295 pad: 2147483647 }"),
    ("a dilation of 4 billion", "Convolution", "convolution_param { num_output: 1 kernel_size: 3 dilation: 4294967295 }"),
    ("a stride of 0", "Convolution", "convolution_param { num_output: 1 kernel_size: 3 stride: 0 }"),
    ("a group of 0", "Convolution", "convolution_param { num_output: 1 kernel_size: 3 group: 0 }"),
    ("a deconvolution by 4 billion", "Deconvolution", "convolution_param { num_output: 1 kernel_size: 2 stride: 4294967295 }"),
    ("an inner product of 4 billion outputs", "InnerProduct", "inner_product_param { num_output: 4294967295 }"),
    ("a pooling padded by 4 billion", "Pooling", "pooling_param { kernel_size: 4294967295 pad: 4294967294 }"),
    ("a pyramid of 4 billion levels", "SPP", "spp_param { pyramid_height: 4294967295 }"),
    ("2^31 tiles", "Tile", "tile_param { tiles: 2147483647 }"),
    ("a zoom of 2^31", "Interp", "interp_param { zoom_factor: 2147483647 }"),
    ("an upsampling to 2^32 pixels", "Upsample", "upsample_param { upsample_h: 4294967295 upsample_w: 4294967295 }"),
    ("a reshape to 2^62", "Reshape", f"reshape_param {{ shape {{ dim: {2**62} dim: {2**62} dim: -1 }} }}"),
    ("an axis of 2^31", "Softmax", "softmax_param { axis: 2147483647 }"),
    ("a slice at 2^32", "Slice", "slice_param { slice_point: 4294967295 }"),
    ("a crop by 2^32", "Crop", "crop_param { offset: 4294967295 }"),
    ("a top-k of 2^32", "ArgMax", "argmax_param { top_k: 4294967295 }"),
    ("an embedding of 2^64", "Embed", "embed_param { num_output: 4294967295 input_dim: 4294967295 }"),
):  # fmt: skip
    PROTOTXT.add(name, text(one(type, options)), reads=(UPGRADE,))
PROTOTXT.add("parameters of 80 GB", text(layers("".join(
    f'layer {{ name: "p{i}" type: "Parameter" top: "p{i}" parameter_param {{ shape {{ dim: 2147483647 }} }} }}'
    for i in range(10)))), CONVERT, LOAD, PYCAFFE)  # fmt: skip
PROTOTXT.add("blobs of 800 GB", text(train_net("DummyData", "dummy_data_param { shape { dim: 2147483647 } }") + "".join(
    f'layer {{ name: "p{i}" type: "DummyData" top: "p{i}" dummy_data_param {{ shape {{ dim: 2147483647 }} }} }}'
    for i in range(100))), TRAIN, TIME, PYCAFFE)  # fmt: skip


def _wide(count: int) -> str:
    readers = "".join(
        f'layer{{name:"{i}" type:"ReLU" bottom:"data" top:"{i}"}}' for i in range(count)
    )
    return layers(readers + 'layer { name: "end" type: "Bad" bottom: "data" top: "end" }')


def _strange(count: int) -> str:
    """Layers with unknown fields, many of which a careless reader compares with each other."""
    return layers("".join(f'layer{{name:"{i}" type:"ReLU" bottom:"data" top:"{i}" q:1 r:2 s:3}}'
                          for i in range(count)) + "layer { }")  # fmt: skip


PROTOTXT.add(
    "10,000 layers that read one blob, then a bad one", text(_wide(10_000)), reads=(UPGRADE,)
)
PROTOTXT.add(
    "10,000 layers of unknown fields, then a bad one", text(_strange(10_000)), reads=(UPGRADE,)
)
PROTOTXT.add(
    "200,000 rules of phases",
    text(one("ReLU", "include { stage: 'a' } " * 200_000)),
    reads=(UPGRADE,),
)
PROTOTXT.add(
    "100,000 bottoms",
    text(
        layers(
            'layer { name: "c" type: "Concat" '
            + 'bottom: "data" ' * 100_000
            + 'top: "c" concat_param { axis: 9 } }'
        )
    ),
    reads=(UPGRADE,),
)

# code that would run, and references to other files
PAYLOAD = f"import pathlib\npathlib.Path({CANARY!r}).touch()\nclass Layer: pass\n"


def _python_layer(module: str, name: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "payload.py").write_text(PAYLOAD)
        layer = f'layer {{ name: "p" type: "Python" bottom: "data" top: "p" python_param {{ module: "{module}" layer: "{name}" param_str: "touch {CANARY}" }} }}'
        (folder / "net.prototxt").write_text(layers(layer))

    return make


PROTOTXT.add("a Python layer next to the net", _python_layer("payload", "Layer"), reads=(UPGRADE,))
PROTOTXT.add("a Python layer of os.system", _python_layer("os", "system"), reads=(UPGRADE,))
PROTOTXT.add(
    "escape codes for the terminal in a type",
    text(one(r"\033]0;owned\007\033[2J", "")),
    reads=(UPGRADE,),
)


def _source(type: str, options: str, prepare: Callable[[Path], object] | None = None) -> Make:
    def make(folder: Path) -> None:
        if prepare:
            prepare(folder)
        (folder / "net.prototxt").write_text(train_net(type, options))

    return make


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


SIZED = "new_height: 9 new_width: 9"
for kind, type, options in (
    ("ImageData", "ImageData", f'image_data_param {{ source: "%s" batch_size: 1 {SIZED} }}'),
    ("ImageSegData", "ImageSegData", f'image_data_param {{ source: "%s" batch_size: 1 label_type: PIXEL {SIZED} }} transform_param {{ crop_size: 9 }}'),
    ("HDF5Data", "HDF5Data", 'hdf5_data_param { source: "%s" batch_size: 1 }'),
    ("Data", "Data", 'data_param { source: "%s" batch_size: 1 backend: LMDB }'),
    ("WindowData", "WindowData", 'window_data_param { source: "%s" batch_size: 1 } transform_param { crop_size: 9 }'),
    ("MatRead", "MatRead", 'mat_read_param { prefix: "" source: "%s" batch_size: 1 }'),
):  # fmt: skip
    for name, source, prepare in (
        ("that reads an endless device", "/dev/zero", None),
        ("that waits on a pipe", "pipe", _pipe),
        ("that reads a text with a secret", "secret.txt", None),
    ):
        make = _source(type, options % source, prepare)
        PROTOTXT.add(f"{kind} {name}", make, TRAIN, PYCAFFE, reads=(PYCAFFE,))
PROTOTXT.add("the file is a pipe", lambda folder: os.mkfifo(folder / "net.prototxt"), *EVERY)
PROTOTXT.add(
    "the file is an endless device",
    lambda folder: (folder / "net.prototxt").symlink_to("/dev/zero"),
    *EVERY,
)
PROTOTXT.add("the file is a folder", lambda folder: (folder / "net.prototxt").mkdir(), *EVERY)


def solver(options: str, net: str = "train.prototxt") -> Make:
    """The scene's solver with these options besides, or instead."""
    given = {line.split(":")[0] for line in options.splitlines()}
    lines = SOLVER.format(net=net).splitlines()
    return text("\n".join([*(x for x in lines if x.split(":")[0] not in given), options]))


SOLVERS.add("its net is an endless device", solver("", "/dev/zero"), reads=(SOLVERS.entries[0],))
SOLVERS.add("its net is itself", solver("", "net.prototxt"), reads=SOLVERS.entries)
SOLVERS.add("its net is missing", solver("", "../../missing"), reads=(SOLVERS.entries[0],))
SOLVERS.add("an unknown field", solver("system: 'touch EXECUTED'"))
SOLVERS.add(
    "a rate policy that does not exist",
    text(SOLVER.format(net="train.prototxt").replace('"fixed"', '"exec"')),
    reads=(SOLVERS.entries[0],),
)
SOLVERS.add("a type that does not exist", solver('type: "os.system"'), reads=(SOLVERS.entries[0],))
SOLVERS.add("an iter_size of 0", solver("iter_size: 0"), reads=(SOLVERS.entries[0],))
SOLVERS.add("eight million step values", solver("stepvalue: [" + "1," * 7_900_000 + "1]"))
SOLVERS.add("nested a million deep", text("net_param {" * 10**6))
for name, options in (
    ("an iter_size of -1", "iter_size: -1"),
    ("an average_loss of 0", "average_loss: 0"),
    ("2^31 iterations backwards", "max_iter: -2147483648"),
    ("a step of 0", 'lr_policy: "step"\nstepsize: 0'),
    ("a snapshot every -1", "snapshot: -1"),
):
    SOLVERS.add(name, solver(options), reads=(SOLVERS.entries[0],))
SOLVERS.add(
    "a test without iterations",
    solver("test_interval: 1 test_net: 'train.prototxt' test_iter: -1"),
    reads=(SOLVERS.entries[0],),
)
