"""The same hostile files at the commands that read them less often."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tests.attacks import databases, images, prototxts, weights
from tests.attacks.attack import Attack, Family, Make
from tests.attacks.entries import Entry, caffe_port, program, python
from tests.attacks.names import TEXT_OF, recorded
from tests.attacks.running import CANARY
from tests.attacks.weights import raw

_IMAGE = "voc/JPEGImages/a.png"
DRAW = program("draw_net", "net.prototxt out.png")
UPGRADE = program("upgrade_net_proto_text", "net.prototxt out.prototxt")
NETS = (
    caffe_port("verify net.prototxt good.caffemodel recording.h5 -o out"),
    caffe_port(f"unravel net.prototxt good.caffemodel {_IMAGE} -o out --labels 1"),
    caffe_port("evaluate net.prototxt good.caffemodel --images voc --crop 9 -o out"),
    DRAW,
    program("caffe", "test --model=net.prototxt --weights=good.caffemodel --iterations=1"),
    program("extract_features", "good.caffemodel net.prototxt conv features_db 1 lmdb"),
    python("cp.load('net.prototxt', allow_python_layers=False).optimized()"),
    UPGRADE,
)  # fmt: skip
MODELS = (
    caffe_port("verify good.prototxt net.caffemodel recording.h5 -o out"),
    caffe_port(f"unravel good.prototxt net.caffemodel {_IMAGE} -o out --labels 1"),
    caffe_port("reproduce largefov-step --data voc --weights largefov-step=net.caffemodel -o out"),
    program("caffe", "test --model=train.prototxt --weights=net.caffemodel --iterations=1"),
    program("extract_features", "net.caffemodel train.prototxt fc features_db 1 lmdb"),
    program("upgrade_net_proto_binary", "net.caffemodel out.caffemodel"),
)  # fmt: skip


def _equipped(make: Make) -> Make:
    """Also a recording for ``verify`` and lists for ``reproduce``."""

    def both(folder: Path) -> None:
        recorded(make)(folder)
        lists = folder / "voc/ImageSets/Segmentation"
        shutil.copy(lists / "val.txt", lists / "train.txt")
        shutil.copy(lists / "val.txt", lists / "train_aug.txt")

    return both


KEPT = ("out/largefov-step",)  # the folder of a run, which has its settings first


def _with(attacks: Iterable[Attack], names: tuple[str, ...], entries: tuple[Entry, ...],
          family: str, reads: tuple[Entry, ...] = ()) -> list[Attack]:  # fmt: skip
    chosen = [attack for attack in attacks if attack.name in names]
    assert len(chosen) == len(names), set(names) - {attack.name for attack in chosen}
    allowed = tuple(entry.name for entry in reads)
    return [
        replace(
            a, family=family, entries=entries, reads=allowed, make=_equipped(a.make), keeps=KEPT
        )
        for a in chosen
    ]


NET = Family("prototxt, other commands")
NET.attacks = _with(
    prototxts.PROTOTXT.attacks,
    ("blocks nested a million deep", "a whole number of a million digits", "invalid UTF-8 in a name",
     "a million layers", "40 MB", "four million unknown fields", "both generations at once", "zero bytes",
     "the file is a pipe", "the file is an endless device"),
    NETS, NET.name,
)  # fmt: skip
NET.attacks += _with(
    prototxts.PROTOTXT.attacks,
    ("a cycle", "an input of 10^9 x 10^9 pixels", "a convolution of 4 billion outputs", "a deconvolution by 4 billion",
     "10,000 layers of unknown fields, then a bad one", "a Python layer next to the net", "a Python layer of os.system"),
    NETS, NET.name, reads=(DRAW, UPGRADE),
)  # fmt: skip
MODEL = Family("caffemodel, other commands")
MODEL.attacks = _with(
    weights.CAFFEMODEL.attacks,
    ("empty", "a layer that claims 2^63 bytes", "groups nested a million deep", "20 million empty layers",
     "only the first half of a good file", "a pickle", "random bytes, 1 MB", "a pipe", "an endless device",
     "a sparse file of 100 GB"),
    MODELS, MODEL.name,
)  # fmt: skip
MODEL.attacks += _with(
    weights.CAFFEMODEL.attacks,
    ("values of 2^40 bytes", "a shape of 2^63 - 1", "a shape whose product wraps around to 9", "a shape of -1"),
    MODELS, MODEL.name, reads=MODELS[-1:],
)  # fmt: skip

SOLVERS = Family("solver prototxt, other commands")
SOLVERS.attacks = _with(
    prototxts.SOLVERS.attacks, ("an unknown field", "eight million step values", "nested a million deep"),
    (program("upgrade_solver_proto_text", "net.prototxt out.prototxt"),), SOLVERS.name,
)  # fmt: skip

_SHOW = (
    caffe_port(f"unravel good.prototxt good.caffemodel {_IMAGE} -o out --labels 1"),
    program("convert_imageset", "voc/ list.txt out_db"),
)
IMAGES = Family("image, other commands")
IMAGES.attacks = _with(
    images.IMAGES.attacks,
    ("a PNG of 60,000 x 60,000 pixels", "a PNG of 2^31 x 2^31 pixels", "a PNG of 89 million pixels in 300 kB",
     "a PNG with a text that inflates to 100 MB", "a JPEG of 65,500 x 65,500 pixels", "a PPM of 10^9 x 10^9 pixels",
     "a TIFF that refers to itself", "EPS, which would start Ghostscript", "a text", "a sparse file of 100 GB"),
    _SHOW, IMAGES.name, reads=_SHOW[1:],
)  # fmt: skip
_SCORES = (
    caffe_port("score voc/SegmentationClass --images voc --classes 3"),
    caffe_port("crf_grid -id images -fd features -gt voc/SegmentationClass -o out -i 1 -j 1"),
    caffe_port("prepare_voc voc --check-only --strict"),
)


def _truth(make: Make) -> Make:
    """Also features of that image, lists of VOC and a folder of predictions."""

    def both(folder: Path) -> None:
        make(folder)
        images.features("a.bin", images.bin_file(9, 9, 3, bytes(972)))(folder)

    return both


LABELS = Family("label map, other commands")
LABELS.attacks = [
    replace(attack, family=LABELS.name, entries=_SCORES, make=_truth(attack.make), keeps=(),
            reads=tuple(e.name for e in _SCORES if attack.name.startswith("with labels")))
    for attack in images.LABELS.attacks
]  # fmt: skip

_SCORE = caffe_port("score features --images voc --classes 3")
SCORES = Family("scores, to be scored")
SCORES.attacks = [
    replace(attack, family=SCORES.name, entries=(_SCORE, _SCORES[1]), reads=tuple(
            e.name for e in (_SCORE, _SCORES[1]) if "probabilities" in attack.name or "scores" in attack.name))
    for attack in images.CRF.attacks if ".bin" in attack.name or ".mat" in attack.name
]  # fmt: skip
_MEAN = program("compute_image_mean", "db mean.binaryproto")
DATABASE = Family("LMDB, its mean")
DATABASE.attacks = [
    replace(attack, family=DATABASE.name, entries=(_MEAN,), reads=())
    for attack in databases.DATABASE.attacks
]

EXPORT = Family("names in an exported module")
_EXPORT = python(
    "import importlib, sys; from caffe_port.export import emit_module\n"
    "emit_module(cp.load('net.prototxt'), 'out/made.py')\n"
    "sys.path.insert(0, 'out'); importlib.import_module('made')"
)
_RUN = f"__import__('pathlib').Path('{CANARY}').touch()"
for _name in (f'"); {_RUN} #', f"'); {_RUN} #", f'"""\n{_RUN}\n"""', f"\n{_RUN}\n", f"\r{_RUN}\r", f"{{{_RUN}}}", f"x={_RUN}",
              f"\\\n{_RUN}", f"\u2028{_RUN}", "class", "__init__", "self", "0", "", "a" * 10**5):  # fmt: skip
    for _what in ("layer", "blob", "net", "shared parameter"):
        EXPORT.add(
            f"{_what} {_name[:12]!r}",
            raw(TEXT_OF[_what](_name).encode(), "net.prototxt"),
            _EXPORT,
            reads=(_EXPORT,),
        )
