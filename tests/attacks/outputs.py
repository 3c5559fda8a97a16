"""Attacks on where results go: lists and files that name places outside of the folder of results."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.running import CANARY
from tests.attacks.scene import DUMMY, TRAIN, train_net

EVALUATE = caffe_port("evaluate good.prototxt good.caffemodel --images voc --crop 9 -o out")
CRF = caffe_port("crf -id images -fd features -sd out -i 1 -j 1")
TEST = program("caffe", "test --model=net.prototxt --weights=good.caffemodel --iterations=1")
SOLVE = program("caffe", "train --solver=hostile_solver.prototxt")
READERS = (
    caffe_port("inspect net.prototxt"),
    caffe_port("convert net.prototxt -o out/net.pt"),
    python("cp.load('net.prototxt')"),
    python("cp.load('net.prototxt')({})"),
)
PREPARE = caffe_port("prepare_voc voc -o out")
GRID = caffe_port(
    "crf_grid -id images -fd features -gt labels -o out -i 1 -j 1 --bi-w 3 --bi-xy-std 30 --bi-rgb-std 3"
)
IMAGESET = program("convert_imageset", "voc/ list.txt out")
UNRAVEL = caffe_port(
    "unravel good.prototxt good.caffemodel voc/JPEGImages/a.png -o out --labels 1 --curves 0"
)

OUTPUTS = Family("where results go", EVALUATE)


def listed(text: str, name: str = "val") -> Make:
    """That list in the VOC folder."""
    return lambda folder: (folder / f"voc/ImageSets/Segmentation/{name}.txt").write_text(text)


for _name in (
    "..",
    ".",
    "../a",
    "a/../../b",
    "/a",
    "./a",
    "a/",
    "../../" + CANARY,
    "x" * 300,
    "~",
    "$HOME",
):
    OUTPUTS.add(
        f"a list's id {_name[:20]!r}",
        listed(f"{_name}\n"),
        EVALUATE,
        reads=(EVALUATE,) if _name == "/a" else (),
    )


def _copies(*names: str) -> Callable[[Path], None]:
    """More images with label maps, and a list of them."""

    def make(folder: Path) -> None:
        for name in names:
            image = folder / "voc" / name
            image.parent.mkdir(parents=True, exist_ok=True)
            if not image.exists():
                shutil.copy(folder / "voc/JPEGImages/a.png", image)
            label = folder / "voc/SegmentationClass" / image.name
            if not label.exists():
                shutil.copy(folder / "voc/SegmentationClass/a.png", label)
        listed("".join(f"{name}\n" for name in names))(folder)

    return make


OUTPUTS.add("two images of one name", _copies("JPEGImages/a.png", "other/a.png"))
OUTPUTS.add(
    "one image twice, once by ../", _copies("JPEGImages/a.png", "JPEGImages/../JPEGImages/a.png")
)
OUTPUTS.add(
    "two names that differ in case",
    _copies("JPEGImages/a.png", "JPEGImages/A.png"),
    reads=(EVALUATE,),
)
OUTPUTS.add("an image outside of the folder", lambda folder: (
    (folder / "outside").mkdir(), shutil.copy(folder / "voc/JPEGImages/a.png", folder / "outside/a.png"),
    listed("../outside/a.png\n")(folder)), reads=(EVALUATE,))  # fmt: skip
for _name in ("..", "../../" + CANARY, "a/../../" + CANARY, "/" + CANARY):
    for _list in ("train", "val", "trainval"):
        OUTPUTS.add(f"{_list}.txt, to be prepared, has {_name!r}", lambda folder, name=_name, file=_list: (
            listed("a\n", "train")(folder), listed("b\n", "val")(folder), listed(f"{name}\n", file)(folder)), PREPARE)  # fmt: skip

# links that lie where results go
LINKS = (
    "before/a.png",
    "report.html",
    "results.json",
    "settings.json",
    ".evaluation.lock",
    "report.json",
)


def _linked(name: str, make: Make = lambda folder: None) -> Make:
    def both(folder: Path) -> None:
        make(folder)
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).symlink_to(folder / "secret.txt")

    return both


def _features(name: str) -> Make:
    values = np.full(243, 1 / 3, "<f4").tobytes()

    def make(folder: Path) -> None:
        (folder / "features" / f"{name}.bin").write_bytes(struct.pack("<iii", 9, 9, 3) + values)
        if name != "a":
            shutil.copy(folder / "images/a.ppm", folder / "images" / f"{name}.ppm")
        (folder / "labels").mkdir()
        shutil.copy(folder / "voc/SegmentationClass/a.png", folder / "labels" / f"{name}.png")

    return make


for _name in LINKS:
    OUTPUTS.add(f"OUT/{_name} is a link to a text", _linked(_name), EVALUATE, reads=(EVALUATE,))
for _name in ("a.bin", "a.png", "crf.json", ".crf.lock"):
    OUTPUTS.add(
        f"the CRF's OUT/{_name} is a link to a text",
        _linked(_name, _features("a")),
        CRF,
        reads=(CRF,),
    )
for _name in ("best.json", "grid.json", "report.html"):
    OUTPUTS.add(
        f"the grid's OUT/{_name} is a link to a text",
        _linked(_name, _features("a")),
        GRID,
        reads=(GRID,),
    )
for _name in ("a_1.gif", "report.html"):
    OUTPUTS.add(
        f"unravel's OUT/{_name} is a link to a text", _linked(_name), UNRAVEL, reads=(UNRAVEL,)
    )
for _name in ("..", ".", " ", "a\nb"):
    OUTPUTS.add(f"features named {_name!r}", _features(_name), CRF, GRID, reads=(CRF, GRID))
OUTPUTS.add("the new database is a link to a folder", lambda folder: (
    (folder / "elsewhere").mkdir(), (folder / "out").symlink_to("elsewhere"),
    (folder / "list.txt").write_text("JPEGImages/a.png 0\n")), IMAGESET)  # fmt: skip
for _name in ("../secret.txt", "/etc/passwd", "../../../../etc/passwd", "JPEGImages/a.png\0"):
    OUTPUTS.add(f"a list to be converted has {_name!r}", lambda folder, name=_name: (
        (folder / "list.txt").write_text(f"{name} 0\n")), IMAGESET, reads=(IMAGESET,))  # fmt: skip


# layers that write
def _writing(layer: str, names: str = "") -> Make:
    def make(folder: Path) -> None:
        (folder / "names.txt").write_text(names)
        (folder / "net.prototxt").write_text(TRAIN.format(type="DummyData", options=DUMMY) + layer)

    return make


def _mat(prefix: str = "out/") -> str:
    options = f'mat_write_param {{ prefix: "{prefix}" source: "names.txt" }}'
    return f'layer {{ name: "w" type: "MatWrite" bottom: "fc" {options} }}'


for _name in (
    "..",
    "../x",
    "../../x",
    "a/../../x",
    "/x",
    "./../x",
    f"{'../' * 40}x",
    "a\0b",
    "x" * 300,
):
    OUTPUTS.add(f"MatWrite's list has {_name[:20]!r}", _writing(_mat(), f"{_name}\n" * 3), TEST, SOLVE,
                reads=(TEST, SOLVE) if _name == "/x" else ())  # fmt: skip
OUTPUTS.add(
    "MatWrite's list has /x and there is no prefix", _writing(_mat(""), "/x\n"), TEST, SOLVE
)
OUTPUTS.add("MatWrite's file is a link to a text", _linked("x_blob_0.mat", _writing(_mat(), "x\nx\n")), TEST, SOLVE,
            reads=(TEST, SOLVE))  # fmt: skip
_HDF5 = 'layer { name: "w" type: "HDF5Output" bottom: "fc" bottom: "label" hdf5_output_param { file_name: "%s" } }'
OUTPUTS.add("HDF5Output's file is a link to a text", _linked("x.h5", _writing(_HDF5 % "out/x.h5")), TEST, SOLVE,
            reads=(TEST, SOLVE))  # fmt: skip
for _what, _layer in (("MatWrite", _mat(f"{CANARY}_")), ("HDF5Output", _HDF5 % CANARY)):
    OUTPUTS.add(
        f"{_what} in a net that is only inspected", _writing(_layer, "x\n"), *READERS, reads=READERS
    )


def _snapshots(prefix: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "net.prototxt").write_text(train_net("DummyData", DUMMY))
        text = (folder / "hostile_solver.prototxt").read_text()
        text = text.replace('"snap"', f'"{prefix}"').replace("false", "true")
        (folder / "hostile_solver.prototxt").write_text(text)

    return make


OUTPUTS.add("a snapshot's file is a link to a text",
            _linked("s_iter_2.caffemodel", _snapshots("out/s")), SOLVE, reads=(SOLVE,))  # fmt: skip
OUTPUTS.attacks = [replace(attack, within="out") for attack in OUTPUTS.attacks]
