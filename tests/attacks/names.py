"""Attacks with names: codes for terminals, markup, forged lines, in all that a file can name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import archives, hdf5, prototxts, weights
from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.running import MARKUP
from tests.attacks.scene import DUMMY, SOLVER, TRAIN

#: Sets a terminal's title, clears it, turns the order of letters round, poses as another line.
CODES = f"\x1b]0;o\x07\x1b[2J\u202egnp\u2066[bold]x[link=x]{MARKUP}"
FORGED = f"{CODES}\rb\nF0101 forged\nforged"
LONG = "n" * 1_000_000
NAMES = {"codes and forged lines": FORGED, "a million letters": LONG}


def quoted(name: str) -> str:
    """A string of prototxt."""
    spelled = re.sub(rb"[^0-9A-Za-z]", lambda found: b"\\%03o" % ord(found[0]), name.encode())
    return f'"{spelled.decode()}"'


def _net(
    layer: str = "conv", blob: str = "conv", param: str = "", type: str = "Convolution"
) -> str:
    return f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 9 dim: 9 }} }} }}
layer {{ name: {quoted(layer)} type: {quoted(type)} bottom: "data" top: {quoted(blob)}
  param {{ name: {quoted(param)} }}
  convolution_param {{ num_output: 3 kernel_size: 1 weight_filler {{ type: "gaussian" std: 1 }} }} }}
"""


def _file(name: str, content: str | bytes) -> Make:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


INSPECT = caffe_port("inspect net.prototxt")
CONVERT = caffe_port("convert net.prototxt good.caffemodel -o out.pt")
VERIFY = caffe_port("verify net.prototxt good.caffemodel recording.h5 -o out")
UNRAVEL = caffe_port("unravel net.prototxt voc/JPEGImages/a.png -o out --labels 1 --curves 0")
DRAW = program("draw_net", "net.prototxt out.svg")
TIME = program("caffe", "time --model=net.prototxt --iterations=1 --phase=TEST")
TRAIN_PLOT = program("caffe", "train --solver=hostile_solver.prototxt --plot=out/plot.html")
LOAD, PYCAFFE = python("cp.load('net.prototxt')"), python("caffe.Net('net.prototxt', caffe.TEST)")
NAMED = (INSPECT, CONVERT, caffe_port("upgrade net.prototxt out.prototxt"), VERIFY, UNRAVEL, DRAW,
         TIME, LOAD, PYCAFFE, python("caffe.Net('net.prototxt', 'good.caffemodel', caffe.TEST)"))  # fmt: skip

NET = Family("names in a net", *NAMED)
TEXT_OF = {
    "layer": lambda name: _net(layer=name),
    "blob": lambda name: _net(blob=name),
    "shared parameter": lambda name: _net(param=name),
    "layer, twice": lambda name: _net(layer=name) + _net(layer=name, blob="x"),
    "type": lambda name: _net(type=name),
    "bottom that is missing": lambda name: _net().replace('bottom: "data"', f"bottom: {quoted(name)}"),
    "net": lambda name: f"name: {quoted(name)}\n{_net()}",
    "filler": lambda name: _net().replace('"gaussian"', quoted(name)),
    "unknown field's value": lambda name: _net() + f"strange: {quoted(name)}",
}  # fmt: skip


def recorded(make: Make, blob: str = "conv") -> Make:
    """Also a recording, whose blob is far from what the net computes."""

    def both(folder: Path) -> None:
        make(folder)
        with h5py.File(folder / "recording.h5", "w") as file:
            file.attrs["format"], file.attrs["version"] = (
                np.bytes_("caffe recording"),
                np.bytes_("1"),
            )
            file.attrs["meta"] = np.bytes_('{"phase": "TEST"}')
            for name, values in (("data", np.zeros), (blob, np.ones)):
                file[f"data/{name}"] = found = values((1, 3, 9, 9), "f4")
                digest = hashlib.sha256(found.tobytes()).hexdigest()
                file[f"data/{name}"].attrs["sha256"] = np.bytes_(digest)

    return both


for _what, _text in TEXT_OF.items():
    for _kind, _name in NAMES.items():
        _make = recorded(_file("net.prototxt", _text(_name)))
        NET.add(f"a {_what}: {_kind}", _make, reads=NAMED)


def _training(name: str) -> Make:
    def make(folder: Path) -> None:
        net = TRAIN.format(type="DummyData", options=DUMMY).replace('"loss"', quoted(name))
        (folder / "net.prototxt").write_text(net.replace('"fc"', quoted(f"fc {name}")))
        solver = SOLVER.format(net="net.prototxt").replace("display: 0", "display: 1")
        (folder / "hostile_solver.prototxt").write_text(solver)

    return make


_TEST = program("caffe", "test --model=net.prototxt --weights=good.caffemodel --iterations=2")
for _kind, _name in NAMES.items():
    NET.add(f"layers and blobs of a training: {_kind}", _training(_name), TRAIN_PLOT, _TEST,
            reads=(TRAIN_PLOT, _TEST))  # fmt: skip


def _solver(folder: Path) -> None:
    (folder / "hostile_solver.prototxt").write_text(
        SOLVER.format(net="x").replace('"x"', quoted(FORGED))
    )


NET.add("the net's file, which is missing", _solver, prototxts.TRAIN)
SOURCES = {"ImageData": "image_data_param { source: %s batch_size: 1 }",
           "HDF5Data": "hdf5_data_param { source: %s batch_size: 1 }",
           "Data": "data_param { source: %s batch_size: 1 backend: LMDB }"}  # fmt: skip
for _type, _options in SOURCES.items():
    _net_text = TRAIN.format(type=_type, options=_options % quoted(FORGED))
    NET.add(
        f"the source of {_type}, which is missing",
        _file("net.prototxt", _net_text),
        prototxts.TRAIN,
    )

FILES = Family("names in weights")
_CONVERTS = tuple(e for e in archives.PT.entries if "convert" in e.name)
_HDF5 = hdf5.HDF5.entries


def _hdf5(name: str) -> Make:
    def make(folder: Path) -> None:
        with h5py.File(folder / hdf5.FILE, "w") as file:
            file[f"data/{name}/0"] = np.zeros((3, 3, 1, 1), "f4")

    return make


def _tensors(name: str) -> Make:
    entry = {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}
    layers = {"layers": json.dumps([[name, "", [f"{name}.weight"]]])}
    return archives.tensors(
        {"__metadata__": archives.META | layers, f"{name}.weight": entry}, bytes(36)
    )


for _kind, _name in NAMES.items():
    _layer = weights.field(1, _name.encode()) + weights.field(2, b"Convolution")
    _blob = weights.field(7, weights.dims(9) + weights.FLOATS)
    FILES.add(f"a layer of a caffemodel: {_kind}", weights.raw(weights.field(100, _layer + _blob)),
              *weights.EVERY, reads=weights.EVERY)  # fmt: skip
    FILES.add(f"a type of a caffemodel: {_kind}",
              weights.raw(weights.field(100, weights.field(1, b"conv") + weights.field(2, _name.encode()) + _blob)),
              *weights.EVERY, reads=weights.EVERY)  # fmt: skip
    FILES.add(f"a solver state's weights: {_kind}",
              weights.raw(weights.state(1, _name.encode()), "net.solverstate"),
              *weights.STATE.entries, reads=weights.STATE.entries)  # fmt: skip
    FILES.add(f"a layer of a .pt: {_kind}", archives.saved(
              archives.model(layers=[[_name, "Convolution", ["conv.weight", "conv.bias"]]])),
              *archives.PT.entries, reads=archives.PT.entries)  # fmt: skip
    FILES.add(f"metadata of a .pt: {_kind}", archives.saved(
              archives.model(name=_name, metadata={"phase": _name, "dialect": _name})),
              *archives.PT.entries, reads=archives.PT.entries)  # fmt: skip
    FILES.add(f"a tensor of a safetensors: {_kind}", _tensors(_name), *archives.SAFETENSORS.entries,
              reads=archives.SAFETENSORS.entries)  # fmt: skip
FILES.add("a group of HDF5: codes and forged lines", _hdf5(FORGED), *_HDF5, reads=_HDF5)
FILES.add(
    "a recording's blob", recorded(_file("net.prototxt", _net()), FORGED), VERIFY, reads=(VERIFY,)
)
FILES.add("a recording's head", lambda folder: _head(folder), VERIFY)


def _head(folder: Path) -> None:
    recorded(_file("net.prototxt", _net()))(folder)
    with h5py.File(folder / "recording.h5", "a") as file:
        file.attrs["meta"] = np.bytes_(json.dumps({"phase": FORGED}))


# names of files, in folders and in lists
LISTED = "".join(CODES.split())
_EVALUATE = "evaluate good.prototxt good.caffemodel --images voc --crop 9 -o out"
EVALUATE = caffe_port(_EVALUATE)
CLASSES = caffe_port(f"{_EVALUATE} --names names.txt --trimap 3")
SCORE = caffe_port("score voc/SegmentationClass --images voc --classes 3 --names names.txt")
CRF = caffe_port("crf -id images -fd features -sd out -i 1 -j 1")
SHOTS = Family("names of files")


def _named_image(folder: Path, name: str = LISTED) -> None:
    for where in ("JPEGImages", "SegmentationClass"):
        (folder / "voc" / where / "a.png").rename(folder / "voc" / where / f"{name}.png")
    (folder / "voc/ImageSets/Segmentation/val.txt").write_text(f"{name}\n")
    (folder / "names.txt").write_text(f"{name}\n[red]b\n{LONG}\n")


def _broken_image(folder: Path) -> None:
    _named_image(folder)
    (folder / "voc/JPEGImages" / f"{LISTED}.png").write_bytes(b"text")


def _features(folder: Path) -> None:
    (folder / "images/a.ppm").rename(folder / "images" / f"{LISTED}\nF0101 x.ppm")
    (folder / "features" / f"{LISTED}\nF0101 x.bin").write_bytes(bytes(12))


def _listed(folder: Path) -> None:
    (folder / "voc/ImageSets/Segmentation/val.txt").write_text(f"{LISTED} {LISTED} {LISTED}\n")


def _missing(folder: Path) -> None:
    (folder / "voc/ImageSets/Segmentation/val.txt").write_text(f"{LISTED}.png\n")
    (folder / "list.txt").write_text(f"/{LISTED}.png 0\n")


CONVERT_SET = program("convert_imageset", "voc list.txt out_db")
_UNRAVEL_ANY = python(
    "import glob, click.testing; from caffe_port.cli.unravel import unravel_command as command\n"
    "done = click.testing.CliRunner().invoke(command, ['good.prototxt', 'good.caffemodel', "
    "*glob.glob('voc/JPEGImages/*'), '-o', 'out', '--labels', '1', '--names', 'names.txt', '--curves', '0'])\n"
    "print(done.output)"
)
SHOTS.add("an image and its classes, in reports", _named_image, EVALUATE, CLASSES, SCORE, _UNRAVEL_ANY,
          reads=(EVALUATE, CLASSES, SCORE, _UNRAVEL_ANY))  # fmt: skip
SHOTS.add("an image file that is not an image", _broken_image, EVALUATE, CLASSES)
SHOTS.add("a score file that does not hold scores", _features, CRF)
SHOTS.add("a line of a list with a word too many", _listed, EVALUATE, SCORE)
SHOTS.add("an image that is missing", _missing, EVALUATE, SCORE, CONVERT_SET, reads=(CONVERT_SET,))

# results of experiments, which travel too
REPORT = caffe_port("finetune --report results.json -o out")
RESULTS = Family("results.json", REPORT)


def results(**changes: Any) -> Make:
    """The results of an experiment with three classes."""
    score = {"before": 0.5, "after": 0.6, "iou_before": [0.5] * 3, "iou_after": [0.6] * 3,
             "lost": [0.1] * 3, "templates": {"cosine": [[1.0] * 3] * 3}, "final_loss": 1.0, "seconds": 1.0}  # fmt: skip
    values = {
        "format": "caffe_port experiment 1", "net": "n", "net_name": "n", "data": {"folder": "f", "train": 1, "val": 1, "first": "a"},
        "init": "i", "names": ["a", "b", "c"], "start": score, "scores": {"poly_softmax": {"0": score, "1": score}},
        "curves": {"poly_softmax": {"loss": [[0, 1.0], [1, 0.5]]}},
    }  # fmt: skip
    return _file("results.json", json.dumps(values | changes))


RESULTS.add("codes in all its names", results(
    net=FORGED, net_name=FORGED, init=FORGED, names=[FORGED, "b", "c"], versions={FORGED: FORGED},
    data={"folder": FORGED, "train": 1, "val": 1, "first": FORGED},
    curves={"poly_softmax": {f"loss {FORGED}": [[0, 1.0], [1, 0.5]]}}), reads=(REPORT,))  # fmt: skip
RESULTS.add("not JSON", _file("results.json", "{"))
RESULTS.add("JSON nested 100,000 deep", _file("results.json", "[" * 100_000))
RESULTS.add("a list", _file("results.json", "[]"))
RESULTS.add("another format", _file("results.json", '{"format": 1}'))
RESULTS.add(
    "a number of a million digits", _file("results.json", '{"format": ' + "9" * 10**6 + "}")
)
for _what, _value in (
    ("names", 5), ("scores", {"v": {"x": {}}}), ("scores", {"v": {"0": {"before": "x"}}}), ("scores", []), ("curves", {"v": 7}),
    ("curves", {"poly_softmax": {"loss": [[0, "x"]]}}), ("curves", {"poly_softmax": {"loss": [[0]]}}), ("data", "x"),
    ("versions", 3), ("start", 4), ("steps", "x"), ("names", [["a"]]), ("scores", {}),
):  # fmt: skip
    RESULTS.add(f"{_what} that are {json.dumps(_value)}", results(**{_what: _value}))


def _swapped(folder: Path) -> None:
    shutil.copy(folder / "good.caffemodel", folder / "results.json")


RESULTS.add("a caffemodel", _swapped)
